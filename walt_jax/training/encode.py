"""The frozen half of a denoiser's training step: pixels to latents and text.

`encode` is a program of its own (design: two programs a step). Its weights
are an argument, never a closure, so that they are sharded like any others.
"""
from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.training import row_parts

EncodeText = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class LatentEncoder:
  """Turns a `Batch` into a `LatentBatch`.

  Attributes:
    tokenizer: The network; its parameters come with each call.
    encode_text: `(params, ids [.., L], mask [.., L]) -> [.., L, D]`, or None.
    low_res_factor: 0, or how many times smaller the low-resolution input of a
      super-resolution stage is.
    num_shards: Data shards of the batch; each joins its own rows.
    rows_at_once: Rows of a shard that are encoded at once, videos or images;
      0: as many as the memory of a part allows, see `row_parts`.
  """
  tokenizer: autoencoder.Autoencoder
  encode_text: EncodeText | None = None
  low_res_factor: int = 0
  num_shards: int = 1
  rows_at_once: int = 0

  def __call__(self, frozen: dict, batch: types.Batch,
               key: jax.Array) -> types.LatentBatch:
    """Encodes, samples the posteriors, normalises and joins the rows.

    Args:
      frozen: `tokenizer` (`Tokenizer.frozen`) and `text` parameters.
      batch: Pixels, or cached posteriors.
      key: Draws the posterior's sample; unused by a plain autoencoder.

    Raises:
      ValueError: If the batch holds no rows.
    """
    parts: list[types.LatentBatch] = []
    for index, (rows, is_image) in enumerate(
        ((batch.videos, False), (batch.images, True))):
      if rows is not None:
        part = self._rows(
            frozen, rows, is_image, jax.random.fold_in(key, index))
        first = sum(p.latents.shape[0] for p in parts)
        parts.append(dataclasses.replace(
            part, row=first + jnp.arange(part.latents.shape[0])))
    if not parts:
      raise ValueError('A batch holds neither videos nor images.')
    if len(parts) == 1:
      return parts[0]
    videos, images = parts
    frames = images.latents.shape[1]
    return join_rows(_repeat_conditions(videos, frames), images,
                     self.num_shards)

  def _rows(self, frozen, rows, is_image, key) -> types.LatentBatch:
    key_high, key_low = jax.random.split(key)
    posterior, low_res = rows.posterior, rows.low_res
    if posterior is None:
      posterior, low_res = self._in_parts(
          lambda pixels: self._posteriors(
              frozen['tokenizer']['params'], pixels, is_image), rows.pixels)
    normalised = lambda p, k: statistics.normalise(
        statistics.sample_posterior(_as_float32(p), k),
        frozen['tokenizer']['statistics'])
    text = rows.text
    if text is None and rows.text_ids is not None:
      text = self._in_parts(
          lambda ids, mask: self.encode_text(frozen['text'], ids, mask),
          rows.text_ids, rows.text_mask)
    return types.LatentBatch(
        latents=normalised(posterior, key_high),
        is_image=jnp.full((posterior.mean.shape[0],), is_image),
        label=rows.label, text=text, text_mask=rows.text_mask, own=rows.own,
        low_res=(normalised(low_res, key_low) if self.low_res_factor
                 else None))

  def _posteriors(self, params, pixels, is_image: bool):
    """Posteriors of rows, and of the same at low resolution or None."""
    encode = inference.encode_images if is_image else (
        inference.encode_posterior)
    high = encode(self.tokenizer, params, pixels)
    if not self.low_res_factor:
      return high, None
    # Of uint8, as in a latent cache: means of floats are rounded either way.
    return high, encode(self.tokenizer, params, pixels_lib.downsample(
        pixels, self.low_res_factor))

  def _in_parts(self, function: Callable, *rows):
    return row_parts.map_rows(
        function, self.num_shards, self.rows_at_once, *rows)


def _as_float32(posterior: types.Posterior) -> types.Posterior:
  """Cached posteriors are bfloat16."""
  return jax.tree.map(lambda x: x.astype(jnp.float32), posterior)


def _repeat_conditions(batch: types.LatentBatch,
                       frames: int) -> types.LatentBatch:
  """Gives each frame of a video row the row's conditions."""

  def spread(x):
    return x if x.shape[1] == frames else jnp.repeat(x, frames, axis=1)

  return dataclasses.replace(batch, **jax.tree.map(spread, dict(
      label=batch.label, text=batch.text, text_mask=batch.text_mask,
      own=batch.own)))


def join_rows(a: types.LatentBatch, b: types.LatentBatch,
              num_shards: int) -> types.LatentBatch:
  """Concatenates the rows of two batches shard by shard.

  Concatenating along the sharded axis itself would send rows between devices.
  """

  def join(x, y):
    split = lambda z: z.reshape(num_shards, -1, *z.shape[1:])
    joined = jnp.concatenate([split(x), split(y)], axis=1)
    return joined.reshape(-1, *x.shape[1:])

  return jax.tree.map(join, a, b)
