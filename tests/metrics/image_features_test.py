"""FID end to end, from a graph file and images to the result."""
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import pytest

from tests.pretrained import inception_test
from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.metrics import image_features

_COUNT = 5  # Each has three neighbours, and one more.


class ImageFeaturesTest(absltest.TestCase):
  """Random weights: what is compared is what the evaluator would be told."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory()))
    cls.graph = cls.folder / 'classify_image_graph_def.pb'
    cls.graph.write_bytes(inception_test.graph_bytes(
        inception_test.random_state()))
    cls.images = np.random.default_rng(0).integers(
        0, 256, (_COUNT, 24, 20, 3)).astype(np.uint8)
    np.savez(cls.folder / 'samples.npz', cls.images)

  def evaluate(self, metric, *argv):
    out = self.folder / 'result.json'
    code = cli.main(['evaluate', metric, '--json', str(out), '--overwrite',
                     '--network', str(self.graph), *map(str, argv)])
    self.assertEqual(code, 0)
    return json.loads(out.read_text())

  def share_networks(self):
    """Lets calls share a network: it computes equal images' features once."""
    networks, load = {}, image_features.load_inception

    def load_once(path, preprocessing=image_features.TF1_299, **form):
      key = path, preprocessing
      if key not in networks:
        networks[key] = load(path, preprocessing=preprocessing, **form)
      return networks[key]

    self.enterContext(
        mock.patch.object(image_features, 'load_inception', load_once))

  @pytest.mark.slow
  def test_images_against_their_own_reference_file(self):
    self.share_networks()
    network = image_features.load_inception(str(self.graph))
    outputs = list(network.batches(self.images[:, None]))
    joined = {name: np.concatenate([o[name] for o in outputs]).astype(float)
              for name in network.widths}
    pooled, spatial = joined['features'], joined['spatial']
    reference = self.folder / 'reference.npz'
    np.savez(reference, arr_0=self.images, mu=pooled.mean(0),
             sigma=np.cov(pooled, rowvar=False), mu_s=spatial.mean(0),
             sigma_s=np.cov(spatial, rowvar=False))
    result = self.evaluate(
        'fid', '--real', reference, '--generated', self.folder / 'samples.npz',
        '--also', 'sfid,is,precision_recall,kid', '--splits', 2)
    self.assertEqual(result['metric'], 'fid')
    self.assertIsNone(result['num_real'])
    self.assertEqual(result['num_generated'], _COUNT)
    self.assertEqual(result['network']['name'], 'inception-v3-2015-12-05')
    self.assertEqual(result['preprocessing'], 'tf1-bilinear-299')
    for name, features in (('value', pooled), ('sfid', spatial)):
      scale = np.trace(np.cov(features, rowvar=False))
      self.assertAlmostEqual(result[name] / scale, 0, delta=1e-5)
    self.assertEqual((result['precision'], result['recall']), (1, 1))
    self.assertEqual(result['inception_score']['num_splits'], 2)
    # The score of the same images by `is`.
    alone = self.evaluate('is', '--generated', self.folder / 'samples.npz',
                          '--splits', 2)
    self.assertAlmostEqual(alone['value'], result['inception_score']['value'])
    self.assertGreaterEqual(alone['value'], 1)

  def test_how_pixels_are_preprocessed_is_part_of_the_result(self):
    with self.assertRaisesRegex(errors.UserError, 'nearest'):
      image_features.load_inception(str(self.graph), preprocessing='nearest')
    network = image_features.load_inception(
        str(self.graph), preprocessing=image_features.TORCH_299)
    self.assertEqual(network.preprocessing, 'half-pixel-bilinear-299')


if __name__ == '__main__':
  absltest.main()
