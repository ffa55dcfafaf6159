"""What training's line says, on a terminal and in a file."""
import io
from unittest import mock

from absl.testing import absltest

from walt_jax.core import progress


class Terminal(io.StringIO):

  def isatty(self) -> bool:
    return True


class TrainingProgressTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.now = 100.0
    self.enterContext(mock.patch.object(
        progress.time, 'perf_counter', lambda: self.now))

  def run_steps(self, stream: io.StringIO) -> dict:
    line = progress.TrainingProgress('base', 4000, stream=stream)
    line.compiled(30.0)
    line.start(10)
    for step in range(11, 21):
      self.now += 1.0
      with line.aside('save'):
        self.now += 2.0
      line.show({'train/loss': 0.25, 'train/grad_norm': 1.0})
      line.update(step)
    return line.finish(20, ('device', 3 * 2 ** 30))

  def test_speed_counts_steps_alone(self):
    report = self.run_steps(io.StringIO())
    self.assertEqual(report, {
        'step': 20, 'steps': 10, 'step_seconds': 10.0,
        'steps_per_second': 1.0, 'compile_seconds': 30.0,
        'evaluate_seconds': 0.0, 'save_seconds': 20.0,
        'device_peak_bytes': 3 * 2 ** 30})

  def test_no_steps_are_told_of_a_run_that_had_nothing_to_train(self):
    stream = io.StringIO()
    line = progress.TrainingProgress('base', 3, stream=stream)
    self.assertEqual(line.finish(3, ('device', 0))['steps'], 0)
    self.assertEmpty(stream.getvalue())

  def test_plain_lines_every_few_seconds_in_a_file(self):
    stream = io.StringIO()
    self.run_steps(stream)
    lines = stream.getvalue().splitlines()
    self.assertEqual(lines[0], 'base: compiled in 30.0 s')
    self.assertEqual(
        lines[1], 'base: step 12/4000, loss 0.25, 1 steps/s, '
        '1 h 06 min left')
    self.assertLen(lines, 7)  # 30 s of 5 s and more between lines.
    self.assertEqual(
        lines[-1],
        'base: 10 steps in 10 s (1 steps/s), device memory peak 3.00 GiB')

  def test_one_line_redrawn_on_a_terminal(self):
    stream = Terminal()
    self.run_steps(stream)
    text = stream.getvalue()
    self.assertEqual(text.count('step 1'), 9)
    self.assertEqual(text.count('\n'), 2)  # Compiling, and the end.

  def test_a_line_tells_how_the_chips_are_used(self):
    stream = io.StringIO()
    line = progress.TrainingProgress('base', 10, stream=stream)
    line.start(0)
    used = {'perf/tflops_per_chip': 183.21, 'perf/goodput': 0.934}
    for step, more in enumerate((
        {}, {'train/mfu': 0.4, 'perf/data_wait': 0.001},
        {'perf/data_wait': 0.25}), 1):
      self.now += 5.0
      line.show(used | more)
      line.update(step)
    lines = stream.getvalue().splitlines()
    self.assertIn('183 TFLOP/s a chip, goodput 0.93, 45 s left', lines[0])
    self.assertIn('183 TFLOP/s a chip (MFU 0.400), goodput 0.93, ', lines[1])
    self.assertIn('goodput 0.93, 25% of steps waiting for data, ', lines[2])

  def test_nothing_to_print_for_other_processes(self):
    stream = io.StringIO()
    line = progress.TrainingProgress('base', 1, enabled=False, stream=stream)
    line.message('hello')
    line.start(0)
    line.finish(1, ('host', 0))
    self.assertEqual(stream.getvalue(), '')


if __name__ == '__main__':
  absltest.main()
