"""Parents of several hosts: who is named when somebody is lost."""
import os
import signal
import subprocess
import sys
import time

from absl.testing import absltest
from absl.testing import parameterized

from tests import ports

TOKEN = 'a secret of the tests'
_PARENT = '''
import sys
from walt_jax.core import errors
from walt_jax.parallel import hosts, supervisor
try:
  sys.exit(supervisor.run(
      hosts.Hosts('localhost:%(port)d', %(count)d, %(process)d, 'test'),
      [sys.executable, '-c', %(child)r], seconds=%(seconds)s,
      start_seconds=%(start_seconds)s, alike=%(alike)r, again='to go on'))
except errors.UserError as e:
  print(e, file=sys.stderr)
  sys.exit(2)
'''
_BEGIN = 'from walt_jax.core import supervised; supervised.begin(); '
_SLEEP = _BEGIN + 'import time; print("begun", flush=True); time.sleep(120)'
# Like training: a signal saves, and ends with 75.
_OBEDIENT = _BEGIN + '''
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("begun", flush=True)
time.sleep(120)
'''


def children(pid: int) -> list[int]:
  with open(f'/proc/{pid}/task/{pid}/children') as file:
    return [int(word) for word in file.read().split()]


class SupervisorTest(parameterized.TestCase):

  def start(self, *programs, seconds=20.0, start_seconds=60.0, **changed):
    """Starts a parent for each child program.

    Args:
      *programs: Of the children.
      seconds: Silence after which a host counts as lost.
      start_seconds: How long to wait for all.
      **changed: Lists with a value for each parent of what else it is told.
    """
    port = ports.free_port()
    processes = []
    for process, child in enumerate(programs):
      text = _PARENT % (dict(
          port=port, count=len(programs), process=process,
          child=child, seconds=seconds, start_seconds=start_seconds,
          alike=[]) | {name: values[process]
                       for name, values in changed.items()})
      processes.append(subprocess.Popen(
          [sys.executable, '-c', text], stdout=subprocess.PIPE,
          stderr=subprocess.PIPE, text=True,
          env=os.environ | {'WALT_TOKEN': TOKEN}))
      self.addCleanup(self.end, processes[-1])
    return processes

  def end(self, process):
    orphans = children(process.pid) if process.poll() is None else []
    process.kill()
    for orphan in orphans:
      os.kill(orphan, signal.SIGKILL)
    process.communicate()

  def wait_until_begun(self, processes):
    for process in processes:
      self.assertEqual(process.stdout.readline(), 'begun\n')

  def results(self, processes):
    outputs = [process.communicate(timeout=60) for process in processes]
    return [p.returncode for p in processes], [err for _, err in outputs]

  def test_all_end_with_their_childrens_code(self):
    codes, _ = self.results(self.start('pass', 'pass', 'pass'))
    self.assertEqual(codes, [0, 0, 0])

  @parameterized.parameters(0, 1)
  def test_a_killed_child_is_named_by_the_others(self, victim):
    processes = self.start(_SLEEP, _SLEEP, _SLEEP)
    self.wait_until_begun(processes)
    (child,) = children(processes[victim].pid)
    began = time.monotonic()
    os.kill(child, signal.SIGKILL)
    codes, errs = self.results(processes)
    self.assertLess(time.monotonic() - began, 15)
    self.assertEqual(codes, [76, 76, 76])
    for err in errs:
      self.assertIn(f'process {victim}', err)
      self.assertIn('SIGKILL', err)
    other = 1 - victim
    self.assertIn('Run the same command on every host to go on.', errs[other])

  @parameterized.parameters(0, 1)
  def test_a_lost_host_is_named(self, victim):
    processes = self.start(_SLEEP, _SLEEP)
    self.wait_until_begun(processes)
    orphans = children(processes[victim].pid)
    processes[victim].kill()
    for orphan in orphans:
      os.kill(orphan, signal.SIGKILL)
    other = processes[1 - victim]
    _, err = other.communicate(timeout=60)
    self.assertEqual(other.returncode, 76)
    self.assertIn(f'process {victim}', err)
    self.assertIn('closed the connection', err)

  def test_a_frozen_host_is_named_after_its_silence(self):
    processes = self.start(_SLEEP, _SLEEP, seconds=4.0)
    self.wait_until_begun(processes)
    processes[1].send_signal(signal.SIGSTOP)
    _, err = processes[0].communicate(timeout=60)
    processes[1].send_signal(signal.SIGCONT)
    self.assertEqual(processes[0].returncode, 76)
    self.assertIn('process 1', err)
    self.assertIn('silent for 4 s', err)

  @parameterized.parameters(
      'os.kill(os.getpid(), signal.SIGSTOP)',
      # Holds the lock of the interpreter, as code in C can.
      'ctypes.PyDLL(None).sleep(60)')
  def test_a_child_that_hangs_is_named(self, hang):
    program = _BEGIN + ('import ctypes, os, signal; print("begun", flush=True)'
                        '; ' + hang)
    processes = self.start(_SLEEP, program, seconds=3.0)
    self.wait_until_begun(processes)
    began = time.monotonic()
    codes, errs = self.results(processes)
    self.assertEqual(codes, [76, 76])
    for err in errs:
      self.assertRegex(
          err, 'process 1.* has been silent for 3 s: it was stopped, or hangs')
    self.assertLess(time.monotonic() - began, 8)

  @parameterized.parameters((signal.SIGTERM, 75), (signal.SIGINT, 130))
  def test_where_nothing_is_lost_all_end_at_once(self, number, code):
    """Though only one is told, and the children heed no SIGTERM."""
    program = _BEGIN + ('import signal, time; signal.signal(15, lambda *_: 0)'
                        '; print("begun", flush=True); time.sleep(120)')
    processes = self.start(program, program)
    self.wait_until_begun(processes)
    began = time.monotonic()
    processes[1].send_signal(number)
    codes, errs = self.results(processes)
    self.assertLess(time.monotonic() - began, 5)
    self.assertEqual(codes, [75, code])
    self.assertEqual(errs[1].splitlines()[-1], {
        75: 'walt: stopped by SIGTERM', 130: 'walt: interrupted'}[code])

  def test_the_second_signal_ends_it(self):
    program = _BEGIN + (
        'supervised.hold(); import signal, time; signal.signal(15, lambda *_: '
        '0); print("begun", flush=True); time.sleep(120)')
    (process, other) = self.start(program, program)
    self.wait_until_begun([process, other])
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    self.assertIsNone(process.poll())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    self.assertEqual((process.returncode, err), (130, 'walt: interrupted\n'))

  @parameterized.parameters(0, 1)
  def test_children_die_with_their_parents(self, victim):
    """Also before they have imported anything."""
    processes = self.start(_SLEEP, _SLEEP)
    self.wait_until_begun(processes)
    (child,) = children(processes[victim].pid)
    processes[victim].kill()
    with self.assertRaises(ProcessLookupError):
      for _ in range(100):
        os.kill(child, 0)
        time.sleep(0.02)

  def test_a_fault_is_told_by_the_host_whose_it_is(self):
    fault = (_BEGIN + 'import time; print("begun", flush=True); time.sleep(1)'
             '; supervised.fault("Traceback: bad\\n"); raise SystemExit(1)')
    processes = self.start(fault, _SLEEP)
    self.wait_until_begun(processes)
    codes, errs = self.results(processes)
    self.assertEqual(codes, [1, 76])
    self.assertStartsWith(errs[0], 'Traceback: bad\nwalt: process 0')
    self.assertNotIn('Traceback', errs[1])

  def test_a_fault_that_another_caused_is_not_told(self):
    fault = (_BEGIN + 'import time; print("begun", flush=True); time.sleep(2)'
             '; supervised.fault("Traceback: bad\\n"); raise SystemExit(1)')
    processes = self.start(fault, _SLEEP)
    self.wait_until_begun(processes)
    (child,) = children(processes[1].pid)
    os.kill(child, signal.SIGKILL)
    codes, errs = self.results(processes)
    self.assertEqual(codes, [76, 76])
    self.assertLen(errs[0].splitlines(), 1)

  def test_a_child_that_fails_because_of_another_does_not_take_the_blame(self):
    failing = _BEGIN + ('import time; print("begun", flush=True); '
                        'time.sleep(6); 1 / 0')
    processes = self.start(failing, _SLEEP)
    self.wait_until_begun(processes)
    (child,) = children(processes[1].pid)
    os.kill(child, signal.SIGKILL)
    codes, errs = self.results(processes)
    self.assertEqual(codes, [76, 76])
    self.assertIn('process 1', errs[0].splitlines()[-1])

  def test_signals_are_passed_on(self):
    processes = self.start(_OBEDIENT, _OBEDIENT)
    self.wait_until_begun(processes)
    for process in processes:
      process.send_signal(signal.SIGTERM)
    codes, _ = self.results(processes)
    self.assertEqual(codes, [75, 75])

  def test_a_host_that_does_not_come_is_named(self):
    processes = self.start(_SLEEP, _SLEEP, count=[3, 3], start_seconds=3.0)
    codes, errs = self.results(processes)
    self.assertEqual(codes, [2, 2])
    for err in errs:
      self.assertIn('process 2 of 3', err)

  def test_a_long_wait_is_told(self):
    processes = [
        *self.start(_SLEEP, count=[2], start_seconds=6.0),
        *self.start(_SLEEP, count=[2], process=[1], start_seconds=6.0)]
    codes, errs = self.results(processes)
    self.assertEqual(codes, [2, 2])
    self.assertEqual(errs[0].splitlines()[0],
                     'walt: waiting for process 1 of 2 to come')
    self.assertRegex(errs[1].splitlines()[0],
                     '^walt: waiting for process 0 at localhost:')

  @parameterized.parameters(
      (dict(alike=[['a', 'b'], ['a', 'b'], ['a', 'c']]),
       "process 2 on .* has 'c' where process 0 has 'b'"),
      (dict(alike=[['a', 'b'], ['a'], ['a', 'b']]),
       "process 1 on .* has 'nothing' where process 0 has 'b'"),
      (dict(count=[3, 3, 4]),
       'process 2 on .* is one of 4, and process 0 one of 3'),
      (dict(process=[0, 1, 1]), 'two processes are process 1 of 3'))
  def test_hosts_that_were_told_unlike_things_do_not_begin(
      self, changed, why):
    codes, errs = self.results(self.start(*[_SLEEP] * 3, **changed))
    self.assertEqual(codes, [2, 2, 2])
    for err in errs:
      self.assertRegex(err, why)
      self.assertLen(err.splitlines(), 1)

  def test_a_latecomer_does_not_end_those_that_run(self):
    brief = _BEGIN + 'import time; print("begun", flush=True); time.sleep(4)'
    port = ports.free_port()
    processes = self.start(brief, brief, port=[port] * 2)
    self.wait_until_begun(processes)
    late = self.start(brief, brief, process=[1, 1], port=[port] * 2)
    codes, errs = self.results(late)
    self.assertEqual(codes, [2, 2])
    self.assertIn('two processes are process 1 of 2', errs[0])
    codes, _ = self.results(processes)
    self.assertEqual(codes, [0, 0])

  def test_a_users_mistake_on_one_host_ends_all(self):
    mistaken = _BEGIN + ('import time; print("begun", flush=True); '
                         'time.sleep(1); raise SystemExit(2)')
    processes = self.start(mistaken, _SLEEP)
    self.wait_until_begun(processes)
    codes, errs = self.results(processes)
    self.assertEqual(codes, [2, 76])
    self.assertIn('process 0', errs[1])
    self.assertIn('exit code 2', errs[1])


if __name__ == '__main__':
  absltest.main()
