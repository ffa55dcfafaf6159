"""Real clips and files, for tests that need more than made-up ones.

The environment variable `WALT_TEST_DATA` names their folder; CONTRIBUTING.md
tells what it holds. Nothing of it is part of the repository.
"""
import os
import pathlib
import unittest

VARIABLE = 'WALT_TEST_DATA'


def path(name: str) -> pathlib.Path:
  """Returns a file or folder of the real data, such as 'ucf101'.

  Raises:
    SkipTest: If the user has none of it, or not this part.
    NotADirectoryError: If `WALT_TEST_DATA` names no folder.
  """
  root = os.environ.get(VARIABLE)
  if not root:
    raise unittest.SkipTest(
        f'needs real data: {VARIABLE} is not set (see CONTRIBUTING.md)')
  folder = pathlib.Path(root)
  if not folder.is_dir():
    raise NotADirectoryError(f'{VARIABLE}={root} is no folder')
  found = folder / name
  if not found.exists():
    raise unittest.SkipTest(
        f'needs real data: {VARIABLE} has no {name} (see CONTRIBUTING.md)')
  return found
