"""What every benchmark does: a process a case, and a result that says where.

A benchmark runs each case as `python -m benchmarks.NAME .. --one CASE`, a
process of its own, so that peak memory and compiled programs are the case's
alone. The child prints one line of JSON, its row. The parent gathers the rows
in benchmarks/results/NAME.json with the command, the commit, the device and
the versions that they were measured with.
"""
from collections.abc import Mapping, Sequence
from importlib import metadata
import json
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
from typing import Any

from walt_jax.core import files

_ROOT = pathlib.Path(__file__).parents[1]
RESULTS = _ROOT / 'benchmarks' / 'results'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
_MAX_ERROR = 3000  # Characters of a child's last words.

Row = dict[str, Any]


def in_process(module: str, arguments: Sequence[str],
               environment: Mapping[str, str] | None = None) -> Row:
  """Runs a case in a child and returns its row.

  Args:
    module: The benchmark, such as 'benchmarks.plan_memory'.
    arguments: The child's arguments.
    environment: Variables that the child gets besides this process's.

  Returns:
    What the child printed last; `dict(error=..)` of one that failed, so that
    the other cases still run.
  """
  done = subprocess.run(
      [sys.executable, '-m', module, *arguments], capture_output=True,
      text=True, cwd=_ROOT, env=os.environ | dict(environment or {}))
  if done.returncode:
    return dict(error=done.stderr[-_MAX_ERROR:])
  lines = done.stdout.splitlines()
  try:
    return json.loads(lines[-1])
  except (IndexError, ValueError):
    return dict(error=f'no row at the end of: {done.stdout[-_MAX_ERROR:]}')


def print_row(row: Row) -> None:
  """Ends a child: its row, with the devices that it ran on."""
  import jax  # The parent must not hold the device.
  devices = jax.devices()
  print(json.dumps(dict(
      platform=devices[0].platform, device=devices[0].device_kind,
      num_devices=len(devices)) | row))


def write(name: str, rows: Mapping[str, Any], *,
          path: str | os.PathLike | None = None) -> pathlib.Path:
  """Writes rows by case, and how they came to be, whole or not at all.

  Args:
    name: The benchmark's name.
    rows: A row, or several, by case.
    path: File to write; benchmarks/results/NAME.json by default.
  """
  path = pathlib.Path(path or RESULTS / f'{name}.json')
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(path, dict(made=_made(), rows=dict(rows)))
  return path


def _made() -> Row:
  return dict(
      command=shlex.join(['python', '-m', *_module(), *sys.argv[1:]]),
      commit=commit(),
      changed=bool(_git('status', '--porcelain', '--untracked-files=no')),
      python=platform.python_version(),
      system=f'{platform.system()} {platform.machine()}',
      cpus=os.cpu_count(),
      versions={name: metadata.version(name) for name in _PACKAGES})


def commit() -> str:
  """The commit of this checkout. A machine that has the files alone is told
  by GIT_COMMIT whose they are."""
  return os.environ.get('GIT_COMMIT') or _git('rev-parse', 'HEAD')


def _module() -> list[str]:
  path = pathlib.Path(sys.argv[0]).resolve()
  if path.is_relative_to(_ROOT):
    return ['.'.join(path.relative_to(_ROOT).with_suffix('').parts)]
  return [path.stem]


def _git(*arguments: str) -> str:
  """What git says of this checkout; '' outside of one, or without git."""
  if not shutil.which('git'):
    return ''
  done = subprocess.run(['git', *arguments], cwd=_ROOT, capture_output=True,
                        text=True)
  return done.stdout.strip() if not done.returncode else ''
