"""Shared set-up: eight simulated devices, quick compilation, its cache."""
import gc
import os
import pathlib
import shutil
import tempfile
import warnings

import pytest

from tests import xla_flags

# Tests of one device take the first; eight cost them nothing.
xla_flags.set_default(num_devices=8)
# Tracing allocates millions of objects that live on: by default a quarter of
# its time is the collector's. Peak memory is the same.
gc.set_threshold(50_000, 20, 10)

# Whole runs: every test of these folders takes long.
_SLOW = ('e2e', 'parity')

# Seconds of processor time, of children too, beyond which a test must be slow.
_LIMIT = 20.0

_ROOT = pathlib.Path(__file__).resolve().parent.parent
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR',
                      str(_ROOT / '.cache' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

from walt_jax.core import host_memory  # noqa: E402 - imports no JAX.

host_memory.keep_freed()

from tests import lowering_context  # noqa: E402 - imports JAX.
from tests import two_ends  # noqa: E402

lowering_context.share()


def pytest_configure(config):
  """Names a folder that this process and its workers share."""
  if 'WALT_TEST_SCRATCH' not in os.environ:
    os.environ['WALT_TEST_SCRATCH'] = folder = tempfile.mkdtemp(
        prefix='walt_tests_')
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items):
  """Marks the tests of whole runs as slow, and orders the files."""
  for item in items:
    folder = item.path.relative_to(_ROOT / 'tests').parts[0]
    if folder in _SLOW:
      item.add_marker(pytest.mark.slow)
  items[:] = two_ends.ordered(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """How `make test` shares the files among its processes."""
  return two_ends.Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
  """Says which tests take long and are not marked; under CI they fail."""
  began = _processor_seconds()
  result = yield
  seconds = _processor_seconds() - began
  if seconds > _LIMIT and not item.get_closest_marker('slow'):
    message = (f'{item.nodeid} took {seconds:.0f} s of a processor; make it '
               f'quicker, or mark it slow (over {_LIMIT:.0f} s)')
    if os.environ.get('CI'):
      raise AssertionError(message)
    warnings.warn(message, stacklevel=1)
  return result


def _processor_seconds() -> float:
  """Of this process and of its children that have ended."""
  return sum(os.times()[:4])
