"""Flags, exit codes and the speed of the command line."""
import contextlib
import io
import os
import resource
import subprocess
import sys
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.core import exit_codes


def run(*argv: str) -> tuple[int, str, str]:
  """Runs `walt ARGV` in this process: (exit code, stdout, stderr)."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = cli.main(argv)
  return code, out.getvalue(), err.getvalue()


def run_with(function, *argv: str) -> tuple[int, str, str]:
  """As `run`, with `function` in the entry point's place."""
  with mock.patch.object(cli, '_entry_point', lambda module: function):
    return run(*argv)


def raising(error: BaseException):
  def entry_point(args):
    del args
    raise error
  return entry_point


REPORT = ('report', 'some_folder')


class ParseTest(parameterized.TestCase):

  def test_train(self):
    args = cli.parse(['train', '--config', 'configs/ucf101.py:l',
                      '--config.data.path=a=b c', '--workdir', 'w',
                      '--config.train.num_steps=0'])
    self.assertEqual(args.module, 'walt_jax.commands.supervise')
    self.assertEqual(args.config, 'configs/ucf101.py:l')
    self.assertEqual(args.overrides, [('data.path', 'a=b c'),
                                      ('train.num_steps', '0')])

  def test_sample(self):
    args = cli.parse(['sample', '--workdir', 'a,b,c', '--out', 'o', '--label',
                      'seven left', '--steps', '50,25,10', '--noise_level',
                      '0.1,0', '--guidance', 'label=3;none;text=7.5,frames=2',
                      '--seed', '3'])
    self.assertEqual(args.workdir, ['a', 'b', 'c'])
    self.assertEqual(args.steps, [50, 25, 10])
    self.assertEqual(args.noise_level, [0.1, 0.0])
    self.assertEqual(args.guidance,
                     [{'label': 3.0}, {}, {'text': 7.5, 'frames': 2.0}])
    self.assertIsNone(args.prompt)
    args = cli.parse(['sample', '--workdir', 'a,b', '--out', 'o', '--guidance',
                      ' config ; text=3'])
    self.assertEqual(args.guidance, [None, {'text': 3.0}])

  def test_evaluate(self):
    args = cli.parse(['evaluate', 'fvd', '--real', 'r', '--generated', 'g',
                      '--json', 'j'])
    self.assertEqual((args.metric, args.protocol), ('fvd', 'quick'))
    args = cli.parse(['evaluate', 'compare', 'a.json', 'b.json'])
    self.assertEqual(args.files, ['a.json', 'b.json'])

  @parameterized.parameters(
      ('sample --workdir a --out o', 'sample'),
      ('evaluate control --generated g --json j', 'evaluate control'),
      ('data inspect d', 'data inspect'))
  def test_an_unknown_flag_names_the_command_to_look_up(self, line, command):
    with self.assertRaisesRegex(
        errors.UserError,
        rf'^unrecognized arguments: --nonsense \(see walt {command} --help\)$'):
      cli.parse([*line.split(), '--nonsense'])

  def test_data(self):
    args = cli.parse(['data', 'render', 'moving_digits', '--split', 'train',
                      '--num', '5', '--output', 'o'])
    self.assertEqual((args.action, args.num, args.split),
                     ('render', 5, 'train'))

  @parameterized.parameters(
      ('', 'COMMAND'), ('fly', 'fly'), ('train --workdir w', '--config'),
      ('train --config c --workdir w --stepz 3', '--stepz'),
      ('train --config c --work w', '--work'),
      ('train --config c --workdir w --config.seed 3', '--config.seed'),
      ('sample --workdir w --out o --config.seed=3', '--config.seed'),
      ('sample --workdir w, --out o', 'empty'),
      ('sample --workdir w --out o --num_frames 0', '0'),
      ('sample --workdir w --out o --steps 50,x', 'x'),
      ('sample --workdir w --out o --guidance 7.5', '7.5'),
      ('sample --workdir w --out o --condition speed', 'speed'),
      ('sample --workdir w --out o --noise_level 1.5', '1.5'),
      ('evaluate fvd --json j', '--generated'),
      ('evaluate fvx --json j', 'fvx'),
      ('data render digits --num 3 --output o', 'digits'))
  def test_wrong_flags_are_one_line_and_exit_code_2(self, line, named):
    code, out, err = run(*line.split())
    self.assertEqual(code, 2)
    self.assertEqual(out, '')
    self.assertRegex(err, r'\Awalt: error: [^\n]+\n\Z')
    self.assertIn(named, err)


class ExitCodeTest(parameterized.TestCase):

  def test_success(self):
    self.assertEqual(run_with(lambda args: print(args.directory), *REPORT),
                     (0, 'some_folder\n', ''))

  def test_user_error_is_one_line(self):
    code, _, err = run_with(raising(errors.UserError('no\n such thing')),
                            *REPORT)
    self.assertEqual((code, err), (2, 'walt: error: no such thing\n'))

  def test_fault_shows_a_traceback(self):
    code, _, err = run_with(raising(ValueError('broken')), *REPORT)
    self.assertEqual(code, 1)
    self.assertIn('Traceback', err)
    self.assertIn('broken', err)

  def test_an_exception_names_its_own_code(self):
    error = RuntimeError('preempted; saved step 5')
    error.exit_code = 75
    code, _, err = run_with(raising(error), *REPORT)
    self.assertEqual((code, err), (75, 'walt: preempted; saved step 5\n'))

  def test_interrupt(self):
    code, _, err = run_with(raising(KeyboardInterrupt()), *REPORT)
    self.assertEqual((code, err), (130, 'walt: interrupted\n'))

  def test_entry_point_is_imported_by_name(self):
    module = types.SimpleNamespace(run=lambda args: print('ran'))
    with mock.patch.dict(sys.modules, {'walt_jax.commands.report': module}):
      self.assertEqual(run(*REPORT), (0, 'ran\n', ''))


class ProcessTest(parameterized.TestCase):

  def test_help_is_quick_and_imports_nothing_heavy(self):
    # Processor time, and the smallest of five: others share the cores.
    seconds = []
    for _ in range(5):
      before = resource.getrusage(resource.RUSAGE_CHILDREN)
      process = subprocess.run([sys.executable, '-m', 'walt_jax', '--help'],
                               capture_output=True, text=True, check=True)
      after = resource.getrusage(resource.RUSAGE_CHILDREN)
      seconds.append(after.ru_utime - before.ru_utime)
    self.assertIn('evaluate', process.stdout)
    self.assertLess(min(seconds), 0.1)

  @parameterized.parameters(
      'import walt_jax', *(
          f'from walt_jax.commands import cli; cli.main({argv})' for argv in (
              ['--help'], ['sample', '--help'], ['evaluate', 'fvd', '--help'],
              ['data', 'prepare', '--help'], ['plan', '--help'])),
      # What supervises one of several hosts.
      'from unittest import mock; from walt_jax.commands import cli\n'
      'from walt_jax.parallel import supervisor\n'
      'with mock.patch.object(supervisor, "run", lambda *a, **k: 75):\n'
      '  code = cli.main(["train", "--config", "c", "--workdir", "w", '
      '"--coordinator", "host:1", "--process", "0/2"])\n'
      'assert code == 75')
  def test_flags_import_nothing_heavy(self, code):
    process = subprocess.run(
        [sys.executable, '-c', f'import sys; {code}\n'
         'print([m for m in ("jax", "tensorflow", "numpy", "flax", '
         '"ml_collections", "PIL") if m in sys.modules])'],
        capture_output=True, text=True, check=True)
    self.assertEqual(process.stdout.splitlines()[-1], '[]')

  def test_a_reader_that_leaves_is_no_fault(self):
    code = ('import sys\nfrom walt_jax.commands import cli\n'
            'def run(args):\n  while True: print("x" * 1000)\n'
            'cli._entry_point = lambda module: run\n'
            'sys.exit(cli.main(["report", "d"]))')
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {'PYTHONUNBUFFERED': '0'})
    process.stdout.read(10)
    process.stdout.close()
    self.assertEqual(process.wait(timeout=30), exit_codes.BROKEN_PIPE)
    self.assertEqual(process.stderr.read(), b'')
    process.stderr.close()


if __name__ == '__main__':
  absltest.main()
