"""Tests of the autoencoder: causality above all."""
import functools
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.builders import config as config_lib
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.tokenizer import autoencoder

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The paper's networks at a width that a test can afford.
FULL = dict(base_channels=4, channel_multipliers=(1, 2, 2, 4),
            blocks_per_level=1, middle_blocks=1, latent_channels=3,
            num_groups=2)
MODULES = {
    'full': autoencoder.Autoencoder(**FULL, bottleneck='kl'),
    'position': autoencoder.Autoencoder(**FULL, norm='position',
                                        conv_form='stacked'),
    'quick': autoencoder.Autoencoder(
        base_channels=8, channel_multipliers=(1,), time_downsample=(),
        blocks_per_level=1, middle_blocks=0, latent_channels=3,
        norm='position', adaptive_decoder=False, stem_patch=(4, 4, 4),
        stem_kernel=(1, 1, 1), head_kernel=(1, 1, 1), linear_ends=True,
        conv_form='stacked'),
}


@functools.cache
def _params(name):
  """Random parameters, none of them zero as biases start."""
  module = MODULES[name]
  clip = jnp.zeros((1, 5, module.f_s, module.f_s, 3))
  shapes = jax.eval_shape(module.init, jax.random.key(0), clip)['params']
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: rng.normal(
      x.ndim == 1, 0.2, x.shape).astype(np.float32), shapes)


# Parameters are arguments: as constants they would be folded, slowly.
@functools.cache
def _method(name, method):
  apply = jax.jit(lambda p, x: MODULES[name].apply(
      {'params': p}, x, method=method))
  return functools.partial(apply, _params(name))


def _encode(name):
  return _method(name, 'encode')


def _decode(name):
  return _method(name, 'decode')


@functools.partial(jax.jit, static_argnums=(0, 1))
def _dependence(name, method, params, x):
  """Gradients of one random sum a frame of the output: [frame, *x.shape]."""
  def apply(x):
    out = MODULES[name].apply({'params': params}, x, method=method)
    return out if method == 'decode' else out.mean

  out, pull_back = jax.vjp(apply, x)
  weights = jax.random.normal(jax.random.key(3), out.shape)
  one_frame = jax.vmap(lambda i: weights * (
      jnp.arange(out.shape[1]) == i)[None, :, None, None, None])(
          jnp.arange(out.shape[1]))
  return jax.vmap(lambda ct: pull_back(ct)[0])(one_frame)


def _clip(name, frames, seed=2):
  size = 2 * MODULES[name].f_s
  return jax.random.uniform(jax.random.key(seed), (1, frames, size, size, 3),
                            minval=-1, maxval=1)


@parameterized.named_parameters((name, name) for name in MODULES)
class CausalityTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_latent_frame_j_depends_on_frames_up_to_4j_only(self, name):
    x = _clip(name, 9)
    gradients = _dependence(name, 'encode', _params(name), x)
    used = np.abs(gradients).max((1, 3, 4, 5)) > 0  # [latent, frame].
    for j in range(3):
      self.assertFalse(used[j, 4 * j + 1:].any(), (j, used[j]))
      self.assertTrue(used[j, 4 * j], (j, used[j]))

  @pytest.mark.slow
  def test_decoded_frame_i_depends_on_latents_up_to_i_over_4_only(self, name):
    z = jax.random.normal(jax.random.key(4), _encode(name)(
        _clip(name, 9)).mean.shape)
    gradients = _dependence(name, 'decode', _params(name), z)
    used = np.abs(gradients).max((1, 3, 4, 5)) > 0  # [frame, latent].
    for i in range(9):
      last = -(-i // 4)
      self.assertFalse(used[i, last + 1:].any(), (i, used[i]))
      self.assertTrue(used[i, last], (i, used[i]))

  @pytest.mark.slow
  def test_prefix_of_a_clip_gives_the_prefix_of_its_latents(self, name):
    x = _clip(name, 9)
    whole = _encode(name)(x)
    for frames, latent_frames in ((1, 1), (5, 2)):
      prefix = _encode(name)(x[:, :frames])
      for a, b in zip(jax.tree.leaves(prefix), jax.tree.leaves(whole),
                      strict=True):
        np.testing.assert_allclose(a, b[:, :latent_frames], atol=1e-4)
      np.testing.assert_allclose(
          _decode(name)(prefix.mean),
          _decode(name)(whole.mean)[:, :frames], atol=1e-4)

  def test_shapes_and_compression(self, name):
    module = MODULES[name]
    x = _clip(name, 9)
    latents = _encode(name)(x).mean
    self.assertEqual(latents.shape, module.latent_shape(x.shape))
    self.assertEqual(latents.shape, (1, 3, 2, 2, 3))
    self.assertEqual(_decode(name)(latents).shape, x.shape)
    self.assertEqual(module.f_t, 4)
    self.assertEqual(module.f_s, 4 if name == 'quick' else 8)


class PaperConfigTest(parameterized.TestCase):
  """The network of configs/tokenizer_video.py, but for its channels."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    config = schema.of(config_lib.load(
        f'{ROOT}/configs/tokenizer_video.py:ucf101',
        [('model.base_channels', '4'), ('model.num_groups', '2'),
         ('model.remat', 'False'), ('model.dtype', 'float32')]))
    cls.module = networks.autoencoder(config.model, 'cpu')
    shapes = jax.eval_shape(cls.module.init, jax.random.key(0),
                            jnp.zeros((1, 5, 16, 16, 3)))['params']
    rng = np.random.default_rng(0)
    cls.params = jax.tree.map(lambda x: rng.normal(
        x.ndim == 1, 0.2, x.shape).astype(np.float32), shapes)

  @parameterized.parameters('encode', 'decode')
  def test_what_comes_later_changes_nothing(self, method):
    encodes = method == 'encode'
    apply = jax.jit(lambda p, x: self.module.apply({'params': p}, x,
                                                   method=method))
    run = lambda x: np.asarray(apply(self.params, x).mean if encodes else
                               apply(self.params, x))
    shape = (1, 9, 16, 16, 3) if encodes else (1, 3, 2, 2, 8)
    rng = np.random.default_rng(1)
    x, other = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
    whole = run(x)
    for cell in (0, 1):
      frame = 4 * cell
      known, same = (frame, cell) if encodes else (cell, frame)
      changed = np.concatenate([x[:, :known + 1], other[:, known + 1:]], 1)
      out = run(changed)
      np.testing.assert_array_equal(out[:, :same + 1], whole[:, :same + 1])
      gaps = np.abs(out - whole)[:, same + 1:].max((0, 2, 3, 4))
      self.assertGreater(gaps.min(), 0.0)


class AutoencoderTest(parameterized.TestCase):

  def test_forms_of_convolution_agree(self):
    x = _clip('full', 5)
    stacked = MODULES['full'].clone(conv_form='stacked', remat=True)
    ours = jax.jit(lambda p, x: stacked.apply({'params': p}, x))(
        _params('full'), x)[0]
    native = _decode('full')(_encode('full')(x).mean)
    np.testing.assert_allclose(ours, native, atol=1e-4)

  def test_position_norm_sees_a_bounded_neighbourhood(self):
    # With GroupNorm a far pixel changes every latent; with this norm it does
    # not, which is what exact tiling of frames needs.
    module = MODULES['quick']
    x = jax.random.uniform(jax.random.key(0), (1, 1, 48, 48, 3))
    encode = _encode('quick')
    delta = encode(x).mean - encode(x.at[0, 0, 0, 0].add(1.0)).mean
    self.assertEqual(module.blocks_per_level, 1)
    self.assertTrue(np.abs(delta[0, 0, :3, :3]).max() > 0)
    self.assertFalse(np.abs(delta[0, 0, 3:]).any())
    self.assertFalse(np.abs(delta[0, 0, :, 3:]).any())

  def test_kl_bottleneck_keeps_mean_and_logvar(self):
    posterior = _encode('full')(_clip('full', 5))
    self.assertEqual(posterior.mean.shape, posterior.logvar.shape)
    self.assertIsNone(_encode('quick')(_clip('quick', 5)).logvar)

  @parameterized.parameters((4, 16, 16), (5, 15, 16), (5, 16, 20))
  def test_a_clip_that_does_not_fit_is_refused(self, *size):
    with self.assertRaisesRegex(ValueError, 'x'.join(map(str, size))):
      jax.eval_shape(_encode('full'), jnp.zeros((1, *size, 3)))

  def test_paper_size_counts(self):
    module = autoencoder.Autoencoder()
    shapes = jax.eval_shape(module.init, jax.random.key(0),
                            jnp.zeros((1, 17, 128, 128, 3)))
    self.assertEqual(module.latent_shape((1, 17, 128, 128, 3)),
                     (1, 5, 16, 16, 8))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    self.assertBetween(count, 300e6, 400e6)


if __name__ == '__main__':
  absltest.main()
