"""The few types that flow between rooms; all are pytrees.

Letters: B rows of a batch, F = 1 (one condition for the whole row: videos) or
F = 1 + t (one for each image of a row of independent images), T frames,
t h w latent extents, c latent channels, L text tokens, D text width.
"""
from typing import Any

from flax import struct

Array = Any  # jax.Array on devices, np.ndarray on the host.


@struct.dataclass
class Posterior:
  """What the tokenizer's encoder says of a clip, before normalisation.

  Attributes:
    mean: [B, 1+t, h, w, c].
    logvar: Same shape as mean, or None for a plain autoencoder.
  """
  mean: Array
  logvar: Array | None = None


@struct.dataclass
class Rows:
  """Rows of one kind, as they come from the data pipeline.

  A row is one video of 1+T frames (F = 1) or a stack of 1+t independent
  images (F = 1+t). Either `pixels` or the cached `posterior` is given.

  Attributes:
    pixels: uint8 [B, T, H, W, 3].
    posterior: Cached latents of the row (each image encoded on its own).
    low_res: Cached latents of the antialiased low-resolution row.
    label: int32 [B, F].
    text_ids: int32 [B, F, L], for a text encoder that runs in `encode`.
    text: float32 [B, F, L, D], cached token states.
    text_mask: bool [B, F, L], true at real tokens.
    own: float32 [B, F, ..] by name, columns of the user's own conditions.
  """
  pixels: Array | None = None
  posterior: Posterior | None = None
  low_res: Posterior | None = None
  label: Array | None = None
  text_ids: Array | None = None
  text: Array | None = None
  text_mask: Array | None = None
  own: dict[str, Array] | None = None


@struct.dataclass
class Batch:
  """One batch; `videos` and `images` have static row counts."""
  videos: Rows | None = None
  images: Rows | None = None


@struct.dataclass
class LatentBatch:
  """What the denoiser trains on.

  Attributes:
    latents: float32 [B, 1+t, h, w, c], normalised to unit variance a channel.
    is_image: bool [B], true for rows of independent images.
    label: int32 [B, F], or None.
    text: float32 [B, F, L, D] with `text_mask` bool [B, F, L], or None.
    low_res: float32 [B, 1+t, h/f, w/f, c], normalised and clean, or None.
    own: float32 [B, F, ..] by name, conditions of the user's own, or None.
    row: int32 [B], numbers of the rows in the global batch, all videos before
      all images, or None where they stand in that order. Each data shard joins
      its own rows, so that where a row stands depends on the mesh; what is
      drawn for it depends on its number.
  """
  latents: Array
  is_image: Array
  label: Array | None = None
  text: Array | None = None
  text_mask: Array | None = None
  low_res: Array | None = None
  own: dict[str, Array] | None = None
  row: Array | None = None


@struct.dataclass
class Conditioning:
  """Everything but the noisy latents and the time that a denoiser may see.

  A condition that is absent (None) for a model that was built with it means
  its null value: the null label, no text, zeros.

  Attributes:
    label: int32 [B, F]; `num_classes` is the null label.
    text: [B, F, L, D] token states with `text_mask` bool [B, F, L].
    self_cond: [B, 1+t, h, w, c], the previous estimate of x_0.
    frame_cond: [B, 1+t, h, w, c], mask * clean latents (section 4.3).
    frame_mask: [B, 1+t], 1 where a clean latent frame is given.
    low_res: [B, 1+t, h/f, w/f, c], noised low-resolution latents.
    low_res_level: [B, F] in [0, 1], timestep of that noise (section 4.5).
    is_image: bool [B].
    own: float32 [B, F, ..] by name, conditions of the user's own, with
      `own_mask` bool [B, F], true where a value is given.
  """
  label: Array | None = None
  text: Array | None = None
  text_mask: Array | None = None
  self_cond: Array | None = None
  frame_cond: Array | None = None
  frame_mask: Array | None = None
  low_res: Array | None = None
  low_res_level: Array | None = None
  is_image: Array | None = None
  own: dict[str, Array] | None = None
  own_mask: dict[str, Array] | None = None
