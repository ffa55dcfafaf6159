"""Reconstructions under protocols: which clips, how many frames, refusals."""
import dataclasses
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tests.data import video_files
from tests.metrics import feature_sets_test
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import plan
from walt_jax.evaluation import real_draws
from walt_jax.evaluation import reconstruct
from walt_jax.evaluation import requests as requests_lib
from walt_jax.metrics import fvd
from walt_jax.metrics import protocols
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features
from walt_jax.sampling import compiled_tokenizer
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics

_FRAMES, _SIZE = 12, 16


class _Codec:
  """Decodes what it encodes a little darker."""
  f_t, sha256 = 4, 'f' * 64

  def over(self, devices: list) -> '_Codec':
    return self

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
    network.batch_size = 3  # Of 7 clips: the last batch is not full.
    for where, name, value in (
        (video_features, 'load_network', lambda *args, **form: network),
        (reconstruction, 'load_networks', lambda *args: None),
        (reconstruction, 'summary', self.summary),
        (inputs_lib.Inputs, 'codec', lambda self: _Codec())):
      self.enterContext(mock.patch.object(where, name, value))
    self.enterContext(mock.patch.dict(
        protocols.PROTOCOLS, {'ucf101-rfvd': self.protocol}))
    self.network, self.reads = network, []

  def summary(self, pairs, networks, *, total, devices, shares):
    """Notes how many clips were read ahead of each pair."""
    self.ahead = [len(self.reads) - i for i, _ in enumerate(pairs, 1)]
    self.assertLen(self.ahead, total)
    self.assertEqual(shares.mine(), list(range(total)))
    return dict(psnr=1.0, perceptual_network={})

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

  def test_no_more_clips_are_read_than_are_computed_at_once(self):
    """7 clips, 2 at once; the first one's size is looked at before."""
    read = clip_sets.ClipSet.__getitem__

    def noted(clips, index):
      self.reads.append(index)
      return read(clips, index)

    with (mock.patch.object(clip_sets.ClipSet, '__getitem__', noted),
          mock.patch.object(plan, 'local_devices', lambda: jax.devices()[:1])):
      result = self.evaluate(batch_size=2)
    self.assertEqual(self.reads, [0, 0, 1, 2, 3, 4, 5, 6])
    self.assertEqual(self.ahead, [2, 1, 2, 1, 2, 1, 1])
    self.assertEqual((result['num_real'], result['num_generated']), (7, 7))

  @parameterized.parameters(compiled_tokenizer.Chunks(),
                            compiled_tokenizer.Chunks(stream=True))
  def test_rows_over_devices_are_those_of_one(self, chunks):
    module = autoencoder.Autoencoder(
        base_channels=4, latent_channels=4, num_groups=2, middle_blocks=1,
        blocks_per_level=1, channel_multipliers=(1, 1),
        time_downsample=(True,))
    pixels = np.random.default_rng(0).integers(
        0, 256, (7, 4, 8, 8, 3)).astype(np.uint8)
    params = jax.jit(module.init)(jax.random.key(0), np.zeros(
        (1, 1, 8, 8, 3), np.float32))['params']
    codec = compiled_tokenizer.Codec(inference.Tokenizer(
        module, params, statistics.identity_statistics(4), {}, ''), chunks)
    one, several = [np.stack(list(reconstruct.reconstructions(
        codec.over(jax.devices()[:count]), pixels, 2 * count)))
                    for count in (1, 2)]
    np.testing.assert_array_equal(one, several)
    self.assertEqual(one.shape, (7, 3, 8, 8, 3))
    if chunks.stream:
      return
    # Each of two devices held half of the rows.
    spread = codec.over(jax.devices()[:2])
    with mock.patch.object(np, 'asarray', lambda array: array):
      latents = spread.encode(pixels[:4, :3])
    self.assertEqual([shard.data.shape[0] for shard in
                      latents.addressable_shards], [2, 2])

  def test_scores_over_devices_are_those_of_one(self):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 5, 3, 16, 16, 3)).astype(np.uint8)
    network = reconstruction.PerceptualNetworks({}, {})
    one, several = (reconstruction.compare_clips(
        a, b, network, devices=devices)
                    for devices in ((), jax.devices()[:2]))
    self.assertEqual(one, several)
    self.assertAlmostEqual(one['l1'], float(np.mean(np.abs(
        a.astype(float) - b))) / 255, places=5)

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
