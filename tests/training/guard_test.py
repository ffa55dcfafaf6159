"""Steps that are not finite: skipped, kept for replay, and counted."""
import functools
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tests.e2e import same_programs
from tests.training import toy_stage
from walt_jax.core import errors
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import logging as logging_lib
from walt_jax.training import loop
from walt_jax.training import replay
from walt_jax.training import replay_bundles
from walt_jax.training import workdir as workdir_lib

NUM_STEPS = 10


def batches_with(bad):
  """The toy's batches, with an infinite value in those numbered in `bad`."""
  def batches(start):
    for index, batch in enumerate(toy_stage.batches(start), start):
      if index in bad:
        batch['x'][3, 2] = np.inf
      yield batch
  return batches


def make_mesh(shape=(1, 1, 1)):
  return mesh_lib.make_mesh(
      *shape, devices=jax.devices()[:int(np.prod(shape))])


def train(workdir, bad, *, num_steps=NUM_STEPS, shape=(1, 1, 1), **options):
  options = dict(log_every=2, save_every=4) | options
  with same_programs.shared():
    return loop.run(
        toy_stage.make_stage(), batches_with(bad), make_mesh(shape),
        loop.LoopOptions(num_steps=num_steps, **options),
        checkpoints_lib.Checkpoints(workdir, {'width': 8}),
        logging_lib.Writer(workdir, writers=()))


@functools.cache
def reference(bad):
  """Training by hand, one step at a time."""
  stage = toy_stage.make_stage()
  init_key, train_key, _ = jax.random.split(jax.random.key(0), 3)
  state = stage.init(init_key)
  batches = batches_with(bad)(0)

  @jax.jit
  def step(state, batch):
    key = jax.random.fold_in(train_key, state.step)
    latents = stage.encode(stage.frozen, batch, jax.random.fold_in(key, 1))
    return stage.train_step(state, latents, jax.random.fold_in(key, 0))

  for number in range(NUM_STEPS):
    after, _ = step(state, next(batches))
    state = state.replace(step=state.step + 1) if number in bad else after
  return jax.device_get(state)


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5,
                                                       atol=1e-6),
               jax.device_get(a), jax.device_get(b))


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(a),
               jax.device_get(b))


class GuardTest(parameterized.TestCase):

  def new_dir(self):
    return pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.product(bad=((5,), (3, 4), (0, 2, 7, 9)),
                         log_every=(1, 3))
  def test_failed_steps_change_nothing_but_the_count(self, bad, log_every):
    workdir = self.new_dir()
    state = train(workdir, bad, log_every=log_every)
    assert_close(state, reference(bad))
    lines = run_files.read_metrics(workdir).lines
    wanted = [s for s in range(1, 11) if s % log_every == 0 or s == 10]
    self.assertEqual([line['step'] for line in lines], wanted)
    self.assertEqual(lines[-1]['train/skipped_steps'], len(bad))
    for line in lines:
      failed = line['step'] - 1 in bad
      self.assertEqual('train/loss' in line, not failed, line)

  def test_a_run_that_fails_and_resumes_equals_an_unbroken_one(self):
    bad, workdir = (3, 5, 8), self.new_dir()
    unbroken = train(self.new_dir(), bad)
    train(workdir, bad, num_steps=4)
    assert_equal(train(workdir, bad), unbroken)

  @parameterized.parameters(((1, 1, 1),), ((2, 2, 2),))
  def test_the_bundle_fails_again_on_any_mesh(self, shape):
    workdir = self.new_dir()
    train(workdir, (5, 6), shape=(2, 1, 1))
    path = replay_bundles.path_of(workdir, 5)
    self.assertEqual(list((workdir / 'replay').iterdir()), [path])
    failure = replay_bundles.read_failure(path)
    self.assertEqual((failure.step, failure.batch), (5, 5))
    self.assertIn('loss', failure.culprits)
    outcome = replay.replay(path, toy_stage.make_stage(), batches_with(()),
                            make_mesh(shape))
    self.assertTrue(outcome.failed)
    self.assertTrue(outcome.equal)
    self.assertEqual(outcome.bad_inputs, ['x'])

  def test_the_bundle_holds_the_state_before_the_step(self):
    workdir = self.new_dir()
    train(workdir, (5,))
    before = train(self.new_dir(), (), num_steps=5)
    example = next(toy_stage.batches(5))
    state, batch = replay_bundles.restore(
        replay_bundles.path_of(workdir, 5), jax.eval_shape(lambda: before),
        example, make_mesh())
    assert_equal(state, before)
    self.assertEqual(int(state.step), 5)
    example['x'][3, 2] = np.inf
    assert_equal(batch, example)

  def test_too_many_in_a_row_stop_the_run(self):
    workdir = self.new_dir()
    with self.assertRaisesRegex(
        errors.UserError, r'stopped: step 7 is not finite \(.*loss inf.*'
        f'--replay {replay_bundles.path_of(workdir, 4)}'):
      train(workdir, (1, 2, 4, 5, 6, 7, 8), max_failures=3)
    self.assertEqual(workdir_lib.WorkDir(workdir).newest_step(), 4)
    # One a row of failures.
    self.assertEqual(replay_bundles.kept(workdir), {1, 4})

  def test_few_bundles_are_kept(self):
    workdir = self.new_dir()
    train(workdir, (0, 2, 4, 6, 8))
    self.assertEqual(replay_bundles.kept(workdir), {0, 2, 4})

  def test_what_is_no_bundle_is_named(self):
    workdir = self.new_dir()
    with self.assertRaisesRegex(errors.UserError, 'is no replay bundle'):
      replay_bundles.read_failure(workdir)
    train(workdir, (5,))
    with self.assertRaisesRegex(errors.UserError, "holds a batch of .'x'"):
      replay_bundles.restore(
          replay_bundles.path_of(workdir, 5),
          jax.eval_shape(toy_stage.make_stage().init, jax.random.key(0)),
          {'z': np.zeros(3)}, make_mesh())


if __name__ == '__main__':
  absltest.main()
