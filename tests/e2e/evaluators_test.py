"""`train.evaluators`: metrics of a model in training."""
import json
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from tests.e2e import tiny
from walt_jax.data.sources import moving_digits
from walt_jax.metrics import feature_network
from walt_jax.metrics import video_features
from walt_jax.pretrained import networks
from walt_jax.training import workdir as workdir_lib

METRIC = '''
import numpy as np


class Brightness:
  """Mean of all generated pixels."""
  takes = ('generated',)

  def evaluate(self, inputs):
    return dict(value=float(np.mean([c.mean() for c in inputs.generated()])))
'''
OWN = 'own_evaluator:Brightness'


def _network(devices):
  """Mean colour of each frame, in place of I3D's features."""
  def apply(params, clips):
    return dict(features=clips.astype(jnp.float32).mean((2, 3)).reshape(
        len(clips), -1) * params / 255)

  return feature_network.FeatureNetwork(
      np.float32(1), networks.NetworkInfo('colours', 'test', 'c' * 64), 'none',
      apply, dict(features=15), min_frames=5, devices=devices)


def lines(workdir, name):
  """(step, value) of a metric in `metrics.jsonl`."""
  found = map(json.loads, tiny.metrics_text(workdir).splitlines())
  return [(line['step'], line[name]) for line in found if name in line]


class EvaluatorsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    (self.folder / 'own_evaluator.py').write_text(METRIC)
    sys.path.insert(0, str(self.folder))
    self.addCleanup(sys.path.remove, str(self.folder))
    self.addCleanup(sys.modules.pop, 'own_evaluator', None)
    self.enterContext(mock.patch.object(
        video_features, 'load_network',
        lambda path, devices, **form: _network(devices)))

  def walt_train(self, workdir, num_steps, evaluators, stage, **changed):
    return tiny.walt(*tiny.flags(
        stage, workdir, num_steps, train__evaluators=evaluators,
        **dict(train__eval_every=2, train__save_every=2) | changed))

  def train(self, name, num_steps, evaluators=('fvd', OWN), stage='base',
            **changed):
    workdir = self.folder / name
    result = self.walt_train(workdir, num_steps, evaluators, stage, **changed)
    self.assertEqual(result.code, 0, result.err)
    return workdir

  def test_a_resumed_run_logs_what_an_unbroken_one_does(self):
    unbroken = self.train('unbroken', 4)
    resumed = self.train('resumed', 2)
    self.train('resumed', 4)
    self.assertEqual(tiny.metrics_text(resumed), tiny.metrics_text(unbroken))
    for name in ('eval/fvd', f'eval/{OWN}'):
      found = lines(unbroken, name)
      self.assertEqual([step for step, _ in found], [0, 2, 4])
      self.assertLen({value for _, value in found}, 3)
    # Nothing that is evaluated or kept changes the training stream.
    without = self.train('without', 4, (), train__save_every=1,
                         train__keep_every=1)
    self.assertEqual(workdir_lib.WorkDir(without).steps(), [1, 2, 3, 4])
    tiny.assert_same_checkpoint(unbroken, without, 4)
    tiny.assert_same_checkpoint(unbroken, resumed, 4)

  def test_the_score_is_that_of_the_checkpoint(self):
    workdir = self.train('run', 2)
    # What the held-out clips of its data show.
    clips = moving_digits.MovingDigits(
        split='heldout', num_examples=8, size=16, num_frames=5)
    requests = self.folder / 'requests.jsonl'
    requests.write_text(''.join(json.dumps(dict(
        prompt=clips[i]['caption'], label=clips.classes[clips[i]['label']]
        )) + '\n' for i in range(8)))
    out = self.folder / 'result.json'
    result = tiny.walt('evaluate', OWN, '--workdir', workdir, '--allow_code',
                       '--requests', requests, '--num_samples', 8, '--json',
                       out)
    self.assertEqual(result.code, 0, result.err)
    (_, value), = lines(workdir, f'eval/{OWN}')[-1:]
    self.assertAlmostEqual(
        json.loads(out.read_text())['value'], value, delta=0.01)

  def test_a_tokenizer_is_scored_by_what_it_reconstructs(self):
    workdir = self.train('tokenizer', 2, ('reconstruction',), 'tokenizer')
    (first, before), (last, after) = lines(workdir, 'eval/reconstruction')
    self.assertEqual((first, last), (0, 2))
    self.assertGreater(after, 0)
    self.assertNotEqual(after, before)

  @parameterized.parameters(
      ('base', ('fvx',), "is 'fvx'; choose one of fvd"),
      ('base', ('own_evaluator:Absent',), 'no class Absent'),
      ('base', ('reconstruction',), "takes 'tokenizer'"),
      ('tokenizer', ('fvd',), "takes 'generated'"),
      ('sr', ('fvd',), 'no samples without a base'))
  def test_refusals_before_training(self, stage, evaluators, said):
    workdir = self.folder / 'refused'
    result = self.walt_train(workdir, 2, evaluators, stage)
    self.assertEqual(result.code, 2, result.err)
    self.assertRegex(result.err, rf'\Awalt: error: [^\n]*{said}[^\n]*\n\Z')
    self.assertFalse(workdir.exists())


if __name__ == '__main__':
  absltest.main()
