"""Every flag that names a file or folder, with every form of path."""
import argparse
from collections.abc import Iterator
import contextlib
import functools
import io
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.core import exit_codes
from walt_jax.core import interrupts
from walt_jax.core import paths
from walt_jax.quickstart import __main__ as quickstart

# Of flags: what is said to be a file or folder.
_NAMES_ONE = re.compile(
    r'\b(DIR|FILE|PATH|BUNDLE|TOKENIZER|BASE|BACKBONE|RESULT)\b')
_BUCKET = 'gs://walt-test-bucket/folder/file.py'
# All others are only read.
_WRITTEN = {
    '--cache', '--html', '--json', '--out', '--output', '--save_samples',
    '--save_statistics', 'train --workdir'}
# One of a scheme, one of a bucket; tests/core/paths_test.py has all forms.
_REFUSED = ('s3://bucket/x', 'gs:///x')


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
           ) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
  """Every command, with its parser."""
  inner = [action for action in parser._actions
           if isinstance(action, argparse._SubParsersAction)]
  if not inner:
    yield words, parser
  for action in inner:
    for name, one in action.choices.items():
      yield from leaves(one, (*words, name))


def value_of(action: argparse.Action) -> str:
  """A value that a flag takes."""
  if action.choices:
    return next(iter(action.choices))
  return 'x' if _NAMES_ONE.search(str(action.metavar)) else '1'


def argument(action: argparse.Action, value: str) -> list[str]:
  """A flag, or an argument without one, of a value."""
  values = [value] * (action.nargs if isinstance(action.nargs, int) else 1)
  return [*action.option_strings[:1], *values]


@functools.cache
def command_lines(value: str) -> dict[str, list[str]]:
  """For each flag of a path, as 'COMMAND FLAG', a whole command line."""
  lines = {}
  for words, parser in leaves(cli.make_parser()):
    one_of = {action: group for group in parser._mutually_exclusive_groups
              for action in group._group_actions}
    for action in parser._actions:
      if not _NAMES_ONE.search(str(action.metavar)):
        continue
      line = list(words)
      met = {one_of.get(action)}
      for other in parser._actions:
        group = one_of.get(other)
        needed = other.required or (group is not None and group.required
                                    and group not in met)
        if other is action:
          line += argument(action, value)
        elif needed:
          met.add(group)
          line += argument(other, value_of(other))
      name = (action.option_strings or [action.dest])[0]
      lines[f'{" ".join(words)} {name}'] = line
  return lines


NAMES = list(command_lines('x'))


def run(argv: list[str], entry_point=None) -> tuple[int, str]:
  """Runs `walt ARGV` with its work stubbed: exit code and standard error."""
  err = io.StringIO()
  with contextlib.redirect_stderr(err), mock.patch.object(
      cli, '_entry_point', lambda module: entry_point):
    code = cli.main(argv)
  return code, err.getvalue()


class LocationsTest(parameterized.TestCase):

  def test_the_table_is_whole(self):
    commands = {name.split()[0] for name in NAMES}
    self.assertEqual(commands, {
        'train', 'plan', 'config', 'sample', 'evaluate', 'export', 'demo',
        'report', 'data'})
    for name in ('data prepare --input', 'data prepare --text_path',
                 'evaluate fvd --cache', 'evaluate reconstruction --lpips',
                 'evaluate compare files', 'report directory',
                 'sample --image', 'train --replay'):
      self.assertIn(name, NAMES)
    self.assertGreater(len(NAMES), 60)

  @parameterized.parameters(*NAMES)
  def test_what_is_no_path_is_refused_before_anything_runs(self, name):
    for value in _REFUSED:
      argv = command_lines(value)[name]
      code, err = run(argv, entry_point=self.fail)
      self.assertEqual(code, exit_codes.USER_ERROR, err)
      self.assertEqual(err.count('\n'), 1, err)
      self.assertIn(value, err)

  @parameterized.parameters(*NAMES)
  def test_a_bucket_is_asked_for_before_anything_runs(self, name):
    argv = command_lines(_BUCKET)[name]
    is_written = name in _WRITTEN or name.split()[-1] in _WRITTEN
    with mock.patch.object(paths, 'reach') as reach, mock.patch.object(
        outputs, 'check'):  # It reads what is in the bucket.
      code, err = run(argv, lambda args: None)
    self.assertEqual((code, err), (0, ''))
    reach.assert_called_once_with(_BUCKET, write=is_written)

  def test_one_path_of_several_is_asked_for(self):
    args = cli.parse(['sample', '--workdir', f'a,{_BUCKET}', '--out', 'b'])
    with mock.patch.object(paths, 'reach') as reach:
      locations.reach(args)
    reach.assert_called_once_with(_BUCKET, write=False)

  @parameterized.parameters(_BUCKET, *_REFUSED)
  def test_the_tutorial_writes_to_this_machine_alone(self, value):
    err = io.StringIO()
    with contextlib.redirect_stderr(err), mock.patch.object(
        quickstart.tutorial, 'run', self.fail), (
            interrupts.watching()) as watch:
      code = cli.answered(lambda: quickstart.run(['--out', value]), watch)
    self.assertEqual(code, exit_codes.USER_ERROR)
    self.assertEqual(err.getvalue().count('\n'), 1, err.getvalue())
    self.assertIn(value, err.getvalue())


if __name__ == '__main__':
  absltest.main()
