"""A trained tokenizer, as the other stages use it."""
from collections.abc import Callable
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import statistics as statistics_lib

Autoencoder = autoencoder_lib.Autoencoder
LatentStatistics = statistics_lib.LatentStatistics
Params = Any


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """An autoencoder with its weights and the statistics of its latents.

  Attributes:
    module: The network.
    params: Its float32 parameters.
    statistics: Statistics of the latents of the data it was trained on.
    config: What `module` was built from, plain JSON values.
    sha256: Sha256 of the file that the weights came from.
  """
  module: Autoencoder
  params: Params
  statistics: LatentStatistics
  config: dict[str, Any]
  sha256: str

  @property
  def frozen(self) -> dict[str, Any]:
    """The arrays, to be passed as an argument to jitted programs."""
    return dict(params=self.params, statistics=self.statistics)


def encode_posterior(module: Autoencoder, params: Params,
                     pixels: jax.Array) -> types.Posterior:
  """Encodes clips [B, 1+T, H, W, 3], uint8 or in [-1, 1]."""
  pixels = pixels_lib.to_unit_range(jnp.asarray(pixels))
  posterior: Any = module.apply({'params': params}, pixels, method='encode')
  return posterior


def jit_encode(
    module: Autoencoder, *, params: jax.sharding.Sharding | None = None,
    rows: jax.sharding.Sharding | None = None
) -> Callable[[Params, types.Array], types.Posterior]:
  """Compiles `encode_posterior(params, pixels)` of a network.

  Args:
    module: The network.
    params: Sharding of the parameters; as they are by default.
    rows: Sharding of the batch, of pixels and posteriors.
  """
  return jax.jit(functools.partial(encode_posterior, module),
                 in_shardings=(params, rows), out_shardings=rows)


def encode_images(module: Autoencoder, params: Params,
                  pixels: jax.Array) -> types.Posterior:
  """Encodes rows of independent images [B, F, H, W, 3], each on its own.

  Returns:
    A posterior of [B, F, h, w, c]: every image a clip of one frame.
  """
  b, f = pixels.shape[:2]
  posterior = encode_posterior(module, params,
                               pixels.reshape(b * f, 1, *pixels.shape[2:]))
  return jax.tree.map(lambda x: x.reshape(b, f, *x.shape[2:]), posterior)


def decode_pixels(module: Autoencoder, params: Params,
                  statistics: LatentStatistics,
                  latents: jax.Array) -> jax.Array:
  """Decodes normalised latents [B, 1+t, h, w, c] to [B, 1+T, H, W, 3].

  Returns:
    Pixels clipped to [-1, 1].
  """
  latents = statistics_lib.denormalise(latents, statistics)
  pixels: Any = module.apply({'params': params}, latents, method='decode')
  return jnp.clip(pixels, -1.0, 1.0)


def save_tokenizer(directory: str | pathlib.Path, params: Params,
                   statistics: LatentStatistics,
                   config: dict[str, Any]) -> str:
  """Writes weights, statistics and config; returns the weights' sha256."""
  arrays = {**params, 'statistics': dict(mean=statistics.mean,
                                         std=statistics.std)}
  return exports.save_export(directory, arrays, config)


def load_tokenizer(directory: str | pathlib.Path,
                   build: Callable[[dict[str, Any]], Autoencoder]
                   ) -> Tokenizer:
  """Reads what `save_tokenizer` wrote.

  Args:
    directory: Folder with `model.safetensors` and `config.json`.
    build: Turns the config into the network.

  Raises:
    UserError: If the folder holds no tokenizer, or another network's weights.
  """
  params, config = exports.load_export(directory)
  statistics = params.pop('statistics', None)
  if statistics is None or set(params) != {'encoder', 'decoder'}:
    raise errors.UserError(
        f'{directory} holds no tokenizer: its weights are under '
        f'{sorted(params)}, not decoder, encoder and statistics; give the '
        'export of a tokenizer')
  module = build(config)
  _check_shapes(directory, module, params)
  return Tokenizer(
      module=module, params=params, statistics=LatentStatistics(**statistics),
      config=config, sha256=files.file_sha256(
          paths.path(directory) / exports.MODEL_FILE))


def _check_shapes(directory, module: Autoencoder, params: Params) -> None:
  """Compares weights with what the network wants; tells the first mismatch."""
  smallest = jnp.zeros((1, 1, module.f_s, module.f_s, 3))
  wanted = jax.eval_shape(module.init, jax.random.key(0), smallest)['params']
  wanted = {name: leaf.shape for name, leaf in exports.flatten(wanted).items()}
  found = {name: leaf.shape for name, leaf in exports.flatten(params).items()}
  for name in sorted(wanted.keys() | found.keys()):
    if wanted.get(name) != found.get(name):
      raise errors.UserError(
          f'weights in {directory} are of another network: {name} has shape '
          f'{found.get(name)} where its config wants {wanted.get(name)}; '
          'export the tokenizer again')
