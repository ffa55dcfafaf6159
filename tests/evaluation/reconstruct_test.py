"""Reconstructions under protocols: which clips, how many frames, refusals."""
import dataclasses
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.data import video_files
from tests.metrics import feature_sets_test
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import real_draws
from walt_jax.evaluation import reconstruct
from walt_jax.evaluation import requests as requests_lib
from walt_jax.metrics import fvd
from walt_jax.metrics import protocols
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features

_FRAMES, _SIZE = 12, 16


class _Codec:
  """Decodes what it encodes a little darker."""
  f_t, sha256 = 4, 'f' * 64

  def encode(self, clips: np.ndarray) -> np.ndarray:
    return clips

  def decode(self, latents: np.ndarray) -> np.ndarray:
    return latents - latents // 4

  def describe(self) -> dict:
    return {}


class ReconstructTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for number, frames in enumerate((20, 30, 25)):
      video_files.write_video(self.root / 'in' / f'{number}.avi', frames)
    prepare.prepare(self.root / 'in', self.root / 'set', prepare.Settings(
        size=_SIZE, heldout=0.0))
    whole = protocols.get('ucf101-rfvd')
    self.protocol = dataclasses.replace(
        whole, num_generated=7, frames=_FRAMES, size=_SIZE, network='tiny',
        draw=dataclasses.replace(whole.draw, num_videos=3))
    network = feature_sets_test.make_network(size=(_FRAMES, _SIZE))
    for where, name, value in (
        (video_features, 'load_network', lambda *args, **form: network),
        (reconstruction, 'load_networks', lambda *args: None),
        (reconstruction, 'summary', lambda *args: dict(
            psnr=1.0, perceptual_network={})),
        (inputs_lib.Inputs, 'codec', lambda self: _Codec())):
      self.enterContext(mock.patch.object(where, name, value))
    self.enterContext(mock.patch.dict(
        protocols.PROTOCOLS, {'ucf101-rfvd': self.protocol}))
    self.network = network

  def evaluate(self, **fields):
    fields = dict(real=str(self.root / 'set'), workdirs=('tokenizer',),
                  protocol='ucf101-rfvd', seed=5) | fields
    request = requests_lib.EvaluationRequest('reconstruction', **fields)
    return reconstruct.Reconstruction().evaluate(inputs_lib.Inputs(request))

  def test_rfvd_is_of_drawn_clips_and_whole_latent_frames(self):
    """12 frames are scored of the 13 that fill latent frames of 4."""
    real = real_draws.open_draws(
        str(self.root / 'set'), self.protocol, seed=5, repeat=0, frames=13)
    made = [(clip - clip // 4)[:_FRAMES] for clip in real]
    sets = [fvd.feature_set(clips, self.network) for clips in (
        [clip[:_FRAMES] for clip in real], made)]
    result = self.evaluate()
    self.assertEqual(result['rfvd']['values'],
                     fvd.compare(*sets)['values'])
    self.assertEqual((result['num_real'], result['rfvd']['frames']),
                     (7, _FRAMES))
    self.assertEqual(result['comparable_to'],
                     list(self.protocol.comparable_to))

  @parameterized.parameters(
      (dict(protocol='ucf101-magvit'), 'is for fvd, not reconstruction'),
      (dict(workdirs=(), generated='x'), "give its --workdir, not --generat"),
      (dict(real='x.npy'), 'whole videos'))
  def test_what_no_protocol_has_is_refused(self, fields, message):
    with self.assertRaisesRegex(errors.UserError, message):
      self.evaluate(**fields)

  def test_other_weights_are_refused_before_anything_is_decoded(self):
    protocol = dataclasses.replace(self.protocol, network='i3d-kinetics-400')
    with (mock.patch.dict(protocols.PROTOCOLS, {'ucf101-rfvd': protocol}),
          mock.patch.object(_Codec, 'decode', side_effect=AssertionError),
          self.assertRaisesRegex(errors.UserError, 'i3d-kinetics-400')):
      self.evaluate()


if __name__ == '__main__':
  absltest.main()
