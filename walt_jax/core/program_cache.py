"""Compiled programs, kept between runs in a folder of the user's.

A second run of the same shapes on the same versions starts at once. The
variables of JAX decide, where they are set: `JAX_COMPILATION_CACHE_DIR` names
another folder, `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
"""
import hashlib
import os
import pathlib
import platform
import sys

_VARIABLE = 'JAX_COMPILATION_CACHE_DIR'


def enable() -> str | None:
  """Makes JAX keep programs, if no variable says otherwise.

  The folder is readable by its owner alone: who writes there decides what
  later runs execute.

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
  os.environ[_VARIABLE] = str(folder)
  jax = sys.modules.get('jax')
  if jax:  # It has read the environment already.
    jax.config.update('jax_compilation_cache_dir', str(folder))
  return None


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
