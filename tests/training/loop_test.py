"""The loop: resuming, lines of metrics, evaluation, signals, meshes."""
import dataclasses
import functools
import os
import pathlib
import shutil
import signal
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from tests.e2e import same_programs
from tests.training import toy_stage
from walt_jax.core import errors
from walt_jax.core import interrupts
from walt_jax.core import profile_request
from walt_jax.core import run_files
from walt_jax.core import run_history
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoint_params
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import logging as logging_lib
from walt_jax.training import loop
from walt_jax.training import meter
from walt_jax.training import preemption
from walt_jax.training import profiles
from walt_jax.training import retention
from walt_jax.training import save_clock
from walt_jax.training import stage as stage_lib
from walt_jax.training import workdir as workdir_lib


def evaluate(state, frozen, key):
  """Held-out metrics that use the state, and random numbers of their own."""
  del frozen
  size = np.abs(state.params['layer']['kernel']).sum()
  noise = jax.random.normal(key)
  image = np.full((4, 4, 3), int(state.step), np.uint8)
  return {'size': float(size), 'noise': float(noise)}, {'grid': image}


def train(workdir, num_steps, *, stage=None, batches=toy_stage.batches,
          shape=(1, 1, 1), work=None, keep=None, **options):
  mesh = mesh_lib.make_mesh(
      *shape, devices=jax.devices()[:int(np.prod(shape))])
  options = dict(log_every=2, save_every=3, eval_every=4) | options
  with same_programs.shared():
    return loop.run(
        stage or toy_stage.make_stage(evaluate=evaluate), batches, mesh,
        loop.LoopOptions(num_steps=num_steps, **options),
        checkpoints_lib.Checkpoints(
            workdir, {'train': {'num_steps': num_steps}, 'width': 8},
            keep=keep or retention.Keep()),
        logging_lib.Writer(workdir, writers=()), work=work or meter.Work())


def stopping_batches(at, action):
  """Batches that call `action` when batch number `at` is asked for."""
  def batches(start):
    for index, batch in enumerate(toy_stage.batches(start), start):
      if index == at:
        action()
      yield batch
  return batches


def assert_equal_trees(a, b):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(a),
               jax.device_get(b))


class KilledError(Exception):
  pass


class LoopTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.unbroken_dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.unbroken = train(cls.unbroken_dir, 10)
    cls.unbroken_lines = run_files.read_metrics(cls.unbroken_dir).learnt()

  def new_dir(self):
    return self.enterContext(tempfile.TemporaryDirectory())

  def test_lines_are_one_a_logged_step_and_evaluation(self):
    steps = lambda name: [
        line['step'] for line in self.unbroken_lines if name in line]
    self.assertEqual(steps('train/loss'), [2, 4, 6, 8, 10])
    self.assertEqual(steps('eval/size'), [0, 4, 8, 10])
    self.assertLen({line['eval/noise'] for line in self.unbroken_lines
                    if 'eval/noise' in line}, 1)
    files = sorted(os.listdir(os.path.join(self.unbroken_dir, 'eval')))
    self.assertEqual(files, [
        f'step_{step:08d}_grid.png' for step in (0, 4, 8, 10)])

  def test_training_lowers_the_loss_and_moves_the_average(self):
    self.assertEqual(int(self.unbroken.step), 10)
    self.assertFalse(np.array_equal(
        self.unbroken.ema['0.9']['layer']['kernel'],
        self.unbroken.params['layer']['kernel']))

  def test_kill_and_resume_equals_unbroken(self):
    workdir = self.new_dir()

    def die():
      raise KilledError

    # Step 8 is trained and its line written; the checkpoint is of step 6.
    with self.assertRaises(KilledError):
      train(workdir, 10, batches=stopping_batches(9, die))
    state = train(workdir, 10)
    assert_equal_trees(state, self.unbroken)
    self.assertEqual(
        run_files.read_metrics(workdir).learnt(), self.unbroken_lines)

  def test_stop_at_n_then_on_to_2n_equals_unbroken(self):
    workdir = self.new_dir()
    for num_steps in (0, 4, 10):
      state = train(workdir, num_steps)
    assert_equal_trees(state, self.unbroken)
    self.assertEqual(
        run_files.read_metrics(workdir).learnt(), self.unbroken_lines)

  def test_evaluation_does_not_change_training(self):
    state = train(self.new_dir(), 10, eval_every=0)
    assert_equal_trees(state, self.unbroken)

  @parameterized.parameters((signal.SIGTERM, 75), (signal.SIGINT, 130))
  def test_a_signal_saves_and_exits(self, number, code):
    workdir = self.new_dir()
    before = signal.getsignal(number)
    action = lambda: os.kill(os.getpid(), number)
    with self.assertRaises(SystemExit) as caught:
      train(workdir, 10, batches=stopping_batches(5, action))
    self.assertIsInstance(caught.exception, preemption.Preempted)
    self.assertEqual(caught.exception.code, code)
    self.assertEqual(workdir_lib.WorkDir(workdir).newest_step(), 5)
    self.assertIs(signal.getsignal(number), before)
    assert_equal_trees(train(workdir, 10), self.unbroken)

  @parameterized.parameters((signal.SIGTERM, 75), (signal.SIGINT, 130))
  def test_a_signal_ends_at_once_where_nothing_is_lost(self, number, code):
    workdir = self.new_dir()
    train(workdir, 4)
    # Before the first step of this start.
    action = lambda: os.kill(os.getpid(), number)
    with self.assertRaises(interrupts.Stopped) as caught:
      train(workdir, 10, batches=stopping_batches(4, action))
    self.assertEqual(caught.exception.code, code)
    self.assertEqual(run_history.read(workdir).attempts[-1].code, code)
    self.assertEqual(workdir_lib.WorkDir(workdir).newest_step(), 4)
    assert_equal_trees(train(workdir, 10), self.unbroken)

  def test_zero_steps_save_the_initial_state(self):
    workdir = self.new_dir()
    state = train(workdir, 0)
    self.assertEqual(workdir_lib.WorkDir(workdir).newest_step(), 0)
    assert_equal_trees(
        checkpoint_params.restore_params(workdir, ema=False), state.params)

  def test_params_restore_without_the_optimizer(self):
    assert_equal_trees(
        checkpoint_params.restore_params(self.unbroken_dir),
        self.unbroken.ema['0.9'])
    assert_equal_trees(
        checkpoint_params.restore_params(self.unbroken_dir, ema=False),
        self.unbroken.params)
    with self.assertRaisesRegex(errors.UserError, 'no checkpoint of step 7'):
      checkpoint_params.restore_params(self.unbroken_dir, step=7)

  @parameterized.parameters(((8, 1, 1),), ((1, 8, 1),), ((2, 2, 2),))
  def test_meshes_agree_and_restore_each_others_checkpoints(self, shape):
    workdir = self.new_dir()
    train(workdir, 5, shape=shape)
    state = train(workdir, 10)  # On one device.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
        jax.device_get(state), jax.device_get(self.unbroken))
    state = train(self.unbroken_copy(), 12, shape=shape)
    kernel = state.params['layer']['kernel']
    self.assertEqual(
        kernel.addressable_shards[0].data.shape,
        (toy_stage.WIDTH // shape[1], toy_stage.WIDTH // shape[2]))
    self.assertEqual(int(state.step), 12)

  def unbroken_copy(self):
    path = os.path.join(self.new_dir(), 'copy')
    return shutil.copytree(self.unbroken_dir, path)

  def test_another_config_is_refused_before_anything_is_written(self):
    before = sorted(os.listdir(self.unbroken_dir))
    with self.assertRaisesRegex(errors.UserError, 'width'):
      checkpoints_lib.Checkpoints(self.unbroken_dir, {'width': 9})
    self.assertEqual(sorted(os.listdir(self.unbroken_dir)), before)

  def test_frozen_parameters_can_reach_the_train_step(self):
    stage = toy_stage.make_stage()

    def train_step(state, batch, key, frozen):
      state, metrics = stage.train_step(state, batch, key)
      return state, metrics | {'scale': frozen['scale']}

    workdir = self.new_dir()
    train(workdir, 2, stage=dataclasses.replace(
        stage, train_step=train_step))
    self.assertEqual(
        run_files.read_metrics(workdir).lines[-1]['train/scale'], 2.0)

  def test_an_opening_takes_the_first_steps(self):
    stage = toy_stage.make_stage()

    def opening(state, batch, key, frozen):
      state, metrics = stage.train_step(state, batch, key)
      return state, metrics | {'opening': jnp.ones(())}

    stage = dataclasses.replace(stage, opening=stage_lib.Opening(3, opening))
    workdir = self.new_dir()
    train(workdir, 2, stage=stage, log_every=1)
    train(workdir, 5, stage=stage, log_every=1)  # Goes on in the opening.
    self.assertEqual(
        [line['step'] for line in run_files.read_metrics(workdir).lines
         if 'train/opening' in line], [1, 2, 3])
    self.assertLen([line for line in run_files.read_metrics(workdir).lines
                    if 'train/loss' in line], 5)

  def test_encode_may_be_absent(self):
    stage = dataclasses.replace(toy_stage.make_stage(), encode=None)
    state = train(self.new_dir(), 2, stage=stage)
    self.assertEqual(int(state.step), 2)

  def test_a_rerun_with_nothing_to_train_keeps_what_was_measured(self):
    workdir = self.new_dir()
    timing = pathlib.Path(workdir, 'timing.json')
    train(workdir, 2)
    measured = timing.read_text()
    train(workdir, 2)
    self.assertEqual(timing.read_text(), measured)

  def test_profile_is_written(self):
    workdir = self.new_dir()
    train(workdir, 4, profile=profile_request.Request(1, 3))
    traces = [name for _, _, names in os.walk(
        os.path.join(workdir, 'profile')) for name in names]
    self.assertNotEmpty(traces)

  def test_a_run_under_way_is_asked_for_a_profile(self):
    workdir = self.new_dir()
    request = pathlib.Path(workdir, 'profile_now')
    self.enterContext(mock.patch.object(profiles, '_SECONDS', 0.0))
    traced = []
    self.enterContext(mock.patch.object(
        jax.profiler, 'start_trace', lambda folder: traced.append('start')))
    self.enterContext(mock.patch.object(
        jax.profiler, 'stop_trace', lambda: traced.append('stop')))

    def batches(texts):
      for index, batch in enumerate(toy_stage.batches(0)):
        traced.append(index)
        if index in texts:
          request.write_text(texts[index])
        yield batch

    for texts, expected in (
        # Batch n + 1 is asked for while step n runs.
        ({2: ''}, [0, 1, 2, 'start', 3, 4, 5, 6, 7, 'stop', 8, 9]),
        ({1: '4:6'}, [0, 1, 2, 3, 4, 'start', 5, 6, 'stop', 7, 8, 9]),
        # Steps that are past, no steps, and more than there are.
        ({2: '1:2', 4: 'x', 6: '8:20'}, [*range(9), 'start', 9, 'stop']),
    ):
      traced.clear()
      train(workdir, 10, batches=lambda start, t=texts: batches(t))
      self.assertEqual(traced, expected)
      self.assertFalse(request.exists())
      shutil.rmtree(workdir)
      os.mkdir(workdir)
    # Another process's is left to it, if there is one.
    train(workdir, 10, batches=lambda start: batches({1: '2:3@1'}))
    self.assertFalse(request.exists())
    request.write_text('2:3@1')
    with mock.patch.object(jax, 'process_count', lambda: 2):
      profiles.Profiler(pathlib.Path(workdir), None).at(0, None)
    self.assertTrue(request.exists())
    self.assertNotIn('start', traced[-10:])

  def test_lines_tell_of_time_and_a_resumed_run_of_all_its_starts(self):
    workdir = self.new_dir()
    work = meter.Work(lambda step: 10**12, num_chips=2, peak_flops=1e15)

    def die():
      raise KilledError

    with self.assertRaises(KilledError):
      train(workdir, 10, batches=stopping_batches(9, die), work=work)
    train(workdir, 10, work=work)
    lines = [line for line in run_files.read_metrics(workdir).lines
             if 'train/loss' in line]
    for line in lines:
      self.assertAlmostEqual(line['perf/tflops_per_chip'],
                             line['perf/steps_per_second'] / 2)
      self.assertAlmostEqual(line['train/mfu'],
                             line['perf/tflops_per_chip'] / 1000)
      self.assertGreater(line['perf/goodput'], 0.0)
      self.assertLess(line['perf/goodput'], 1.0)
      self.assertBetween(line['perf/data_wait'], 0.0, 1.0)
      self.assertEqual(line['perf/restarts'], line['step'] > 6)
    found = run_history.read(workdir)
    self.assertEqual([(one.step, one.code) for one in found.attempts],
                     [(-1, 1), (6, 0)])
    self.assertCountEqual(found.productive, [3, 6, 9, 10])
    self.assertGreater(found.productive[10], found.productive[6])

  def test_checkpoints_by_the_clock_and_the_best(self):
    workdir = self.new_dir()
    keep = retention.Keep(newest=1, best=1, metric='eval/size')
    sizes = {0: 9., 2: 3., 4: 1., 6: 2., 8: 4., 10: 5.}
    stage = toy_stage.make_stage(evaluate=lambda state, *_: (
        {'size': sizes[int(state.step)]}, {}))
    now = [0.0]
    self.enterContext(mock.patch.object(
        save_clock, 'SaveClock', functools.partial(
            save_clock.SaveClock, clock=lambda: now[0])))

    def batches(start):
      for batch in toy_stage.batches(start):
        now[0] += 10.0
        yield batch

    saved = []
    save = checkpoints_lib.Checkpoints.save
    self.enterContext(mock.patch.object(
        checkpoints_lib.Checkpoints, 'save', lambda self, step, *rest: (
            saved.append(step), save(self, step, *rest))))
    train(workdir, 10, stage=stage, batches=batches, keep=keep, eval_every=2,
          save_every=4, save_seconds=30.0)
    # Each batch takes ten seconds, and the first two come before step 1.
    self.assertEqual(saved, [2, 4, 7, 8, 10])
    self.assertEqual(workdir_lib.WorkDir(workdir).steps(), [4, 10])
    with self.assertRaisesRegex(errors.UserError, 'evaluations give eval/size'):
      train(self.new_dir(), 2, stage=stage, eval_every=2,
            keep=retention.Keep(best=1, metric='eval/loss'))

  def test_a_batch_that_does_not_divide_is_named(self):
    def batches(start):
      for batch in toy_stage.batches(start):
        yield jax.tree.map(lambda rows: rows[:6], batch)
    with self.assertRaisesRegex(ValueError, '6 rows does not divide'):
      train(self.new_dir(), 2, batches=batches,
            shape=(4, 1, 1))


if __name__ == '__main__':
  absltest.main()
