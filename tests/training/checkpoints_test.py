"""Which configs may resume which runs."""
import json
import math
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoint_params
from walt_jax.training import checkpoints
from walt_jax.training import resuming
from walt_jax.training import retention
from walt_jax.training import workdir as workdir_lib

SAVED = {
    'seed': 0, 'train': {'num_steps': 10, 'save_every': 5},
    'mesh': {'data': -1, 'fsdp': 1},
    'data': {'path': '/a', 'num_workers': 0, 'size': 32},
    'tokenizer': {'workdir': 'runs/a', 'sha256': 'ab'},
    'model': {'window': [1, 4, 4]},
}


def changed(key, value):
  config = json.loads(json.dumps(SAVED))
  *parents, leaf = key.split('.')
  node = config
  for parent in parents:
    node = node.setdefault(parent, {})
  node[leaf] = value
  return config


class CheckResumeTest(parameterized.TestCase):

  @parameterized.parameters(
      ('train.num_steps', 20), ('train.tensorboard', False), ('mesh.fsdp', 8),
      ('data.path', '/b'), ('data.num_workers', 4),
      ('tokenizer.workdir', 'elsewhere'), ('sampler.guidance', {'text': 2.0}),
      ('sampler.num_steps', 5), ('model.window', (1, 4, 4)),
      ('model.scan_unroll', 0), ('model.passes_form', 'plain'))
  def test_free_keys(self, key, value):
    resuming.check_resume(SAVED, changed(key, value))

  @parameterized.parameters(
      ('seed', 1), ('data.size', 64), ('tokenizer.sha256', 'cd'),
      ('model.window', (1, 4, 8)), ('model.depth', 2), ('optimizer', {}),
      ('data.flip', None))
  def test_other_keys_are_named_with_both_values(self, key, value):
    with self.assertRaises(errors.UserError) as caught:
      resuming.check_resume(SAVED, changed(key, value))
    message = str(caught.exception)
    self.assertIn(f'config key {key} is {json.dumps(value)}', message)
    self.assertIn('--workdir', message)
    self.assertNotIn('\n', message)

  def test_a_key_that_vanished_is_named(self):
    with self.assertRaisesRegex(errors.UserError, 'seed is absent'):
      resuming.check_resume(
          SAVED, {key: SAVED[key] for key in SAVED if key != 'seed'})

  def test_damaged_config_is_one_line(self):
    workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    (workdir / 'config.json').write_text('{"a": ')
    with self.assertRaisesRegex(errors.UserError, 'is not JSON'):
      checkpoints.Checkpoints(workdir, {})

  def test_missing_workdir_is_one_line(self):
    path = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'nothing'
    with self.assertRaisesRegex(errors.UserError, 'no work directory'):
      workdir_lib.WorkDir(path).config()
    with self.assertRaisesRegex(errors.UserError, 'has no checkpoint'):
      checkpoint_params.restore_params(path)
    self.assertFalse(path.exists())

  @parameterized.parameters(
      (dict(), [7, 8]), (dict(newest=3), [6, 7, 8]),
      (dict(every=2), [2, 4, 6, 7, 8]), (dict(every=3), [3, 6, 7, 8]),
      # Steps 1, 2, 4 and 5 have metrics: .1, .2, .4 and .5.
      (dict(newest=1, best=2, metric='a'), [1, 2, 8]),
      (dict(newest=1, best=2, metric='a', mode='max'), [4, 5, 8]),
      (dict(newest=1, every=4, best=1, metric='b', mode='max'), [4, 5, 8]))
  def test_checkpoints_stay_after_a_restart_too(self, keep, stay):
    workdir = self.enterContext(tempfile.TemporaryDirectory())
    for first in (1, 5):
      run = checkpoints.Checkpoints(
          workdir, {}, keep=retention.Keep(**keep))
      for step in range(first, first + 4):
        # Infinite and absent values are worst.
        metrics = {1: {'a': .1, 'b': math.nan}, 2: {'a': .2},
                   4: {'a': .4, 'b': -math.inf}, 5: {'a': .5, 'b': 3.}}
        run.save(step, {'w': np.zeros(1)}, step, metrics.get(step))
      run.close()
    self.assertEqual(workdir_lib.WorkDir(workdir).steps(), stay)

  @parameterized.parameters((16, False), (checkpoints.SHARE_BYTES, True))
  def test_copies_of_large_arrays_alone_are_written_in_shares(
      self, share, is_cut):
    """To cut out a share is a program; small arrays take none."""
    mesh = mesh_lib.make_mesh(data=8, devices=jax.devices())
    state = {'w': jax.device_put(
        np.arange(8 * share // 4, dtype=np.float32),
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))}
    compiled = []
    listen = lambda name, _, **__: compiled.append(
        name.endswith('backend_compile_duration'))
    jax.monitoring.register_event_duration_secs_listener(listen)
    self.addCleanup(jax.monitoring.unregister_event_duration_listener, listen)
    run = checkpoints.Checkpoints(
        self.enterContext(tempfile.TemporaryDirectory()), {})
    run.save(1, state, 1)
    run.wait()
    self.assertEqual(any(compiled), is_cut)
    restored = run.restore(jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        state)).state
    np.testing.assert_array_equal(restored['w'], state['w'])
    run.close()


if __name__ == '__main__':
  absltest.main()
