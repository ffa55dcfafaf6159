"""Trains, resumes and samples in a minute; says on which versions.

A DeprecationWarning that a call of walt_jax causes is an error.

  python tests/smoke.py
"""
from importlib import metadata
import pathlib
import platform
import sys
import tempfile
import warnings

from walt_jax.commands import cli

_CONFIG = pathlib.Path(__file__).parents[1] / 'configs/quickstart.py'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain',
             'numpy')


def main() -> int:
  """Returns 0, or the exit code of the first command that fails."""
  warnings.filterwarnings(
      'error', category=DeprecationWarning, module='walt_jax')
  print(f'Python {platform.python_version()}', *(
      f'{name} {metadata.version(name)}' for name in _PACKAGES), sep=', ')
  with tempfile.TemporaryDirectory() as folder:
    train = ('train', '--config', f'{_CONFIG}:smoke',
             '--workdir', f'{folder}/run')
    for command in (
        train,
        (*train, '--config.train.num_steps=6'),
        ('sample', '--workdir', f'{folder}/run', '--out', f'{folder}/samples',
         '--num_samples', '2', '--steps', '2')):
      print('$ walt', *command, flush=True)
      code = cli.main(command)
      if code:
        return code
  return 0


if __name__ == '__main__':
  sys.exit(main())
