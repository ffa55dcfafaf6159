"""Leaving conditions out: at random in the loss, on purpose in guidance."""
import dataclasses

import jax
import jax.numpy as jnp

from walt_jax.core import types

# The conditions that guidance and dropout know; each one's null value is what
# the model sees when that condition is absent.
CONDITIONS = ('label', 'text', 'frames')


@dataclasses.dataclass(frozen=True)
class DropProbabilities:
  """How often each condition is left out, independently of the others."""
  label: float = 0.0
  text: float = 0.0
  frames: float = 0.0

  def __post_init__(self):
    for name in CONDITIONS:
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
            f'The {name} drop probability must be in [0, 1], not '
            f'{getattr(self, name)}.')


def from_batch(
    batch: types.LatentBatch, *, use_label: bool, use_text: bool,
    use_low_res: bool = False, use_images: bool = True,
) -> types.Conditioning:
  """The conditions that `batch` holds and the model was built for.

  Args:
    batch: May hold more than the model wants.
    use_label: Whether the model has classes; likewise the others.
    use_text: See above.
    use_low_res: See above; the low-resolution latents come out clean.
    use_images: False when no row can hold images, which lets the model skip
      all that concerns them.

  Raises:
    ValueError: The batch lacks a condition that the model wants.
  """
  wanted = dict(label=use_label, text=use_text, low_res=use_low_res)
  for name, use in wanted.items():
    if use and getattr(batch, name) is None:
      raise ValueError(
          f'The model is conditioned on {name}, but the batch has none.')
  return types.Conditioning(
      label=batch.label if use_label else None,
      text=batch.text if use_text else None,
      text_mask=batch.text_mask if use_text else None,
      low_res=batch.low_res if use_low_res else None,
      is_image=batch.is_image if use_images else None)


def drop(
    conditioning: types.Conditioning, name: str, where: jax.Array,
    *, null_label: int | None = None,
) -> types.Conditioning:
  """Replaces one condition by its null value where `where` is true.

  Args:
    conditioning: A condition that is None stays None: it is null already.
    name: One of `CONDITIONS`.
    where: bool [B, F] with F = 1 or the condition's own.
    null_label: The label id that means none (`num_classes`).
  """
  if name == 'label':
    if conditioning.label is None:
      return conditioning
    if null_label is None:
      raise ValueError('Dropping labels needs the id of the null label.')
    return dataclasses.replace(
        conditioning, label=jnp.where(where, null_label, conditioning.label))
  if name == 'text':
    if conditioning.text is None:
      return conditioning
    mask = text_mask(conditioning)
    return dataclasses.replace(
        conditioning, text_mask=mask & ~where[..., None])
  if name == 'frames':
    if conditioning.frame_mask is None:
      return conditioning
    keep = jnp.where(where, 0., 1.)
    return dataclasses.replace(
        conditioning, frame_mask=conditioning.frame_mask * keep,
        frame_cond=conditioning.frame_cond * keep[..., None, None, None])
  raise ValueError(f'Unknown condition {name!r}; choose of {CONDITIONS}.')


def null(
    conditioning: types.Conditioning, name: str,
    *, null_label: int | None = None,
) -> types.Conditioning:
  """`conditioning` with the condition `name` left out in every row."""
  return drop(conditioning, name, jnp.ones((1, 1), bool),
              null_label=null_label)


def text_mask(conditioning: types.Conditioning) -> jax.Array:
  """bool [B, F, L]; a missing mask means that every token is real."""
  if conditioning.text_mask is None:
    return jnp.ones(conditioning.text.shape[:-1], bool)
  return conditioning.text_mask


def drop_conditions(
    keys: jax.Array, conditioning: types.Conditioning,
    probabilities: DropProbabilities, *, null_label: int | None = None,
) -> types.Conditioning:
  """Leaves each condition out at random, independently of the others.

  A video row is decided once for all its frames, each image of an image row
  on its own.

  Args:
    keys: Random keys [B], one a row.
    conditioning: The model's conditions.
    probabilities: Probability of leaving each condition out.
    null_label: The label id that means none (`num_classes`).
  """
  sources = dict(label=conditioning.label, text=conditioning.text,
                 frames=conditioning.frame_mask)
  chances = {name: getattr(probabilities, name) for name in CONDITIONS
             if getattr(probabilities, name) and sources[name] is not None}
  if not chances:
    return conditioning
  # Given frames are one condition of the row.
  num_frames = {name: sources[name].shape[1] for name in chances}
  num_frames['frames'] = 1
  shape = (max(num_frames.values()), len(CONDITIONS))
  draws = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
  for name, chance in chances.items():
    uniform = draws[:, :num_frames[name], CONDITIONS.index(name)]
    uniform = per_row(uniform, conditioning.is_image)
    conditioning = drop(
        conditioning, name, uniform < chance, null_label=null_label)
  return conditioning


def per_row(draws: jax.Array, is_image: jax.Array | None) -> jax.Array:
  """Gives all frames of a video row the draw of its first frame.

  Args:
    draws: [B, F], one draw a frame.
    is_image: bool [B], or None when every row is a video.
  """
  if draws.shape[1] == 1:
    return draws
  first = jnp.broadcast_to(draws[:, :1], draws.shape)
  if is_image is None:
    return first
  return jnp.where(is_image[:, None], draws, first)
