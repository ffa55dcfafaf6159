"""Encoders by their sizes: what training will have, before it has weights."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.builders import absent_encoders
from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.data import latent_cache
from walt_jax.data.sources import moving_digits
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.text import encoder as text_encoder
from walt_jax.text import minilm
from walt_jax.text import weights


def load(spec, *overrides):
  return schema.of(config_lib.load(spec, overrides))


def encoders(spec, *overrides):
  return absent_encoders.absent_encoders(load(spec, *overrides), 'cpu')


class TokenizerTest(parameterized.TestCase):

  @parameterized.parameters(
      ('t2v_sr1:smoke', 'tokenizer.random'),
      ('ucf101:ablation_latent_4', 'tokenizer_video'),
      ('imagenet256', 'tokenizer_image'),
      ('digits_rollout', 'quickstart:tokenizer'))
  def test_one_that_makes_the_latents_is_taken(self, spec, source):
    found = encoders(spec)
    self.assertStartsWith(found.source, source)
    self.assertEqual(found.tokenizer.latent_channels,
                     load(spec).latents.channels)

  def test_latents_that_none_makes_are_told(self):
    with self.assertRaisesRegex(errors.UserError, 'no tokenizer of .*no_enc'):
      encoders('ucf101', ('latents.height', '8'), ('model.spatial_window',
                                                   '(1,8,16)'))

  def test_on_a_tpu_frames_are_encoded_as_rows(self):
    config = load('ucf101')
    found = absent_encoders.absent_encoders(config, 'tpu')
    self.assertEqual(found.tokenizer.conv_form, 'native')  # As it decodes.
    self.assertEqual(found.encoder(1).tokenizer,
                     found.tokenizer.clone(conv_form='stacked'))
    found = absent_encoders.absent_encoders(config, 'cpu')
    self.assertIs(found.encoder(1).tokenizer, found.tokenizer)

  def test_that_of_a_work_directory_is_read(self):
    config = load('quickstart:smoke')
    pixels = np.random.default_rng(0).integers(
        0, 256, (2, 17, 32, 32, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
      tokenizers.save_random_tokenizer(config.tokenizer.random, folder, pixels)
      found = encoders('quickstart:smoke', ('tokenizer.workdir', folder))
      real = tokenizers.load_tokenizer(folder)
    self.assertEqual(found.source, folder)
    self.assertEqual(found.tokenizer, real.module)
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    self.assertEqual(shapes(found.shapes['tokenizer']['params']),
                     shapes(real.params))


class TextTest(absltest.TestCase):

  def test_widths_tell_sizes_apart(self):
    self.assertEqual(
        text_encoder.network('t5', 4096).config.num_heads, 64)
    with self.assertRaisesRegex(errors.UserError, 'text.width is 2000'):
      text_encoder.network('t5', 2000)
    with self.assertRaisesRegex(errors.UserError, 'text.width is 768'):
      text_encoder.network('minilm', 768)

  @absltest.skipUnless(text_encoder.has_minilm(), 'needs the packaged weights')
  def test_packaged_sizes(self):
    folder = weights.SafetensorsFolder(text_encoder.packaged_minilm())
    self.assertEqual(minilm.BertConfig.from_json(folder.config),
                     minilm.PACKAGED)


class ProgramTest(parameterized.TestCase):

  @parameterized.product(cached=(False, True))
  def test_it_makes_what_the_train_step_takes(self, cached):
    """With text, low resolution and rows of images."""
    config = load('t2v_sr1:smoke', ('data.batch_size', '8'),
                  ('data.image_rows', '4'))
    run = absent_runs.absent_run(
        config, mesh_lib.make_mesh(2, 2, devices=jax.devices()[:4]))
    found = absent_encoders.absent_encoders(config, 'cpu')
    traced = found.trace(run, cached=cached)  # Raises where it does not.
    self.assertEqual(traced.out_info.low_res.shape,
                     run.batch.low_res.shape)
    rows = found.batch(cached=cached).images
    self.assertEqual(rows.pixels is None, cached)

  def test_bytes_of_a_clip_are_those_of_a_real_cache(self):
    found = encoders('t2v_sr1:smoke')
    config = found.config
    data, latents, text = config.data, config.latents, config.text
    shape = (latents.frames, latents.height, latents.width, latents.channels)

    def encode(pixels):
      factor = data.height // pixels.shape[2]
      return types.Posterior(mean=np.ones((
          len(pixels), shape[0], *(size // factor for size in shape[1:3]),
          shape[3]), np.float32))

    def embed(captions):  # Each has as many tokens as are read.
      return (np.ones((len(captions), text.max_tokens, text.width),
                      np.float32),
              np.ones((len(captions), text.max_tokens), bool))

    clips = 4
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'cache'
      source = moving_digits.MovingDigits(
          num_examples=clips, num_frames=data.num_frames)
      captions = {source[index]['caption'] for index in range(clips)}
      latent_cache.write_cache(
          {'train': source}, path, latent_cache.CacheSettings(
              'a', data.num_frames, (data.height, data.width),
              low_res_factor=2, text_sha256='b'),
          encode=encode, text=latent_cache.TextStates(embed), batch_size=2)
      written = sum(file.stat().st_size for file in path.glob('*train*'))
    states = 2 * text.max_tokens * text.width
    expected = clips * (found.cache_bytes_per_clip - states) + (
        len(captions) * states)
    # Records have keys, labels and captions, and files are padded to blocks.
    self.assertBetween(written, expected, expected + 2 * 2**17)


if __name__ == '__main__':
  absltest.main()
