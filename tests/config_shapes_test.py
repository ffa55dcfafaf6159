"""Every variant of every config at full size, traced for its shapes alone.

Initialisation, encoding and the train step; what is encoded is what the train
step takes. Gradients have the shapes of what they are of: they are not traced,
which would be most of the time. Those of each different program are taken by
tests/config_steps_test.py, shrunk.
"""
import contextlib
import dataclasses
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import pytest

from tests import config_programs as programs
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.core import types
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.training import encode as encode_lib

# Whose tokenizer each config trains on, where that is not 'tokenizer_video'.
TOKENIZERS = {
    'imagenet256': 'tokenizer_image', 'quickstart': 'quickstart:tokenizer',
    'digits_rollout': 'quickstart:tokenizer'}
struct = jax.ShapeDtypeStruct


def tokenizer_of(spec, config):
  """The network that encodes for a denoiser, as its docstring says."""
  name, _, variant = spec.partition(':')
  if config.tokenizer.random:
    return networks.autoencoder(config.tokenizer.random.model, 'cpu')
  tokenizer = TOKENIZERS.get(name, 'tokenizer_video')
  if name == 'quickstart' and variant.endswith('_long'):
    tokenizer += '_long'
  return networks.autoencoder(dataclasses.replace(
      programs.load(tokenizer).model,
      latent_channels=config.latents.channels), 'cpu')


def rows(data, text, count, frames, is_image):
  """Rows of a batch of pixels as the data pipeline makes them."""
  size = (data.height, data.width, 3)
  labels = (frames if is_image else 1,)
  tokens = (count, *labels, text.max_tokens)
  return types.Rows(
      pixels=struct((count, frames, *size), jnp.uint8),
      label=struct((count, *labels), jnp.int32),
      text_ids=struct(tokens, jnp.int32) if text.name else None,
      text_mask=struct(tokens, bool) if text.name else None)


@functools.cache
def encoded(network, data, text, frames, low_res_factor):
  """Shapes of what the encoders make of a batch; an image row has `frames`."""
  clip = jnp.zeros((1, 1, network.f_s, network.f_s, 3))
  params = jax.eval_shape(network.init, jax.random.key(0), clip)['params']
  encode = encode_lib.LatentEncoder(
      tokenizer=network, low_res_factor=low_res_factor,
      # T5's weights are not at hand: its states have this shape.
      encode_text=lambda params, ids, mask: jnp.zeros(
          (*ids.shape, text.width)))
  videos = data.batch_size - data.image_rows
  batch = types.Batch(
      videos=rows(data, text, videos, data.num_frames, False)
      if videos else None,
      images=rows(data, text, data.image_rows, frames, True)
      if data.image_rows else None)
  return jax.eval_shape(
      encode, dict(text=None, tokenizer=dict(
          params=params, statistics=statistics.identity_statistics(
              network.latent_channels))), batch, jax.random.key(0))


def zeros(tree):
  return jax.tree.map(jnp.zeros_like, tree)


def value_and_zeros(function, argnums=0, has_aux=False):
  """In the place of `jax.value_and_grad`, where shapes are the point."""
  del has_aux  # The value has it.
  return lambda *args: (function(*args), zeros(args[argnums]))


def zero_vjp(function, *args):
  return function(*args), lambda cotangents: zeros(args)


@contextlib.contextmanager
def without_gradients():
  """Steps are traced with zeros for all gradients."""
  with (
      mock.patch.object(jax, 'value_and_grad', value_and_zeros),
      mock.patch.object(jax, 'vjp', zero_vjp),
      mock.patch.object(
          jax, 'grad', lambda function: lambda value: zeros(value))):
    yield


@functools.cache
def traced(config):
  """A config's run, and the shapes of state and metrics after a step."""
  run = programs.run_of(config)
  key = jax.eval_shape(lambda: jax.random.key(0))
  with without_gradients():
    return run, jax.eval_shape(
        run.stage.train_step, run.state, run.batch, key, run.stage.frozen)


def shapes(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.slow  # Together.
class FullSizeTest(parameterized.TestCase):

  @parameterized.parameters(*programs.SPECS)
  def test_programs_have_shapes(self, spec):
    config = programs.load(spec)
    run, (state, metrics) = traced(programs.program_of(config))
    self.assertEqual(jax.tree.map(lambda x: x.shape, state),
                     jax.tree.map(lambda x: x.shape, run.state))
    self.assertEqual(metrics['loss'].shape, ())
    if isinstance(config, schema.DenoiserExperiment):
      self.assertEqual(shapes(encoded(
          tokenizer_of(spec, config), programs.program_of(config).data,
          config.text, config.latents.frames, config.model.low_res_factor)),
                       shapes(run.batch))
    else:
      network = networks.autoencoder(config.model, 'cpu')
      for kind, clips in vars(run.batch).items():
        if clips is not None:
          pixels = clips.pixels
          posterior = jax.eval_shape(
              functools.partial(inference.encode_posterior, network),
              run.state.params['autoencoder'], pixels)
          self.assertEqual(posterior.mean.shape,
                           network.latent_shape(pixels.shape), kind)


if __name__ == '__main__':
  absltest.main()
