"""One table of hostile inputs over all commands and flags.

Every row is a command line that must end with exit code 2 and one line, leave
no file behind, and begin no work: what computes is a stand-in that fails.
"""
from collections.abc import Iterator
import contextlib
import io
import json
import os
import pathlib
import signal
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import pytest

from tests.data import video_files
from tests.e2e import tiny
from tests.hostile import file_rows
from tests.hostile import flag_rows
from tests.hostile import rows as rows_lib
from walt_jax.commands import cli
from walt_jax.data import render
from walt_jax.data.prepare import prepare
from walt_jax.planning import encoding
from walt_jax.sampling import output
from walt_jax.training import loop

_SECONDS = 10  # A row that takes longer hangs.


class WorkBeganError(Exception):
  """A row was not refused."""


def began(*unused, **also_unused):
  raise WorkBeganError


# What computes, where the checks before it are done.
STUBS = (
    (output, 'draw'), (loop, 'run'), (encoding, 'costs'), (prepare, '_run'),
    (render, 'write_sources'))


def contents(folder: pathlib.Path) -> dict[str, bytes | None]:
  """All that lies below a folder; links and pipes are not opened."""
  return {str(path.relative_to(folder)): (
      path.read_bytes() if path.is_file() and not path.is_symlink() else None)
          for path in sorted(folder.rglob('*'))}


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
  def ring(*unused):
    raise TimeoutError(f'still running after {seconds} s')

  before = signal.signal(signal.SIGALRM, ring)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_shared(folder: pathlib.Path) -> dict[str, str]:
  """What rows share: sound inputs of every kind."""
  for number in range(2):
    video_files.write_video(folder / 'films' / f'{number}.mp4', num_frames=20)
  rng = np.random.default_rng(0)
  np.save(folder / 'clips.npy', rng.integers(
      0, 256, (4, 9, 16, 16, 3)).astype(np.uint8))
  (folder / 'result.json').write_text(json.dumps(
      dict(metric='fvd', value=1.0)))
  result = tiny.walt('data', 'render', 'moving_digits', '--num', 4, '--size',
                     16, '--num_frames', 5, '--split', 'test', '--output',
                     folder / 'digits')
  assert result.code == 0, result.err
  return dict(
      films=str(folder / 'films'), clips=str(folder / 'clips.npy'),
      digits=str(folder / 'digits'), result=str(folder / 'result.json'),
      base=str(tiny.run('base')), sr=str(tiny.run('sr')),
      tokenizer=str(tiny.run('tokenizer')),
      config=f'{tiny.QUICKSTART}:smoke')


def outcome(row: rows_lib.Row, shared: dict[str, str],
            stubs=STUBS) -> str:
  """What is wrong with how a command ends; '' for nothing."""
  with tempfile.TemporaryDirectory() as name:
    folder, here = pathlib.Path(name, 'dir'), pathlib.Path(name, 'here')
    folder.mkdir()
    here.mkdir()
    if row.make and row.make.__code__.co_argcount == 2:
      row.make(folder, shared)
    elif row.make:
      row.make(folder)
    names = shared | dict(dir=str(folder))
    before = contents(folder)
    argv = [fill(word, names) for word in row.argv]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
      stack.enter_context(contextlib.redirect_stdout(out))
      stack.enter_context(contextlib.redirect_stderr(err))
      stack.enter_context(contextlib.chdir(here))
      stack.enter_context(mock.patch.dict(os.environ, dict(row.env)))
      for where, what in stubs:
        stack.enter_context(mock.patch.object(where, what, began))
      try:
        with limited(_SECONDS):
          code = cli.main(argv)
      except BaseException as error:  # pylint: disable=broad-except
        return f'{type(error).__name__}: {error}'
    said = err.getvalue()
    if code != 2:
      return f'exit code {code}: {said.strip()[-400:]}'
    if said.count('\n') != 1 or not said.startswith('walt: error: '):
      return f'no single line: {said[:400]!r}'
    if len(said) > 1_500:
      return f'{len(said)} characters: {said[:200]}'
    if fill(row.named, names) not in said:
      return f'{row.named!r} is not named: {said}'
    if contents(folder) != before or any(here.iterdir()):
      return (f'left {sorted(set(contents(folder)) - set(before))} '
              f'{list(here.iterdir())}')
    return ''


def fill(word: str, names: dict[str, str]) -> str:
  """A word with the folders that stand in braces."""
  for name, value in names.items():
    word = word.replace(f'{{{name}}}', value)
  return word


def all_rows() -> list[rows_lib.Row]:
  return [*file_rows.all_rows(), *flag_rows.all_rows()]


class HostileInputsTest(absltest.TestCase):

  @pytest.mark.slow
  def test_table(self):
    shared = make_shared(pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())))
    table = all_rows()
    self.assertGreaterEqual(len(table), 300)
    wrong = {row.name: said for row in table
             if (said := outcome(row, shared))}
    self.assertEqual(wrong, {})


if __name__ == '__main__':
  absltest.main()
