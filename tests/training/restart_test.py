"""A restart finds its programs where the first start has left them."""
import collections
import tempfile

from absl.testing import absltest
import jax
from jax.experimental.compilation_cache import compilation_cache

from tests.training import toy_stage
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.training import checkpoints as checkpoints_lib
from walt_jax.training import logging as logging_lib
from walt_jax.training import loop

_PREFIX = '/jax/compilation_cache/'


class RestartTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir, folder = (
        self.enterContext(tempfile.TemporaryDirectory()) for _ in range(2))
    self.keep_programs(folder)
    self.events = collections.Counter()
    jax.monitoring.register_event_listener(
        lambda event, **_: self.events.update([event.removeprefix(_PREFIX)]))

  def keep_programs(self, folder):
    """Keeps every program there, however small, until the test's end."""
    for name, value in (
        ('jax_compilation_cache_dir', folder),
        ('jax_persistent_cache_min_compile_time_secs', 0.0),
        ('jax_persistent_cache_min_entry_size_bytes', -1)):
      self.addCleanup(jax.config.update, name, getattr(jax.config, name))
      jax.config.update(name, value)
    compilation_cache.reset_cache()
    self.addCleanup(compilation_cache.reset_cache)

  def start(self, num_steps) -> collections.Counter:
    """Trains as a new process would, which holds no compiled program."""
    jax.clear_caches()
    self.events.clear()
    loop.run(
        toy_stage.make_stage(), toy_stage.batches,
        mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1]),
        loop.LoopOptions(num_steps, log_every=2),
        checkpoints_lib.Checkpoints(self.workdir, {}),
        logging_lib.Writer(self.workdir, writers=()))
    return +self.events

  def test_a_restart_compiles_nothing(self):
    self.assertGreater(self.start(2)['cache_misses'], 2)
    # What only restores a checkpoint comes anew: nothing of what trains.
    self.assertGreaterEqual(self.start(4)['cache_hits'], 2)
    last = self.start(6)
    self.assertGreaterEqual(last['cache_hits'], 2)
    self.assertEqual(last['cache_misses'], 0)


if __name__ == '__main__':
  absltest.main()
