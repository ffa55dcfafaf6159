"""Damaged checkpoints: an older one is restored, or one line says why not."""
import contextlib
import io
import json
import pathlib
import random
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from flax import struct
import jax
import numpy as np
import orbax.checkpoint as ocp

from walt_jax.core import array_sums
from walt_jax.core import errors
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoint_params
from walt_jax.training import checkpoint_records
from walt_jax.training import checkpoints
from walt_jax.training import retention

P = jax.sharding.PartitionSpec


@struct.dataclass
class State:
  """A state whose values do not compress."""
  step: jax.Array
  params: dict[str, jax.Array]


def state_of(step: int, shape=(1, 1, 1)) -> State:
  mesh = mesh_lib.make_mesh(
      *shape, devices=jax.devices()[:int(np.prod(shape))])
  put = lambda value, spec: jax.device_put(
      value, jax.sharding.NamedSharding(mesh, spec))
  random_numbers = np.random.default_rng(step)
  return State(put(np.int32(step), P()), {
      'kernel': put(random_numbers.integers(
          -2**31, 2**31, size=(16, 64), dtype=np.int32), P('fsdp', 'tensor')),
      'bias': put(random_numbers.normal(size=64).astype(np.float32), P())})


def abstract(shape=(1, 1, 1)) -> State:
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state_of(0, shape))


def write(workdir, *steps, shape=(1, 1, 1), metrics=None, **keep) -> None:
  run = checkpoints.Checkpoints(workdir, {'seed': 0},
                                keep=retention.Keep(**{'newest': 3} | keep))
  run.write_config()
  for step in steps:
    run.save(step, state_of(step, shape), step, metrics and metrics.get(step))
  run.close()


def restore(workdir, shape=(1, 1, 1), **keep):
  return checkpoints.Checkpoints(
      workdir, {'seed': 0}, keep=retention.Keep(**keep)).restore(
          abstract(shape))


def is_equal(state, step) -> bool:
  return all(np.array_equal(a, b) for a, b in zip(
      jax.tree.leaves(state), jax.tree.leaves(state_of(step)), strict=True))


class DamageTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.written = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())) / 'run'
    write(cls.written, 1, 2, 3)

  def setUp(self):
    super().setUp()
    self.said = self.enterContext(
        contextlib.redirect_stderr(io.StringIO()))

  def copy(self) -> pathlib.Path:
    folder = self.enterContext(tempfile.TemporaryDirectory())
    return pathlib.Path(shutil.copytree(self.written, f'{folder}/run'))

  def a_value_of(self, checkpoint: pathlib.Path, step: int) -> None:
    """Changes one bit of the kernel of a checkpoint, as it lies there."""
    row = np.asarray(state_of(step).params['kernel'])[0, :2].tobytes()
    found = False
    for file in checkpoint.rglob('*'):
      # Some lie in a second file that nothing refers to any more.
      if file.is_file() and row in (data := file.read_bytes()):
        file.write_bytes(data.replace(row, bytes([row[0] ^ 1]) + row[1:]))
        found = True
    self.assertTrue(found, 'values are compressed')

  def test_whatever_happens_to_a_file_is_seen_or_harmless(self):
    numbers = random.Random(0)
    names = sorted(file.relative_to(self.written) for file in
                   (self.written / 'checkpoints' / '3').rglob('*')
                   if file.is_file())
    def flipped(data):
      changed = bytearray(data)
      changed[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
      return bytes(changed)
    changes = [flipped] * 4 + [
        lambda data: data[:len(data) // 2], lambda data: bytes(len(data)),
        lambda data: None]
    workdir = self.copy()
    used = {2: 0, 3: 0}
    for name in names:
      data = (workdir / name).read_bytes()
      for change in changes:
        changed = change(data)
        (workdir / name).unlink()
        if changed is not None:
          (workdir / name).write_bytes(changed)
        restored = restore(workdir)
        self.assertTrue(is_equal(restored.state, restored.step), name)
        self.assertEqual(restored.next_batch, restored.step)
        used[restored.step] += 1
        marker = workdir / 'checkpoints' / '3' / run_files.DAMAGED
        self.assertEqual(marker.exists(), restored.step == 2)
        marker.unlink(missing_ok=True)
        (workdir / name).write_bytes(data)
    # Of 18 files, 11 hold values, the way to them, or records of them.
    self.assertGreater(used[2], 30)
    self.assertGreater(used[3], 30)
    self.assertNotIn('Event loop', self.said.getvalue())

  def test_the_newest_sound_one_is_used_and_the_other_marked(self):
    workdir = self.copy()
    folder = workdir / 'checkpoints' / '3'
    self.a_value_of(folder, 3)
    restored = restore(workdir)
    self.assertTrue(is_equal(restored.state, 2))
    self.assertEqual(run_files.checkpoint_steps(workdir), [1, 2])
    self.assertEqual(run_files.damaged_steps(workdir), [3])
    (said,) = self.said.getvalue().splitlines()
    self.assertRegex(said, 'walt: checkpoint 3 of .* is damaged: values of '
                     'params/kernel are not those that were saved; .*'
                     'step 2 is used')
    why = json.loads((folder / run_files.DAMAGED).read_text())['why']
    self.assertIn('params/kernel', why)
    # It is not looked at again.
    self.assertEqual(restore(workdir).step, 2)
    self.assertLen(self.said.getvalue().splitlines(), 1)

  def test_a_marked_one_is_named_by_those_who_ask_for_it(self):
    workdir = self.copy()
    for step in (3, 2, 1):
      checkpoints.mark_damaged(workdir / 'checkpoints' / str(step), 'why')
      with self.assertRaisesRegex(
          errors.UserError, f'checkpoint {step} is damaged'):
        checkpoint_params.restore_params(workdir, step=step)
    with self.assertRaisesRegex(errors.UserError, '3 is damaged.*--restart'):
      checkpoint_params.restore_params(workdir)

  def test_nothing_is_written_to_what_another_run_has_taken(self):
    workdir = self.copy()

    def check_owner(*, now):
      raise errors.UserError(f'taken over {now}')

    run = checkpoints.Checkpoints(
        workdir, {'seed': 0}, check_owner=check_owner)
    with self.assertRaisesRegex(errors.UserError, 'taken over True'):
      run.save(4, state_of(4), 4)
    self.assertEqual(run_files.checkpoint_steps(workdir), [1, 2, 3])

  def test_a_damaged_one_counts_not_and_goes_when_its_step_is_saved(self):
    workdir = self.copy()
    self.a_value_of(workdir / 'checkpoints' / '3', 3)
    run = checkpoints.Checkpoints(
        workdir, {'seed': 0}, keep=retention.Keep(newest=2))
    self.assertEqual(run.restore(abstract()).step, 2)
    steps = []
    for step in (21, 3, 4):
      run.save(step, state_of(step), step)
      run.wait()
      steps.append(run_files.checkpoint_steps(workdir))
      # Orbax and we see the same.
      self.assertCountEqual(
          run._manager.all_steps(read=True),
          steps[-1] + run_files.damaged_steps(workdir))
    run.close()
    self.assertEqual(steps, [[2, 21], [3, 21], [4, 21]])
    self.assertEqual(run_files.damaged_steps(workdir), [])

  def test_without_a_sound_one_it_is_one_line_and_nothing_is_marked(self):
    workdir = self.copy()
    for step in (1, 2, 3):
      self.a_value_of(workdir / 'checkpoints' / str(step), step)
    with self.assertRaisesRegex(
        errors.UserError, 'no checkpoint .*step 3: .*step 1: .*--restart'):
      restore(workdir)
    self.assertEqual(run_files.damaged_steps(workdir), [])

  def test_what_cannot_be_reached_is_no_damage(self):
    workdir = self.copy()
    for error in (PermissionError('no'), ValueError('UNAVAILABLE: no route')):
      with mock.patch.object(
          ocp.PyTreeCheckpointHandler, 'restore', side_effect=error):
        with self.assertRaisesRegex(errors.UserError, 'cannot be reached'):
          restore(workdir)
    self.assertEqual(run_files.checkpoint_steps(workdir), [1, 2, 3])

  def test_another_state_is_no_damage(self):
    want = abstract()
    want = want.replace(params=want.params | {
        'bias': jax.ShapeDtypeStruct((65,), np.float32,
                                     sharding=want.params['bias'].sharding)})
    run = checkpoints.Checkpoints(self.written, {'seed': 0})
    with self.assertRaisesRegex(errors.UserError, 'params/bias.*64.*65'):
      run.restore(want)

  @parameterized.parameters(
      (lambda folder: folder.rename(folder.with_name('4')), 'saved as step 3'),
      (lambda folder: (folder / 'data' / 'metadata').write_text(
          '{"next_batch": 4}'), 'data position is 4'),
      (lambda folder: shutil.rmtree(folder / 'checksums'), 'are missing'))
  def test_folder_position_and_record_must_agree(self, change, why):
    workdir = self.copy()
    change(workdir / 'checkpoints' / '3')
    self.assertEqual(restore(workdir).step, 2)
    self.assertIn(why, self.said.getvalue())

  def test_the_step_in_the_state_must_agree(self):
    workdir = self.copy()
    run = checkpoints.Checkpoints(workdir, {'seed': 0})
    run.save(5, state_of(4), 5)
    run.close()
    self.assertEqual(restore(workdir).step, 3)
    self.assertIn('its state is of step 4', self.said.getvalue())

  def test_one_of_an_older_version_has_no_record(self):
    workdir = self.copy()
    folder = workdir / 'checkpoints' / '3'
    shutil.rmtree(folder / 'checksums')
    about = json.loads((folder / '_CHECKPOINT_METADATA').read_text())
    del about['item_handlers']['checksums']
    (folder / '_CHECKPOINT_METADATA').write_text(json.dumps(about))
    self.assertEqual(restore(workdir).step, 3)
    self.assertEqual(checkpoint_params.restore_params(workdir)['bias'].shape,
                     (64,))

  def test_readers_refuse_a_damaged_one_in_one_line(self):
    workdir = self.copy()
    self.a_value_of(workdir / 'checkpoints' / '3', 3)
    with self.assertRaisesRegex(
        errors.UserError, r'checkpoint 3 .*params/kernel.*step \(1, 2\)'):
      checkpoint_params.restore_params(workdir)
    np.testing.assert_array_equal(
        checkpoint_params.restore_params(workdir, step=2)['kernel'],
        state_of(2).params['kernel'])

  @parameterized.parameters(((8, 1, 1),), ((1, 4, 2),), ((2, 2, 2),))
  def test_every_mesh_checks_what_another_has_written(self, shape):
    workdir = self.copy()
    self.assertTrue(is_equal(restore(workdir, shape).state, 3))
    write(workdir, 6, shape=shape)
    self.assertTrue(is_equal(restore(workdir).state, 6))
    self.a_value_of(workdir / 'checkpoints' / '6', 6)
    self.assertTrue(is_equal(restore(workdir, shape).state, 3))

  def test_ranks_that_are_damaged_are_written_again(self):
    workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'run'
    keep = dict(newest=1, best=1, metric='loss')
    write(workdir, 1, 2, metrics={1: {'loss': .1}, 2: {'loss': .2}}, **keep)
    file = workdir / 'checkpoints' / '1' / 'metrics' / 'metrics'
    for damage in ('{"loss": 9.1}', '{"lo'):
      file.write_text(damage)
      write(workdir, 3 + len(damage), **keep)
      self.assertEqual(json.loads(file.read_text()), {'loss': .1})

  def test_the_sums_find_what_everything_else_lets_pass(self):
    """The check fails where sums are not compared: it is they that see it."""
    workdir = self.copy()
    self.a_value_of(workdir / 'checkpoints' / '3', 3)
    with mock.patch.object(array_sums, 'of_parts', lambda parts: [
        0 for _ in parts]), mock.patch.object(
            checkpoint_records, 'judge', lambda findings, record: ''):
      restored = restore(workdir)
    self.assertEqual(restored.step, 3)
    self.assertFalse(is_equal(restored.state, 3))


class DraftTest(absltest.TestCase):

  def test_config_is_a_draft_until_a_checkpoint_is_whole(self):
    workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())) / 'run'
    run = checkpoints.Checkpoints(workdir, {'seed': 0}, version=3)
    file = workdir / run_files.CONFIG
    run.write_config()
    self.assertEqual(json.loads(file.read_text()),
                     {'seed': 0, 'version': 3, 'draft': True})
    run.save(1, state_of(1), 1)
    run.wait()
    self.assertEqual(json.loads(file.read_text()), {'seed': 0, 'version': 3})
    run.write_config()
    self.assertEqual(json.loads(file.read_text()), {'seed': 0, 'version': 3})
    run.close()


if __name__ == '__main__':
  absltest.main()
