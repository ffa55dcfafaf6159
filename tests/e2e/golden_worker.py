"""Uses the golden files in a process with XLA's own options.

  python -m tests.e2e.golden_worker

reads the name of a use a line and answers each with a line of JSON: what came
of it, or the error. `Worker` starts one and asks it.
"""
import json
import os
import subprocess
import sys
import traceback
from typing import Any

from tests import xla_flags
from tests.e2e import tiny
from tests.golden import make


class Worker:
  """A process that answers until it is closed."""

  def __init__(self):
    self._process = subprocess.Popen(
        [sys.executable, '-m', 'tests.e2e.golden_worker'], cwd=tiny.ROOT,
        env=xla_flags.environment(8, quick=False), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

  def use(self, name: str) -> Any:
    """What comes of a use; AssertionError with what it raised otherwise."""
    print(name, file=self._process.stdin, flush=True)
    answer = json.loads(self._process.stdout.readline())
    if 'error' in answer:
      raise AssertionError(answer['error'])
    return answer['found']

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()


def walt(*argv: Any) -> str:
  """Runs a command in this process and returns what it printed."""
  result = tiny.walt(*argv)
  if result.code:
    raise AssertionError(f'exit code {result.code}:\n{result.err}')
  return result.out


def main() -> None:
  """Answers; whatever else is printed goes to standard error."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  for line in sys.stdin:
    try:
      answer = dict(found=make.use_copy(line.strip(), walt))
    except (Exception, SystemExit):
      answer = dict(error=traceback.format_exc())
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == '__main__':
  main()
