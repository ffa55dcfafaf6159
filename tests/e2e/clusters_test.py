"""`walt sample`, .. as 2 and 4 processes: equal to one; who is lost is named.
"""
import json
import os
import pathlib
import signal
import tempfile
import time
from typing import Any

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.e2e import clusters
from tests.e2e import tiny
from walt_jax.media import samples as samples_lib

# What differs from run to run, or says how many took part.
_FREE = ('directory', 'seconds', 'compile_seconds', 'processes', 'free_bytes')


def plain(value: Any) -> Any:
  """A JSON value without what may differ."""
  if isinstance(value, dict):
    return {name: plain(each) for name, each in value.items()
            if name not in _FREE}
  return [plain(each) for each in value] if isinstance(value, list) else value


class ClustersTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def cluster(self, count, *argv, supervised=True):
    return clusters.Cluster(
        self, self.folder / 'logs', count, *argv, supervised=supervised)

  def one(self, *argv):
    result = tiny.walt(*argv)
    self.assertEqual(result.code, 0, result.err)

  def assert_named(self, cluster, victim=1):
    """Kills a process; the others name it within the limit."""
    os.kill(clusters.child_of(cluster.processes[victim].pid), signal.SIGKILL)
    began = time.monotonic()
    self.assertEqual(cluster.codes(clusters.LIMIT),
                     [76] * len(cluster.processes))
    self.assertLess(time.monotonic() - began, clusters.LIMIT)
    for other in range(len(cluster.processes)):
      if other != victim:
        self.assertRegex(cluster.last_line(other),
                         f'process {victim} .*killed by SIGKILL.*Run the same')
        self.assertNotIn('Traceback', cluster.log(other))

  def sample(self, out, *argv):
    return ('sample', '--workdir', f'{tiny.run("base")},{tiny.run("sr")}',
            '--out', self.folder / out, '--steps', 2, '--noise_level', 0.2,
            '--all_stages', *argv)

  # Ten samples: batches of 3 as one process has them, the last one short.
  # Three samples: one each, and a process without any.
  @parameterized.parameters((2, 10, 3, 3), (4, 3, 8, 1))
  def test_samples(self, count, num_samples, batch_size, batch_of_one):
    asked = ('--label', 'two up', '--num_samples', num_samples, '--batch_size')
    cluster = self.cluster(count, *self.sample('all', *asked, batch_size),
                           supervised=count == 2)
    self.one(*self.sample('one', *asked, batch_of_one))
    cluster.check()
    ours, theirs = (samples_lib.read_samples(self.folder / name)
                    for name in ('all', 'one'))
    self.assertLen(ours.entries, num_samples)
    self.assertGreater(ours.clips().std(), 1)
    for one, other in zip(ours.entries, theirs.entries, strict=True):
      for stem in (one.stem, one.stages['base']):
        np.testing.assert_array_equal(ours.clip(stem), theirs.clip(stem))
      self.assertEqual(one, other)
    said = [plain(json.loads((self.folder / name / 'samples.json').read_text()))
            for name in ('all', 'one')]
    for each in said:
      del each['settings']['batch_size']
    self.assertEqual(*said)
    self.assertEqual(ours.settings['processes'], count)
    self.assertEqual(
        *(sorted(path.name for path in (self.folder / name).iterdir())
          for name in ('all', 'one')))

  def test_a_process_that_is_killed_while_it_samples_is_named(self):
    cluster = self.cluster(2, *self.sample(
        'lost', '--label', 'two up', '--num_samples', 10_000))
    cluster.wait_for(lambda: 'sampling: ' in cluster.log(0))
    self.assert_named(cluster)
    self.assertFalse((self.folder / 'lost').exists())

  def test_a_mistake_is_one_line_on_every_host(self):
    cluster = self.cluster(2, *self.sample('bad', '--label', 'no such'))
    self.assertEqual(cluster.codes(), [2, 2])
    for process in range(2):
      lines = cluster.log(process).splitlines()
      self.assertLen(lines, 1)
      self.assertIn("'no such' is no class", lines[0])

  def data(self, train, heldout):
    """A prepared set of clips like those that the tiny runs know."""
    folder = self.folder / 'data'
    self.one('data', 'render', 'moving_digits', '--split', 'train', '--num',
             train, '--heldout', heldout, '--size', 16, '--num_frames', 5,
             '--clips', 0, '--output', folder)
    return folder

  def latents(self, data, out, *argv):
    return ('data', 'prepare', '--latents', '--workdir', tiny.run('tokenizer'),
            '--input', data, '--output', self.folder / out, *argv)

  def test_latents(self):
    data = self.data(20, 6)  # A shard a split: one for each process.
    together = lambda: self.cluster(
        2, *self.latents(data, 'all'), supervised=False).check()
    together()
    self.one(*self.latents(data, 'one'))
    self.assertEqual(tiny.contents(self.folder / 'all'),
                     tiny.contents(self.folder / 'one'))
    together()  # The same again has nothing to do.
    self.assertEqual(tiny.contents(self.folder / 'all'),
                     tiny.contents(self.folder / 'one'))

  def test_a_process_that_is_killed_while_it_encodes_is_named(self):
    data = self.data(1500, 700)  # Three shards.
    cluster = self.cluster(2, *self.latents(data, 'lost'))
    unfinished = self.folder / 'lost' / '.unfinished'
    cluster.wait_for(lambda: list(unfinished.glob('.000001.records.partial*')))
    self.assert_named(cluster)
    self.assertNotEmpty(list(unfinished.glob('.000001.records.partial*')))
    # Together again: what is left over goes, and the rest is done.
    cluster = self.cluster(2, *self.latents(data, 'lost'))
    cluster.check()
    self.one(*self.latents(data, 'one'))
    self.assertEqual(tiny.contents(self.folder / 'lost'),
                     tiny.contents(self.folder / 'one'))

  def evaluate(self, name, metric, workdir, *argv):
    return ('evaluate', metric, '--workdir', workdir, '--json',
            self.folder / f'{name}.json', *argv)

  def real(self):
    path = self.folder / 'real.npy'
    np.save(path, np.random.default_rng(0).integers(
        0, 256, (30, 5, 16, 16, 3)).astype(np.uint8))
    return path

  def assert_same_score(self, name):
    """Scores sum in another order: equal to 1e-6, all else exactly."""
    ours, theirs = (json.loads((self.folder / f'{each}.json').read_text())
                    for each in (name, 'one'))
    self.assertEqual(ours.keys(), theirs.keys())
    for key in theirs:
      if key in ('value', 'values'):
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6)
      else:
        self.assertEqual(plain(ours[key]), plain(theirs[key]), key)
    return theirs

  # Chunks of 8 of 20 samples: three of them, so that the last of four
  # processes has nothing to draw.
  @parameterized.parameters(2, 4)
  def test_a_score_of_drawn_samples(self, count):
    base, real = tiny.run('base'), self.real()

    def asked(name):
      return self.evaluate(
          name, 'tests.e2e.cluster_metrics:Colours', base, '--real', real,
          '--frames', 1, '--num_samples', 20, '--steps', 2, '--also', 'kid',
          '--interval', 20, '--cache', self.folder / f'cache_{name}',
          '--save_samples', self.folder / f'{name}.npz', '--allow_code')

    cluster = self.cluster(count, *asked('all'), supervised=count == 2)
    self.one(*asked('one'))
    cluster.check()
    self.assertGreater(self.assert_same_score('all')['value'], 0)
    np.testing.assert_array_equal(
        *(np.load(self.folder / f'{name}.npz')['arr_0']
          for name in ('all', 'one')))

  def test_reconstruction(self):
    asked = lambda name: self.evaluate(
        name, 'reconstruction', tiny.run('tokenizer'), '--real', self.real(),
        '--batch_size', 4)
    cluster = self.cluster(2, *asked('all'), supervised=False)
    self.one(*asked('one'))
    cluster.check()
    self.assertGreater(self.assert_same_score('all')['value'], 5)

  def test_a_process_that_is_killed_while_it_scores_is_named(self):
    cache = self.folder / 'cache'
    cluster = self.cluster(2, *self.evaluate(
        'lost', 'tests.e2e.cluster_metrics:Colours', tiny.run('base'),
        '--real', self.real(), '--frames', 1, '--num_samples', 50_000,
        '--steps', 2, '--cache', cache, '--allow_code'))
    cluster.wait_for(lambda: list(cache.glob('samples_*/*.npz')))
    self.assert_named(cluster)
    self.assertFalse((self.folder / 'lost.json').exists())

  def test_raw_files_are_for_one_machine(self):
    (self.folder / 'raw').mkdir()
    cluster = self.cluster(
        2, *self.latents(self.folder / 'raw', 'out'), supervised=False)
    self.assertEqual(cluster.codes(), [2, 2])
    for process in range(2):
      self.assertIn('prepare it on one machine first', cluster.log(process))


if __name__ == '__main__':
  absltest.main()
