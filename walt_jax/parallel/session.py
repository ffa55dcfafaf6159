"""What a command runs on, in words for its first line."""
import importlib.metadata
import platform

import jax

import walt_jax
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost

# Packages whose versions decide what programs become, where they are there.
_PACKAGES = ('jax', 'jaxlib', 'libtpu', 'jax-cuda12-plugin',
             'jax-cuda13-plugin')


def say(command: str, mesh: jax.sharding.Mesh | None = None) -> None:
  """Prints the first line of a command, in the first process.

  Args:
    command: Name of the command, such as 'train'.
    mesh: What it runs on; None where it has no mesh of its own.
  """
  if multihost.is_main():
    print(f'walt {command}: {words(mesh)}', flush=True)


def words(mesh: jax.sharding.Mesh | None) -> str:
  """Devices, axes, processes and versions."""
  devices = jax.devices()
  where = (f'{len(devices)} x {devices[0].device_kind}' if mesh is None
           else mesh_lib.words(mesh))
  count = jax.process_count()
  return f'{where}; {count} process{"es" * (count > 1)}; {versions()}'


def versions() -> str:
  """'walt 0.1.0, Python 3.12.4, jax 0.10.2, ..', of what is installed."""
  found = [f'walt {walt_jax.__version__}',
           f'Python {platform.python_version()}']
  for name in _PACKAGES:
    try:
      found.append(f'{name} {importlib.metadata.version(name)}')
    except importlib.metadata.PackageNotFoundError:
      continue
  return ', '.join(found)
