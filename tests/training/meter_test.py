"""Speeds, utilisation, waits and goodput, by clocks set by hand."""
from absl.testing import absltest

from walt_jax.core import run_history
from walt_jax.training import meter


class MeterTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.seconds = 0.0  # In steps.
    self.now = 1000.0

  def make(self, work=None, history=None):
    history = history or run_history.History((run_history.Attempt(1000., -1),))
    return meter.Meter(work or meter.Work(), lambda: self.seconds, history,
                       clock=lambda: self.seconds, now=lambda: self.now)

  def pass_time(self, seconds):
    self.seconds += seconds
    self.now += seconds

  def test_utilisation_is_of_the_steps_since_the_last_line(self):
    work = meter.Work(lambda step: (step + 1) * 10**13, num_chips=4,
                      peak_flops=2e13)
    found = self.make(work)
    for step in range(4):
      self.pass_time(0.5 if step < 2 else 1.0)
      found.complete(step)
      if step % 2:
        found.mark(step + 1)
    first, second = found.scalars(2), found.scalars(4)
    # 1e13 + 2e13 FLOPs in one second, then 3e13 + 4e13 in two, on four chips.
    self.assertAlmostEqual(first['perf/tflops_per_chip'], 7.5)
    self.assertAlmostEqual(first['train/mfu'], 0.375)
    self.assertAlmostEqual(first['perf/steps_per_second'], 2.0)
    self.assertAlmostEqual(second['perf/tflops_per_chip'], 8.75)
    self.assertAlmostEqual(second['train/mfu'], 0.4375)
    self.assertAlmostEqual(second['perf/steps_per_second'], 1.0)

  def test_what_is_not_known_is_left_out(self):
    for work, names in (
        (meter.Work(lambda step: 1), {'perf/tflops_per_chip'}),
        (meter.Work(), set())):
      found = self.make(work)
      self.pass_time(1.0)
      found.complete(0)
      found.mark(1)
      self.assertEqual(set(found.scalars(1)), names | {
          'perf/goodput', 'perf/restarts', 'perf/data_wait',
          'perf/steps_per_second'})
      self.assertEqual(found.scalars(2), {})

  def test_waits_count_while_devices_are_idle(self):
    found = self.make()
    for idle in (True, False):
      with found.waiting(lambda idle=idle: idle):
        self.pass_time(1.0)
      self.pass_time(1.0)
    found.complete(0)
    found.mark(1)
    values = found.scalars(1)
    self.assertAlmostEqual(values['perf/data_wait'], 0.25)
    self.assertAlmostEqual(values['perf/goodput'], 0.75)

  def test_goodput_counts_restarts_and_steps_that_were_lost(self):
    history = run_history.History(
        (run_history.Attempt(900., -1, 1, 940.),
         run_history.Attempt(1000., 5)), {5: 30.0, 7: 36.0})
    found = self.make(history=history)
    found.resume(5)
    self.now += 20.0  # Compiling.
    for step in range(5, 9):
      self.pass_time(10.0)
      found.complete(step)
    found.lost(1)
    found.mark(9)
    # 30 s of the first start and four fifths of 40, of 160 s.
    self.assertAlmostEqual(found.productive_seconds(), 62.0)
    values = found.scalars(9)
    self.assertAlmostEqual(values['perf/goodput'], 62.0 / 160.0)
    self.assertEqual(values['perf/restarts'], 1)

  def test_no_share_is_above_one_when_clocks_jump(self):
    found = self.make()
    self.pass_time(10.0)
    self.now = 5.0
    found.complete(0)
    found.mark(1)
    self.assertEqual(found.scalars(1)['perf/goodput'], 1.0)


if __name__ == '__main__':
  absltest.main()
