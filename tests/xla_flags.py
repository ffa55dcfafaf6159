"""XLA's flags for tests: whose programs run for milliseconds.

Compiling them is most of the time of all tests. Without fusion emitters, LLVM's
optimisations and shares for threads that are busy anyhow, it takes a fifth: 2.5
seconds of a core in place of 12.6 for the step of a tiny denoiser. Numbers
differ in the last bits, and what is computed for long takes longer: a test for
which either matters runs a process of its own with `flags(count, quick=False)`.
"""
from importlib import metadata
import os

_DEVICES = '--xla_force_host_platform_device_count'
# A flag that XLA does not know ends the process; later ones have no choice.
_HAS_CHOICE_OF_EMITTERS = metadata.version('jaxlib').startswith('0.10.')
_QUICK = (
    *(('--xla_cpu_use_fusion_emitters=false',) if _HAS_CHOICE_OF_EMITTERS
      else ()),
    '--xla_backend_optimization_level=0',
    '--xla_cpu_parallel_codegen_split_count=1')


def flags(num_devices: int, quick: bool = True) -> str:
  """A value of XLA_FLAGS that simulates so many devices."""
  return ' '.join((f'{_DEVICES}={num_devices}', *(_QUICK if quick else ())))


def environment(num_devices: int, quick: bool = True) -> dict[str, str]:
  """Environment of a process that a test starts."""
  return os.environ | {'JAX_PLATFORMS': 'cpu',
                       'XLA_FLAGS': flags(num_devices, quick)}


def set_default(num_devices: int) -> None:
  """Sets the flags of this process, apart from those a user has given.

  Call it before JAX is imported.
  """
  given = os.environ.get('XLA_FLAGS', '').split()
  names = [flag.partition('=')[0] for flag in given]
  os.environ['XLA_FLAGS'] = ' '.join(given + [
      flag for flag in flags(num_devices).split()
      if flag.partition('=')[0] not in names])
