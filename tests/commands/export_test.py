"""`walt export`: the right weights, all that belongs to them, or nothing."""
import json
import pathlib
import tempfile

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import optax

from walt_jax.builders import config as config_lib
from walt_jax.commands import cli
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import state as train_state

QUICKSTART = pathlib.Path(__file__).parents[2] / 'configs' / 'quickstart.py'
PARAMS = {'head': {'kernel': jnp.arange(6.0).reshape(2, 3)}}
TOKENIZER = {'encoder': {'bias': np.zeros(2, np.float32)},
             'statistics': {'mean': np.ones(2, np.float32)}}


def config_of(variant):
  """What the `config.json` of a run of the quickstart says."""
  return config_lib.to_dict(config_lib.load(f'{QUICKSTART}:{variant}'))


class ExportTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.workdir, self.out = self.root / 'run', self.root / 'out'

  def write_run(self, steps=(3, 7), ema=(0.9, 0.99)):
    """A run whose parameters at each step are those of step 0 plus it."""
    checkpoints = checkpoints_lib.Checkpoints(
        self.workdir, config_of('smoke') | dict(
            ema=list(ema), derived=dict(classes=['a'])))
    checkpoints.write_config()
    for step in steps:
      state = train_state.create(PARAMS, optax.sgd(0.1), ema)
      state = state.replace(
          step=state.step + step, params=jax.tree.map(
              lambda x, step=step: x + step, state.params),
          ema={decay: jax.tree.map(
              lambda x, add=step + float(decay): x + add, tree)
               for decay, tree in state.ema.items()})
      checkpoints.save(step, state, next_batch=step)
    checkpoints.wait()
    checkpoints.close()

  def export(self, *options: str) -> int:
    return cli.main(['export', '--workdir', str(self.workdir), '--out',
                     str(self.out), *options])

  def assert_nothing_written(self):
    self.assertEqual(list(self.root.glob('out*')), [])

  def test_the_longest_average_of_the_newest_checkpoint(self):
    self.write_run()
    digest = exports.save_export(
        self.workdir / 'tokenizer', TOKENIZER, dict(model={}))
    self.assertEqual(self.export(), 0)
    params, config = exports.load_export(self.out)
    np.testing.assert_allclose(
        params['head']['kernel'], PARAMS['head']['kernel'] + 7.99, atol=1e-5)
    self.assertEqual(config['stage'], 'denoiser')
    self.assertEqual(config['derived'], dict(
        classes=['a'], step=7, weights='ema/0.99'))
    self.assertEqual(digest, files.file_sha256(
        self.out / 'tokenizer' / exports.MODEL_FILE))
    self.assertCountEqual(
        [path.name for path in self.root.iterdir()], ['run', 'out'])

  def test_step_and_no_average(self):
    self.write_run(ema=())
    exports.save_export(self.workdir / 'tokenizer', TOKENIZER, {})
    self.out.mkdir()
    self.assertEqual(self.export('--step', '3'), 0)
    params, config = exports.load_export(self.out)
    np.testing.assert_array_equal(
        params['head']['kernel'], PARAMS['head']['kernel'] + 3)
    self.assertEqual(config['derived']['weights'], 'params')

  def test_tokenizer(self):
    self.workdir.mkdir()
    (self.workdir / 'config.json').write_text(
        json.dumps(config_of('tokenizer')))
    self.assertEqual(self.export(), 2)  # Not trained to its end.
    self.assert_nothing_written()
    exports.save_export(self.workdir / 'export', TOKENIZER, dict(model={}))
    self.assertEqual(self.export('--step', '3'), 2)
    self.assertEqual(self.export(), 0)
    params, config = exports.load_export(self.out)
    np.testing.assert_array_equal(params['statistics']['mean'], np.ones(2))
    self.assertEqual(config, dict(model={}))

  def test_refusals_write_nothing(self):
    self.assertEqual(self.export(), 2)  # No work directory.
    self.write_run(steps=(3,))
    self.assertEqual(self.export(), 2)  # No tokenizer.
    exports.save_export(self.workdir / 'tokenizer', TOKENIZER, {})
    self.assertEqual(self.export('--step', '4'), 2)
    self.assert_nothing_written()
    before = (self.workdir / 'config.json').read_text()
    self.out = self.workdir
    self.assertEqual(self.export(), 2)
    self.assertEqual((self.workdir / 'config.json').read_text(), before)


if __name__ == '__main__':
  absltest.main()
