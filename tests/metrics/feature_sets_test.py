"""Statistics do not depend on batches, devices or the order of merging."""
import dataclasses
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.core import moments as moments_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import frechet
from walt_jax.pretrained import networks

_WIDTH = 6


def make_network(batch_size: int = 1, devices=None, name: str = 'tiny',
                 size: tuple[int, int] = (9, 4),
                 **fields) -> feature_network.FeatureNetwork:
  """A network small enough to look through, of clips of (frames, pixels)."""
  frames, pixels = size
  weights = np.random.default_rng(0).normal(
      size=(frames * pixels * pixels * 3, _WIDTH)).astype(np.float32)

  def apply(params, clips):
    x = clips.reshape(len(clips), -1).astype(jnp.float32) / 255
    y = jnp.tanh(jnp.matmul(x, params, precision='highest'))
    return dict(features=y, spatial=y[:, :2], logits=3 * y)

  return feature_network.FeatureNetwork(
      weights, networks.NetworkInfo(name, 'test', 'f' * 64), 'none', apply,
      dict(features=_WIDTH, spatial=2, logits=_WIDTH),
      batch_size=batch_size, devices=devices,
      **dict(min_frames=9) | fields)


def _clips(count=23) -> np.ndarray:
  return np.random.default_rng(1).integers(
      0, 256, (count, 9, 4, 4, 3)).astype(np.uint8)


def collected() -> feature_sets.FeatureSet:
  """Statistics of a few clips."""
  return feature_sets.collect(_clips(3), make_network())


class FeatureSetsTest(parameterized.TestCase):

  def assert_same(self, a, b, rtol=1e-9):
    self.assertEqual(a.count, b.count)
    self.assertEqual(a.content, b.content)
    np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=rtol)
    np.testing.assert_allclose(a.moments.scatter, b.moments.scatter,
                               rtol=rtol, atol=rtol)

  @parameterized.product(batch_size=(1, 4, 64), devices=(1, 8))
  def test_batches_and_devices_change_nothing(self, batch_size, devices):
    clips = _clips()
    plain = feature_sets.collect(clips, make_network())
    found = feature_sets.collect(
        clips, make_network(batch_size, jax.devices()[:devices]),
        keep=('features', 'logits'))
    # Products of other sizes may add in another order.
    self.assert_same(found, plain, rtol=1e-5)
    np.testing.assert_allclose(3 * found.kept['features'],
                               found.kept['logits'], rtol=1e-6)
    self.assertLen(found.kept['features'], 23)

  def test_a_clips_features_do_not_depend_on_its_neighbours(self):
    network = make_network(4, max_cached=0)
    clips = _clips(8)
    whole = network.features(clips)
    np.testing.assert_allclose(
        network.features(clips[5:6]), whole[5:6], rtol=1e-6)

  def test_merged_equals_whole_and_order_does_not_matter(self):
    clips, network = _clips(), make_network()
    whole = feature_sets.collect(clips, network)
    parts = [feature_sets.collect(clips[i:j], network)
             for i, j in ((0, 5), (5, 6), (6, 23))]
    merged = moments_lib.Moments.empty(_WIDTH)
    for part in parts:
      merged = merged.merge(part.moments)
    scatter = whole.moments.scatter
    np.testing.assert_allclose(merged.scatter, scatter,
                               atol=1e-9 * np.abs(scatter).max())
    self.assert_same(feature_sets.collect(clips[::-1], network), whole)
    other = feature_sets.collect(clips[:22], network)
    self.assertNotEqual(other.content, whole.content)

  def test_round_trip_and_other_networks_statistics(self):
    clips, network = _clips(), make_network()
    found = feature_sets.collect(clips, network)
    info = dataclasses.asdict(network.info)
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'real.npz'
      found.save(path)
      self.assertTrue(feature_sets.is_statistics(path))
      again = feature_sets.load(path, network=info, preprocessing='none')
      self.assert_same(again, found, rtol=0)
      np.testing.assert_array_equal(again.others['spatial'].scatter,
                                    found.others['spatial'].scatter)
      for change in (dict(network=info | dict(name='other')),
                     dict(network=info | dict(sha256='0' * 64)),
                     dict(preprocessing='another')):
        with self.assertRaisesRegex(errors.UserError, 'compute them anew'):
          feature_sets.load(
              path, **(dict(network=info, preprocessing='none') | change))
      self.assertEqual([p.name for p in path.parent.iterdir()], ['real.npz'])

  def test_statistics_of_other_programs(self):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 4))
    info = dict(name='inception-v3-2015-12-05', source='path', sha256='a')
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'reference.npz'
      np.savez(path, mu=x.mean(0), sigma=np.cov(x, rowvar=False),
               mu_s=x.mean(0), sigma_s=np.cov(x, rowvar=False))
      found = feature_sets.load(path, network=info, preprocessing='p')
      with self.assertRaisesRegex(errors.UserError, 'InceptionV3'):
        feature_sets.load(path, network=info | dict(name='tiny'),
                          preprocessing='p')
    self.assertTrue(found.is_external)
    y = moments_lib.Moments.of(rng.normal(size=(60, 4)))
    self.assertAlmostEqual(
        frechet.frechet_distance(found.moments, y),
        frechet.frechet_distance(moments_lib.Moments.of(x), y), places=9)
    self.assertIn('spatial', found.others)

  def test_each_process_takes_every_other_clip(self):
    clips, network = _clips(7), make_network()
    seen = []
    for process in range(2):
      with (mock.patch.object(jax, 'process_index', lambda p=process: p),
            mock.patch.object(jax, 'process_count', lambda: 2)):
        checked = feature_sets._Checked(clips, network, None)
        seen.append(list(checked))
        self.assertEqual(checked.total, len(seen[-1]))
    np.testing.assert_array_equal(seen[0], clips[::2])
    np.testing.assert_array_equal(seen[1], clips[1::2])

  def test_the_cache_is_bounded(self):
    network = make_network(max_cached=3)
    network.features(_clips(9))
    self.assertLen(network.cache, 3)

  @parameterized.parameters(
      (np.zeros((1, 9, 4, 4, 3), np.float32), 'uint8'),
      (np.zeros((1, 9, 4, 4), np.uint8), 'uint8'),
      (np.zeros((1, 8, 4, 4, 3), np.uint8), 'at least 9'),
      (np.zeros((0, 9, 4, 4, 3), np.uint8), 'empty'))
  def test_unfit_clips_are_refused(self, clips, message):
    with self.assertRaisesRegex(ValueError, message):
      feature_sets.collect(clips, make_network())

  def test_mixed_sizes_are_refused(self):
    clips = [np.zeros((9, 4, 4, 3), np.uint8), np.zeros((9, 4, 5, 3), np.uint8)]
    with self.assertRaisesRegex(ValueError, 'unlike shapes'):
      feature_sets.collect(clips, make_network())

  def test_the_header_is_plain_json(self):
    found = feature_sets.collect(_clips(3), make_network())
    with tempfile.TemporaryDirectory() as folder:
      found.save(f'{folder}/a.npz')
      with np.load(f'{folder}/a.npz', allow_pickle=False) as file:
        header = json.loads(str(file['header']))
    self.assertEqual(header['network']['name'], 'tiny')
    self.assertEqual((header['frames'], header['content']),
                     (9, found.content))


if __name__ == '__main__':
  absltest.main()
