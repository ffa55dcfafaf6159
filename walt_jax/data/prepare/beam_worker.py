"""A worker process of Beam's local runner, tied to the process it works for.

`python -m walt_jax.data.prepare.beam_worker PARENT`
"""
import runpy
import sys

from walt_jax.core import workers

if __name__ == '__main__':
  # Before Beam is imported, which takes seconds.
  workers.begin_of(int(sys.argv.pop()))
  runpy.run_module('apache_beam.runners.worker.sdk_worker_main',
                   run_name='__main__')
