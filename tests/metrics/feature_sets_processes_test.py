"""Two processes score what one does: every process gets the same result."""
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
import numpy as np

from tests import ports
from tests import xla_flags
from tests.metrics import feature_sets_test
from walt_jax.metrics import feature_sets

_PROGRAM = """
import sys
import jax
process, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(f'127.0.0.1:{port}', 2, process)
import numpy as np
from tests.metrics import feature_sets_test
from walt_jax.metrics import feature_sets
from walt_jax.parallel import multihost
clips = np.random.default_rng(1).integers(
    0, 256, (23, 9, 4, 4, 3)).astype(np.uint8)
network = feature_sets_test.make_network(2, jax.local_devices())
found = feature_sets.collect(clips, network, keep=('features',))
rows = np.arange(process * 100, process * 100 + 7 - 3 * process)[:, None]
np.savez(out, mean=found.moments.mean, scatter=found.moments.scatter,
         count=found.count, content=found.content, frames=found.frames,
         kept=found.kept['features'], chunks=multihost.interleave(rows, 4),
         scalars=multihost.gather(np.float64(process + 0.1)))
jax.distributed.shutdown()
"""


class ProcessesTest(absltest.TestCase):

  def test_two_processes_equal_one(self):
    root = pathlib.Path(__file__).parents[2]
    port = str(ports.free_port())
    env = xla_flags.environment(1) | dict(PYTHONPATH=str(root))
    with tempfile.TemporaryDirectory() as folder:
      files = [f'{folder}/{process}.npz' for process in range(2)]
      running = [subprocess.Popen(
          [sys.executable, '-c', _PROGRAM, str(process), port, file],
          env=env, cwd=root, stdout=subprocess.PIPE,
          stderr=subprocess.STDOUT, text=True)
                 for process, file in enumerate(files)]
      for process in running:
        output, _ = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 0, output)
      results = [dict(np.load(file)) for file in files]
    whole = feature_sets.collect(
        feature_sets_test._clips(), feature_sets_test.make_network(),
        keep=('features',))
    for found in results:
      self.assertEqual(int(found['count']), 23)
      self.assertEqual(str(found['content']), whole.content)
      self.assertEqual(int(found['frames']), 9)
      for name, expected in (('mean', whole.moments.mean),
                             ('scatter', whole.moments.scatter),
                             ('kept', whole.kept['features'])):
        np.testing.assert_allclose(found[name], expected, rtol=1e-5,
                                   atol=1e-5)
      # Chunks of 4: 0..3 of the first process, 4 of the second, then the rest.
      self.assertEqual(found['chunks'][:, 0].tolist(),
                       [0, 1, 2, 3, 100, 101, 102, 103, 4, 5, 6])
      self.assertEqual(found['scalars'].tolist(), [0.1, 1.1])
    np.testing.assert_array_equal(results[0]['scatter'],
                                  results[1]['scatter'])


if __name__ == '__main__':
  absltest.main()
