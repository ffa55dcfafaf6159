"""Compiled programs, kept between runs in a folder of the user's.

A second run of the same shapes on the same versions starts at once. The
variables of JAX decide, where they are set: `JAX_COMPILATION_CACHE_DIR` names
another folder, `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing,
`JAX_COMPILATION_CACHE_MAX_SIZE` is a limit that JAX itself keeps.
"""
from collections.abc import Iterator
import contextlib
import hashlib
import os
import pathlib
import platform
import sys

_VARIABLE = 'JAX_COMPILATION_CACHE_DIR'
_SHORTEST = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_LIMIT = 'JAX_COMPILATION_CACHE_MAX_SIZE'
# JAX keeps what took a second; much of what a command waits for takes less.
_SECONDS = 0.1
# JAX's own limit needs a package more, and a lock that all processes wait for.
_MAX_BYTES = 4 * 2**30


def enable() -> str | None:
  """Makes JAX keep programs, if no variable says otherwise.

  The folder is readable by its owner alone: who writes there decides what
  later runs execute. It is brought below 4 GiB first; what was not used for
  the longest time goes.

  Returns:
    A line that says why nothing is kept, or None.
  """
  if _VARIABLE in os.environ or 'JAX_ENABLE_COMPILATION_CACHE' in os.environ:
    return None
  folder = default_folder()
  try:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    writable = os.access(folder, os.W_OK | os.X_OK)
    owned = folder.stat().st_uid == os.getuid()
  except OSError:
    writable = owned = False
  if not (writable and owned):
    return (f'compiled programs are not kept: {folder} cannot be written; '
            f'name another folder by {_VARIABLE}')
  if _LIMIT not in os.environ:
    prune(folder, _MAX_BYTES)
  os.environ[_VARIABLE] = str(folder)
  seconds = float(os.environ.setdefault(_SHORTEST, str(_SECONDS)))
  jax = sys.modules.get('jax')
  if jax:  # It has read the environment already.
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', seconds)
  return None


def prune(folder: pathlib.Path, max_bytes: int) -> None:
  """Deletes the programs that were not used for the longest time.

  Another process may use the folder meanwhile: it compiles what it misses.

  Args:
    folder: Where JAX keeps programs.
    max_bytes: What those that stay may take.
  """
  total = 0
  for file, status in sorted(_programs(folder), reverse=True, key=lambda entry:
                             max(entry[1].st_atime, entry[1].st_mtime)):
    total += status.st_size
    if total > max_bytes:
      with contextlib.suppress(OSError):
        file.unlink()


def _programs(
    folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, os.stat_result]]:
  """Every file that holds a program."""
  for file in folder.glob('*-cache'):
    with contextlib.suppress(OSError):  # Another process has deleted it.
      yield file, file.stat()


def default_folder() -> pathlib.Path:
  """One for each kind of processor, since homes are shared by machines.

  XLA compiles for the processor at hand, and programs for another may stop at
  an instruction that this one lacks.
  """
  caches = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(caches, 'walt_jax', 'programs', _processor())


def _processor() -> str:
  """A name for what the processor can do."""
  features = [platform.machine(), platform.processor()]
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    features += sorted({
        line for line in info.read_text().splitlines()
        if line.startswith(('model name', 'flags', 'Features'))})
  digest = hashlib.sha256('\n'.join(features).encode()).hexdigest()
  return f'{platform.machine()}-{digest[:12]}'
