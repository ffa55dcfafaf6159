"""An image first, then the clip that begins with it.

A clip drawn all at once may change its mind about an object from one latent
frame to the next. A denoiser that has learnt images too (joint training) and to
continue from a given latent frame (frame prediction, section 4.3) can draw in
two steps instead, p(first frame) and p(clip | first frame), each of them
easier. Ours, after Emu Video (2311.10709).
"""
from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from walt_jax.core import types
from walt_jax.diffusion import network as network_lib


def begin_with_image(
    draw_image: Callable[..., jax.Array], conditioning: types.Conditioning,
    num_frames: int) -> types.Conditioning:
  """Gives each row that is given no frame an image as its first latent frame.

  Args:
    draw_image: `(conditioning=..) -> [B, 1, h, w, c]`.
    conditioning: Conditions of the clips.
    num_frames: 1+t.

  Returns:
    `conditioning` with `frame_cond` and `frame_mask` in every row.
  """
  first = jax.tree.map(lambda x: x[:, :1], dataclasses.replace(
      conditioning, frame_cond=None, frame_mask=None, is_image=None))
  if conditioning.frame_mask is None:
    image = draw_image(conditioning=first)
    given = jnp.zeros((image.shape[0], num_frames))
    frames = jnp.zeros((image.shape[0], num_frames, *image.shape[2:]))
  else:
    given, frames = conditioning.frame_mask, conditioning.frame_cond
    # Windows after the first continue from what was drawn: nothing to begin.
    image = jax.lax.cond(
        given.any(axis=1).all(), lambda: jnp.zeros_like(frames[:, :1]),
        lambda: draw_image(conditioning=first))
  missing = ~given.any(axis=1)
  mask = given.at[:, 0].max(missing.astype(given.dtype))
  frames = frames.at[:, :1].set(
      jnp.where(missing[:, None, None, None, None], image, frames[:, :1]))
  return dataclasses.replace(conditioning, frame_cond=frames, frame_mask=mask)


def images_in_rows(network: network_lib.Network,
                   num_frames: int) -> network_lib.Network:
  """Lets a network of clips take single frames, packed as it learnt them.

  Args:
    network: Takes rows of 1+t latent frames.
    num_frames: 1+t; so many images share a row and do not see each other
      (joint training). The last row is filled up with repetitions.

  Returns:
    The same for `x_t` [B, 1, h, w, c]; conditions are [B, 1, ...] too.
  """
  def pack(x):
    missing = -x.shape[0] % num_frames
    x = jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])
    return x.reshape(-1, num_frames, *x.shape[2:])

  def bind(conditioning, num_images):
    num_rows = -(-num_images // num_frames)
    evaluate = network(dataclasses.replace(
        jax.tree.map(pack, conditioning),
        is_image=jnp.ones(num_rows, bool)), num_rows)

    def evaluate_images(x_t, timestep, self_cond):
      output = evaluate(pack(x_t), timestep, jax.tree.map(pack, self_cond))
      return output.reshape(-1, 1, *output.shape[2:])[:num_images]

    return evaluate_images

  return bind
