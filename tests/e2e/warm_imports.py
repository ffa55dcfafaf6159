"""What every process of `tests.e2e.warm` has imported."""
import gc
import importlib
import os

# As `clusters.started` tells processes of their own.
os.environ['JAX_PLATFORMS'] = 'cpu'

from tests import lowering_context  # noqa: E402 - imports JAX.

for _module in ('cli', 'joined', 'train', 'sample', 'evaluate', 'data'):
  importlib.import_module(f'walt_jax.commands.{_module}')
importlib.import_module('tests.e2e.cluster_metrics')

# As tests/conftest.py has it.
lowering_context.share()
gc.set_threshold(50_000, 20, 10)
gc.freeze()
