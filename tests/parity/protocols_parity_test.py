"""Protocols from pixels to the score against the peers' own arithmetic.

Networks have random weights in PyTorch; resizing is PyTorch's, or SciPy's
where it is TensorFlow 1's; distances and scores follow the sources' text.
"""
import dataclasses
import pathlib
import tempfile

from absl.testing import parameterized
import numpy as np
import pytest

torch = pytest.importorskip('torch')
from scipy import linalg  # noqa: E402
from scipy import ndimage  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from tests.parity import evaluation_parity_test as peers  # noqa: E402
from walt_jax.core import moments  # noqa: E402
from walt_jax.metrics import feature_network  # noqa: E402
from walt_jax.metrics import feature_sets  # noqa: E402
from walt_jax.metrics import image_features  # noqa: E402
from walt_jax.metrics import protocols  # noqa: E402
from walt_jax.metrics import scores  # noqa: E402
from walt_jax.metrics import video_features  # noqa: E402


def _tf1(clips: np.ndarray, size: int) -> np.ndarray:
  """`resize_bilinear` without aligned corners: output i reads i * in / out."""
  rows, columns = (np.arange(size) * extent / size
                   for extent in clips.shape[2:4])
  where = np.meshgrid(rows, columns, indexing='ij')
  out = np.empty((*clips.shape[:2], size, size, 3), np.float32)
  for index in np.ndindex(*clips.shape[:2]):
    for channel in range(3):
      out[(*index, ..., channel)] = ndimage.map_coordinates(
          clips[(*index, ..., channel)].astype(np.float64), where, order=1,
          mode='nearest')
  return out


def _half_pixel(clips: np.ndarray, size: int) -> np.ndarray:
  """StyleGAN-V's detector: PyTorch's interpolation."""
  frames = torch.from_numpy(clips).float().flatten(0, 1).permute(0, 3, 1, 2)
  frames = F.interpolate(frames, (size, size), mode='bilinear',
                         align_corners=False)
  return frames.permute(0, 2, 3, 1).numpy().reshape(
      *clips.shape[:2], size, size, 3)


_WAYS = {
    'ucf101-magvit': lambda clips: _tf1(clips, 224),
    'ucf101-zeroshot-fvd': lambda clips: _tf1(clips, 224),
    'ucf101-rfvd': lambda clips: _tf1(clips, 224),
    'k600-magvit': lambda clips: _tf1(_tf1(clips, 64), 224),
    'ucf101-styleganv': lambda clips: _half_pixel(clips, 224)}


def _tfgan_distance(a: np.ndarray, b: np.ndarray) -> float:
  """TF-GAN's `frechet_classifier_distance_from_activations`."""
  a, b = a.astype(np.float64), b.astype(np.float64)
  sigma, sigma_w = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
  root = linalg.sqrtm(sigma)
  product = linalg.sqrtm(root @ sigma_w @ root)
  return float(np.trace(sigma + sigma_w) - 2 * np.trace(np.real(product))
               + np.square(a.mean(0) - b.mean(0)).sum())


def _styleganv_distance(a: np.ndarray, b: np.ndarray) -> float:
  """StyleGAN-V's `compute_fvd`, its moments added up in float64."""
  found = []
  for x in (b.astype(np.float64), a.astype(np.float64)):  # Generated first.
    mean = x.sum(0) / len(x)
    found.append((mean, x.T @ x / len(x) - np.outer(mean, mean)))
  (mu_gen, sigma_gen), (mu_real, sigma_real) = found
  root = linalg.sqrtm(sigma_gen @ sigma_real)
  return float(np.real(np.square(mu_gen - mu_real).sum() + np.trace(
      sigma_gen + sigma_real - root * 2)))


def _feature_set(features: np.ndarray, **kept: np.ndarray):
  return feature_sets.FeatureSet(
      moments.Moments.of(features), 16, dict(name='x'), 'y', content='1',
      kept=kept)


class ProtocolsParityTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))
    self.rng = np.random.default_rng(0)

  def close(self, ours: np.ndarray, theirs: np.ndarray):
    self.assertGreater(theirs.std(), 1e-3)
    self.assertLess(np.abs(ours - theirs).max() / np.abs(theirs).max(), 1e-4)

  def test_features_of_every_preprocessing(self):
    model = peers.randomise(peers.TorchI3D())
    path = self.folder / 'i3d.pt'
    torch.save(model.state_dict(), path)
    clips = self.rng.integers(0, 256, (1, 16, 40, 48, 3)).astype(np.uint8)
    names = {name: protocol for name, protocol in protocols.PROTOCOLS.items()
             if protocol.preprocessing in video_features.PREPROCESSINGS}
    self.assertEqual(set(names), set(_WAYS))
    done = {}
    for name, protocol in names.items():
      if protocol.preprocessing in done:
        continue
      x = torch.from_numpy(_WAYS[name](clips)).permute(0, 4, 1, 2, 3)
      with torch.no_grad():
        done[protocol.preprocessing] = model(x * (2 / 255) - 1).numpy()
      network = video_features.load_network(
          path, preprocessing=protocol.preprocessing)
      with self.subTest(name):
        self.close(network.features(clips), done[protocol.preprocessing])
    values = list(done.values())
    self.assertLen(values, 3)
    for other in values[1:]:  # The ways differ, and by how much is seen.
      self.assertGreater(np.abs(values[0] - other).max(), 1e-3)

  @parameterized.parameters(
      *((name, _styleganv_distance if name == 'ucf101-styleganv' else
         _tfgan_distance) for name in _WAYS))
  def test_distances_of_every_repeat(self, name, distance):
    protocol = protocols.get(name)
    repeats = range(protocol.repeats)
    made = [self.rng.normal(size=(40, 8)) @ self.rng.normal(size=(8, 8))
            for _ in repeats]
    real = [self.rng.normal(size=(40, 8)) + i for i in repeats]
    if protocol.draw is None:  # One real set for all.
      real = real[:1]
    result = scores.frechet_result(
        'fvd', list(map(_feature_set, real)), list(map(_feature_set, made)),
        scores.Options(protocol))
    expected = [distance(real[i % len(real)], made[i]) for i in repeats]
    np.testing.assert_allclose(result['values'], expected, rtol=1e-6)
    self.assertAlmostEqual(result['value'], np.mean(expected), places=5)
    self.assertAlmostEqual(result['std'], np.std(expected), places=5)

  def test_inception_scores_of_c3d(self):
    """TGAN-v2's `inception_score` of one split, the mean of its loops."""
    model = peers.random_c3d()
    with torch.no_grad():
      model['fc8'].weight.mul_(0.05)  # Else one class is all there is.
    mean = self.rng.uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
    files = peers.save_c3d(self.folder, model, mean)
    clips = self.rng.integers(0, 256, (4, 16, 40, 50, 3)).astype(np.uint8)
    clips[1] //= 4
    clips[3] = clips[3, :1]
    with torch.no_grad():
      probabilities = F.softmax(
          peers.c3d_logits(model, mean, clips), -1).double().numpy()
    expected = []
    for part in np.split(probabilities + 1e-20, 2):
      kl = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
      expected.append(np.exp(kl.sum(1).mean()))
    network = image_features.load_c3d(*map(str, files))
    sets = [feature_sets.collect(each, network,
                                 keep=[feature_network.LOGITS])
            for each in np.split(clips, 2)]
    for name in ('ucf101-is', 'ucf101-is-magvit', 'ucf101-zeroshot-is'):
      protocol = dataclasses.replace(protocols.get(name), split_size=2)
      result = scores.inception_result('is', sets, scores.Options(protocol))
      np.testing.assert_allclose(result['values'], expected, rtol=1e-4)
      self.assertEqual(result['num_splits'], 1)
    self.assertGreater(max(expected), 1.01)


if __name__ == '__main__':
  pytest.main([__file__])
