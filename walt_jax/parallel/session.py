"""What a command runs on, in words for its first line."""
import importlib.metadata
import platform

import jax

import walt_jax
from walt_jax.parallel import mesh as mesh_lib

# Packages whose versions decide what programs become, where they are there.
_PACKAGES = ('jax', 'jaxlib', 'libtpu', 'jax-cuda12-plugin',
             'jax-cuda13-plugin')


def words(mesh: jax.sharding.Mesh) -> str:
  """Devices, axes, processes and versions."""
  count = jax.process_count()
  return (f'{mesh_lib.words(mesh)}; {count} process{"es" * (count > 1)}; '
          f'{versions()}')


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
