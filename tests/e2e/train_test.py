"""`walt train`: interruptions change nothing, and neither do meshes."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests import xla_flags
from tests.e2e import tiny
from walt_jax.core import run_files
from walt_jax.training import workdir as workdir_lib

_ENDLESS = 10**6
# Frames twice as wide, as in the fine-tune to another aspect ratio.
WIDE = dict(data__width=32, latents__width=8, model__spatial_window=(1, 4, 8),
            train__eval_every=0)
_PATIENCE = 240.0  # Seconds until a process must have come somewhere.


class TrainTestCase(parameterized.TestCase):

  def new_dir(self) -> pathlib.Path:
    return pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / 'w'


class ResumeTest(TrainTestCase):

  @parameterized.parameters(*tiny.STAGES)
  def test_two_steps_and_a_third_equal_an_unbroken_run(self, stage):
    unbroken = tiny.run(stage)
    workdir = self.new_dir()
    tiny.train(stage, workdir, 2)
    self.assertEqual(workdir_lib.WorkDir(workdir).newest_step(), 2)
    result = tiny.train(stage, workdir, 3)
    self.assertIn('resumed at step 2', result.out)
    tiny.assert_same_checkpoint(workdir, unbroken, 3)
    self.assertEqual(tiny.metrics_text(workdir), tiny.metrics_text(unbroken))
    self.assertLen(tiny.losses(workdir), 3)
    copies = [next(root.glob('*/model.safetensors')).read_bytes()
              for root in (workdir, unbroken)]
    self.assertEqual(*copies)

  def test_zero_steps_save_the_initial_state(self):
    workdir = self.new_dir()
    tiny.train('base', workdir, 0)
    self.assertEqual(workdir_lib.WorkDir(workdir).newest_step(), 0)
    state = tiny.saved(workdir, 0)
    self.assertEqual(state['step'], 0)
    for name, value in state.items():
      if name.startswith('params/'):
        ema = name.replace('params/', 'ema/0.99/')
        np.testing.assert_array_equal(value, state[ema], err_msg=name)
    # A rerun has nothing to do and changes nothing.
    before = tiny.contents(workdir / 'checkpoints')
    result = tiny.train('base', workdir, 0)
    self.assertIn('nothing to train', result.out)
    self.assertEqual(tiny.contents(workdir / 'checkpoints'), before)

  def test_config_and_metrics_say_what_was_done(self):
    workdir = tiny.run('base')
    config = json.loads((workdir / 'config.json').read_text())
    self.assertEqual(config['model']['width'], 16)
    self.assertLen(config['derived']['classes'], 40)
    self.assertEqual(
        config['derived']['tokenizer_sha256'],
        json.loads((tiny.run('sr') / 'config.json').read_text())
        ['derived']['tokenizer_sha256'])
    lines = run_files.read_metrics(workdir).lines
    evaluated = [line['step'] for line in lines if 'eval/v_loss' in line]
    self.assertEqual(evaluated, [0, 1, 2, 3])
    for line in lines:
      for name, value in line.items():
        self.assertTrue(np.isfinite(value), (name, line))
    self.assertLen(list((workdir / 'eval').glob('*_samples.png')), 4)


class WarmStartTest(TrainTestCase):

  def test_a_run_begins_at_the_average_of_another(self):
    source, workdir = tiny.run('base'), self.new_dir()
    tiny.train('base', workdir, 0, init_from=source)
    before, after = tiny.saved(source, 3), tiny.saved(workdir, 0)
    self.assertEqual(after['step'], 0)
    for name, value in after.items():
      if name.startswith('params/'):
        ema = name.replace('params/', 'ema/0.99/')
        np.testing.assert_array_equal(value, before[ema], err_msg=name)
        np.testing.assert_array_equal(value, after[ema], err_msg=name)
      if '/mu/' in name:
        self.assertFalse(value.any(), name)

  def test_tables_are_fitted_to_another_grid(self):
    workdir = self.new_dir()
    tiny.train('base', workdir, 1, init_from=tiny.run('base'),
               **WIDE)
    state = tiny.saved(workdir, 1)
    self.assertEqual(state['params/position/space'].shape, (4, 8, 16))

  def test_another_width_is_refused_in_one_line(self):
    workdir = self.new_dir()
    result = tiny.train('base', workdir, 1, code=2,
                        init_from=tiny.run('base'), model__mlp_width=64)
    self.assertIn('init_from', result.err)
    self.assertIn('mlp', result.err)
    self.assertLen(result.err.strip().splitlines(), 1)
    self.assertFalse(workdir.exists())


class AccumulationTest(TrainTestCase):

  def test_four_parts_train_as_the_whole_does(self):
    workdir = self.new_dir()
    tiny.train('base', workdir, 3, optimizer__accumulation_steps=4,
               train__eval_every=0)
    np.testing.assert_allclose(
        tiny.losses(workdir), tiny.losses(tiny.run('base')), rtol=2e-5)

  def test_parts_must_divide_the_batch(self):
    result = tiny.train('base', self.new_dir(), 1, code=2,
                        optimizer__accumulation_steps=3)
    self.assertIn('accumulation_steps is 3', result.err)


class InterruptionTest(TrainTestCase):

  def test_sigterm_then_sigkill_equal_an_unbroken_run(self):
    """A run stopped in good order, resumed, killed and resumed again."""
    workdir = self.new_dir()
    quiet = dict(train__eval_every=0, train__save_every=20)
    with terminated_at_line(workdir, 3):
      tiny.train('sr', workdir, _ENDLESS, code=75, **quiet)
    stopped = workdir_lib.WorkDir(workdir).newest_step()
    self.assertGreaterEqual(stopped, 3)

    killed = self.kill_beyond_checkpoint(workdir, stopped, quiet)
    kept = workdir_lib.WorkDir(workdir).newest_step()
    self.assertGreater(kept, stopped)
    self.assertLessEqual(kept, killed)

    last = kept + 2
    tiny.train('sr', workdir, last, **quiet)
    unbroken = self.new_dir()
    tiny.train('sr', unbroken, last, **quiet)
    tiny.assert_same_checkpoint(workdir, unbroken, last)
    self.assertEqual(tiny.metrics_text(workdir), tiny.metrics_text(unbroken))

  def kill_beyond_checkpoint(self, workdir, resumed, changed) -> int:
    """Kills a process once its lines are beyond its own checkpoint.

    Returns:
      The step of its last whole line.
    """
    # One device, as in the runs it is compared with.
    environment = xla_flags.environment(1)
    log = self.enterContext(tempfile.TemporaryFile('w+'))
    process = subprocess.Popen(
        [sys.executable, '-m', 'walt_jax',
         *tiny.flags('sr', workdir, _ENDLESS, **changed,
                     train__writers=())],
        stdout=log, stderr=log, cwd=tiny.ROOT, env=environment)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
      step = workdir_lib.WorkDir(workdir).newest_step() or 0
      if step > resumed and last_line(workdir) > step:
        break
      time.sleep(0.02)
    process.kill()
    code = process.wait()
    log.seek(0)
    self.assertEqual(code, -signal.SIGKILL, log.read())
    return last_line(workdir)


def last_line(workdir: pathlib.Path) -> int:
  """The step of the last line of metrics, or -1."""
  lines = run_files.read_metrics(workdir).lines
  return lines[-1]['step'] if lines else -1


@contextlib.contextmanager
def terminated_at_line(workdir: pathlib.Path, step: int):
  """Sends this process SIGTERM when the metrics have come to a step."""
  left = threading.Event()

  def watch():
    while not left.wait(0.01):
      if last_line(workdir) >= step:
        os.kill(os.getpid(), signal.SIGTERM)
        return

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
  finally:
    left.set()
    thread.join()


if __name__ == '__main__':
  absltest.main()
