"""`walt evaluate` of checkpoints: drawn, scored, resumed, followed."""
import contextlib
import json
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from tests.data import video_files
from tests.e2e import same_programs
from tests.e2e import tiny
from walt_jax.commands import evaluate as evaluate_command
from walt_jax.core import run_files
from walt_jax.data.prepare import prepare
from walt_jax.evaluation import checkpoint
from walt_jax.evaluation import drawer
from walt_jax.evaluation import real_draws
from walt_jax.media import samples as samples_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import image_features
from walt_jax.metrics import protocols
from walt_jax.pretrained import networks
from walt_jax.training import checkpoint_records

_COUNT = 20
_CHUNK = 8


def _network(*, batch_size=1, devices=None):
  """Stands for the image network: seconds less to compile."""

  def apply(params, clips):
    means = clips[:, 0].astype(jnp.float32).mean((1, 2)) / 255
    spread = clips[:, 0].astype(jnp.float32).std((1, 2)) / 255
    return dict(features=jnp.concatenate([means, spread], -1) * params,
                logits=means)

  return feature_network.FeatureNetwork(
      np.float32(1), networks.NetworkInfo('colours', 'test', 'c' * 64),
      'none', apply, dict(features=6, logits=3), kind='image', num_frames=1,
      batch_size=batch_size, devices=devices)


def _halve_weights(checkpoint: pathlib.Path) -> None:
  """Makes another checkpoint of one, as versions without sums wrote it."""
  state = checkpoint / 'state'
  with contextlib.closing(ocp.PyTreeCheckpointer()) as checkpointer:
    tree = checkpointer.restore(state)
    shutil.rmtree(state)
    checkpointer.save(state, jax.tree.map(lambda leaf: leaf / 2, tree))
  shutil.rmtree(checkpoint / checkpoint_records.ITEM)
  about = checkpoint / '_CHECKPOINT_METADATA'
  values = json.loads(about.read_text())
  del values['item_handlers'][checkpoint_records.ITEM]
  about.write_text(json.dumps(values))


class EvaluateTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.base = tiny.run('base')

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.real = self.folder / 'real.npy'
    np.save(self.real, np.random.default_rng(0).integers(
        0, 256, (30, 5, 16, 16, 3)).astype(np.uint8))
    for where, name, value in (
        (image_features, 'load_efficientnet', _network),
        (drawer, 'CHUNK', _CHUNK)):
      self.enterContext(mock.patch.object(where, name, value))

  def evaluate(self, *argv, name='score', workdir=None, code=0, devices=1):
    out = self.folder / f'{name}.json'
    result = tiny.walt(
        'evaluate', 'fid', '--workdir', workdir or self.base, '--real',
        self.real, '--frames', 1, '--num_samples', _COUNT, '--steps', 2,
        '--json', out, *argv, devices=devices)
    self.assertEqual(result.code, code, result.err)
    if code:
      return result.err
    return json.loads(out.read_text())

  def cache(self, name: str) -> list[str]:
    return ['--cache', str(self.folder / name)]

  def test_an_interrupted_job_goes_on_by_index(self):
    draw, drawn = drawer.Drawer.draw, []

    def counted(drawer, seed, indices):
      if len(drawn) == 1 and stop:
        raise KeyboardInterrupt
      drawn.append(indices)
      return draw(drawer, seed, indices)

    with mock.patch.object(drawer.Drawer, 'draw', counted):
      stop = True
      self.evaluate(*self.cache('a'), code=130)
      self.assertFalse((self.folder / 'score.json').exists())
      stop = False
      resumed = self.evaluate(*self.cache('a'))
      self.assertEqual(drawn, [range(0, 8), range(8, 16), range(16, 20)])
      drawn.clear()
      again = self.evaluate(*self.cache('a'))
      self.assertEmpty(drawn)
      self.assertEqual(again, resumed)
      # An unbroken job, in other batches and on other devices.
      unbroken = self.evaluate(
          *self.cache('b'), '--batch_size', 3, devices=4)
      self.assertLen(drawn, 3)
      # Another seed is another job.
      self.evaluate(*self.cache('a'), '--seed', 1, '--overwrite')
      self.assertLen(drawn, 6)
    self.assertEqual(resumed['num_generated'], _COUNT)
    # Samples may differ by a rounding of one value in 255.
    self.assertAlmostEqual(resumed['value'], unbroken['value'], delta=1e-4)
    self.assertEqual(resumed['metric'], 'fid')

  def test_samples_are_those_of_walt_sample(self):
    requests = self.folder / 'requests.jsonl'
    requests.write_text(''.join(
        json.dumps(dict(label=label)) + '\n'
        for label in ('two up', 'nine left', 'zero down')))
    saved = self.folder / 'samples.npz'
    scored = self.evaluate('--requests', requests, '--num_samples', 3,
                           '--save_samples', saved, *self.cache('a'))
    out = self.folder / 'samples'
    result = tiny.walt('sample', '--workdir', self.base, '--out', out,
                       '--requests', requests, '--steps', 2)
    self.assertEqual(result.code, 0, result.err)
    with np.load(saved) as file:
      clips = file['arr_0']
    expected = samples_lib.read_samples(out).clips()
    self.assertEqual(clips.shape, expected.shape)
    self.assertLessEqual(
        np.abs(clips.astype(int) - expected).max(), 1)
    again = self.folder / 'again.json'
    result = tiny.walt('evaluate', 'fid', '--generated', saved, '--real',
                       self.real, '--frames', 1, '--json', again)
    self.assertEqual(result.code, 0, result.err)
    self.assertAlmostEqual(json.loads(again.read_text())['value'],
                           scored['value'], delta=1e-9)

  def test_repeats_have_their_own_seeds(self):
    result = self.evaluate('--num_samples', 8, '--repeats', 3,
                           *self.cache('a'))
    self.assertEqual(result['samples']['seeds'], [0, 1, 2])
    self.assertLen(set(result['values']), 3)
    self.assertAlmostEqual(result['value'], np.mean(result['values']))
    self.assertAlmostEqual(result['std'], np.std(result['values']))
    refused = self.evaluate('--repeats', 3, '--seed', 2**64 - 2, '--overwrite',
                            code=2)
    self.assertRegex(
        refused, r'\nwalt: error: seed 3 of --repeats is \d+;.*\n\Z')

  def test_a_protocol_draws_real_clips_and_samples_show_their_labels(self):
    for number, label in enumerate(
        ('two up', 'nine left', 'zero down', 'nine left')):
      video_files.write_video(
          self.folder / 'in' / label / f'{number}.avi', 12 + number,
          value=60 * number)
    self.real = self.folder / 'set'
    prepare.prepare(self.folder / 'in', self.real, prepare.Settings(
        size=16, min_frames=5, heldout=0.0))
    protocol = protocols.Protocol(
        'small', 'fid', num_generated=6, repeats=2, real_split='train',
        draw=protocols.Draw(('train',), 4), frames=1, size=16)
    draw, shown = drawer.Drawer.draw, {}

    def noted(self, seed, indices):
      shown.setdefault(seed, []).extend(
          self.requests[i].label for i in indices)
      return draw(self, seed, indices)

    flags = ['--protocol', 'small', '--num_samples', 6, '--seed', 3]
    with (mock.patch.dict(protocols.PROTOCOLS, small=protocol),
          mock.patch.object(drawer.Drawer, 'draw', noted)):
      result = self.evaluate(*flags, *self.cache('a'))
      again = self.evaluate(*flags, *self.cache('a'))
      requests = self.folder / 'requests.jsonl'
      requests.write_text(json.dumps(dict(label='two up')))
      refused = self.evaluate(*flags, '--requests', requests, '--overwrite',
                              code=2)
    self.assertIn('--requests: protocol small has samples show', refused)
    reals = [real_draws.open_draws(
        str(self.real), protocol, seed=3, repeat=repeat, frames=1)
             for repeat in range(2)]
    self.assertEqual(shown, {3: list(reals[0].labels),
                             4: list(reals[1].labels)})
    self.assertNotEqual(*shown.values())
    self.assertEqual(result, again)  # Of features that were kept.
    self.assertLen(set(result['values']), 2)
    self.assertEqual((result['num_real'], result['real_split']), (6, 'train'))
    self.assertEqual(result['samples']['requests'][0]['label'], shown[3][0])
    self.assertEqual(result['real_content'], feature_sets.joint_content([
        feature_sets.collect(each, _network(), frames=1) for each in reals]))

  def test_checkpoints_are_followed(self):
    workdir = tiny.copy(self.base, self.folder / 'run')
    checkpoints = workdir / 'checkpoints'
    shutil.copytree(checkpoints / '3', checkpoints / '2')
    _halve_weights(checkpoints / '2')
    before = len(run_files.read_metrics(workdir).lines)
    compiled, at_score = [], []
    listen = lambda name, *args, **kwargs: compiled.append(name) if (
        name.endswith('backend_compile_duration')) else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    self.addCleanup(
        jax.monitoring.unregister_event_duration_listener, listen)
    write = evaluate_command._write_scalars

    def noted(*args):
      at_score.append(len(compiled))
      write(*args)

    with (mock.patch.object(evaluate_command, '_write_scalars', noted),
          # The command itself must not make equal programs.
          mock.patch.object(same_programs, 'shared', contextlib.nullcontext)):
      result = self.evaluate('--follow', '--num_samples', 8, workdir=workdir)
    # The second checkpoint is drawn by the programs of the first.
    self.assertGreater(at_score[0], 0)
    self.assertEqual(at_score[0], at_score[1])
    hashes = [json.loads(path.read_text())['samples']['stages'][0]['sha256']
              for path in (workdir / 'evaluation').glob('fid_*_step_*.json')]
    self.assertLen(set(hashes), 2)
    self.assertEqual([point['step'] for point in result['history']], [2, 3])
    lines = run_files.read_metrics(workdir).lines[before:]
    self.assertEqual([line['step'] for line in lines], [2, 3])
    self.assertEqual([line['eval/fid'] for line in lines],
                     [point['value'] for point in result['history']])
    # A rerun has nothing to do and says the same.
    with mock.patch.object(checkpoint, 'score') as score:
      again = self.evaluate('--follow', '--num_samples', 8, workdir=workdir)
    score.assert_not_called()
    self.assertEqual(again['history'], result['history'])
    self.assertLen(run_files.read_metrics(workdir).lines, before + 2)

  def test_what_cannot_be_scored(self):
    long = self.folder / 'long.npy'
    np.save(long, np.zeros((3, 6, 16, 16, 3), np.uint8))
    for argv, pattern in (
        (['--frames', 6], 'fewer than the 6'),
        (['--frames', 6, '--real', long], 'draws 5'),
        (['--step', 99], 'step 99'),
        (['--real', self.folder / 'none'], 'no folder'),
        (['--given_frames', 1], 'nothing of its own'),
        (['--given_frames', 1, '--frames', 2], 'continues from'),
        (['--follow', '--step', 3], 'leave'),
        (['--protocol', 'imagenet-adm'], '--network'),
        (['--also', 'kvd,nonsense'], 'nonsense'),
        (['--also', 'sfid'], 'spatial'),
        (['--guidance', 'text=x'], 'not a number')):
      # A warning may stand before: no Inception weights were given.
      error = self.evaluate(*argv, *self.cache('a'), code=2).splitlines()
      self.assertRegex(error[-1], f'^walt: error: .*{pattern}')
      self.assertTrue(all(line.startswith('walt: warning: ')
                          for line in error[:-1]), error)
    large = self.folder / 'large.npy'
    np.save(large, np.zeros((3, 5, 32, 32, 3), np.uint8))
    result = self.evaluate('--real', large, *self.cache('a'))
    difference, = result['differences']
    self.assertEqual((difference['real'], difference['generated']),
                     ([32, 32], [16, 16]))


if __name__ == '__main__':
  absltest.main()
