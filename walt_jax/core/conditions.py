"""The conditions of a denoiser, and leaving them out.

They are left out at random in the loss, and on purpose in guidance. Those that
are built in are a table; one of the user's own is a class (`Condition`).
"""
from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from walt_jax.core import types


class Condition(Protocol):
  """A condition of the user's own: a Linen module that embeds its values.

  `model.conditions` names the class. Its attributes are those of the class;
  `width` is the module's one field. Its parameters are replicated.

  Attributes:
    column: Its name: of the value in a source's examples, in `--guidance` and
      in `--condition`.
    shape: Shape of one value: () for a number.
    null: What a value that is not given is replaced by.
    drop_probability: How often training leaves it out, for guidance.
    width: D, of the denoiser.
  """
  column: str
  shape: tuple[int, ...]
  null: float
  drop_probability: float
  width: int

  def __call__(self, value: jax.Array) -> jax.Array:
    """Embeds float32 [B, F, *shape].

    Returns:
      [B, F, D], which is added to the embedding of time and so modulates every
      layer; or tokens [B, F, L, D], which cross-attention sees after the text.
    """


@dataclasses.dataclass(frozen=True)
class BuiltIn:
  """A condition that denoisers have a place of their own for.

  Attributes:
    present: The field of `Conditioning` that is None without it; [B, F, ..].
    drop: `drop(conditioning, where [B, F], null_label)` gives it its null
      value where `where` is true.
    of_row: Whether it is one condition of the whole row, whatever its F.
  """
  present: str
  drop: Callable[[types.Conditioning, jax.Array, int | None],
                 types.Conditioning]
  of_row: bool = False


def _drop_label(conditioning, where, null_label):
  if null_label is None:
    raise ValueError('Dropping labels needs the id of the null label.')
  return dataclasses.replace(
      conditioning, label=jnp.where(where, null_label, conditioning.label))


def _drop_text(conditioning, where, null_label):
  del null_label
  return dataclasses.replace(
      conditioning, text_mask=text_mask(conditioning) & ~where[..., None])


def _drop_frames(conditioning, where, null_label):
  del null_label
  keep = jnp.where(where, 0., 1.)
  return dataclasses.replace(
      conditioning, frame_mask=conditioning.frame_mask * keep,
      frame_cond=conditioning.frame_cond * keep[..., None, None, None])


# What guidance and dropping know. The order is that of the random draws:
# another one changes every run.
BUILT_IN = {
    'label': BuiltIn('label', _drop_label),
    'text': BuiltIn('text', _drop_text),
    'frames': BuiltIn('frame_mask', _drop_frames, of_row=True),
}
CONDITIONS = tuple(BUILT_IN)


@dataclasses.dataclass(frozen=True)
class DropProbabilities:
  """How often each condition is left out, independently of the others.

  Attributes:
    label: Probability for the label; likewise the other two.
    text: See `label`.
    frames: See `label`.
    own: (name, probability) of conditions of the user's own.
  """
  label: float = 0.0
  text: float = 0.0
  frames: float = 0.0
  own: tuple[tuple[str, float], ...] = ()

  def __post_init__(self):
    for name, chance in self.by_name.items():
      if not 0 <= chance <= 1:
        raise ValueError(
            f'The {name} drop probability must be in [0, 1], not {chance}.')

  @property
  def by_name(self) -> dict[str, float]:
    """Probabilities of all conditions, in the order of their draws."""
    return {name: getattr(self, name) for name in CONDITIONS} | dict(self.own)


def from_batch(
    batch: types.LatentBatch, *, use_label: bool, use_text: bool,
    use_low_res: bool = False, use_images: bool = True,
    own: Sequence[str] = (),
) -> types.Conditioning:
  """The conditions that `batch` holds and the model was built for.

  Args:
    batch: May hold more than the model wants.
    use_label: Whether the model has classes; likewise the others.
    use_text: See above.
    use_low_res: See above; the low-resolution latents come out clean.
    use_images: False when no row can hold images, which lets the model skip
      all that concerns them.
    own: Names of the model's own conditions.

  Raises:
    ValueError: The batch lacks a condition that the model wants.
  """
  wanted = dict(label=use_label, text=use_text, low_res=use_low_res)
  lacking = [name for name, use in wanted.items()
             if use and getattr(batch, name) is None]
  lacking += [name for name in own if name not in (batch.own or {})]
  if lacking:
    raise ValueError(f'The model is conditioned on {lacking[0]}, but the '
                     'batch has none.')
  return types.Conditioning(
      label=batch.label if use_label else None,
      text=batch.text if use_text else None,
      text_mask=batch.text_mask if use_text else None,
      low_res=batch.low_res if use_low_res else None,
      is_image=batch.is_image if use_images else None,
      own={name: batch.own[name] for name in own} if own else None)


def give_frames(conditioning: types.Conditioning, latents: jax.Array,
                mask: jax.Array) -> types.Conditioning:
  """Gives clean latent frames to a denoiser that predicts the others.

  Args:
    conditioning: The other conditions.
    latents: Clean latents [B, 1+t, h, w, c].
    mask: [B, 1+t], 1 (or true) where a frame is given (section 4.3).
  """
  mask = mask.astype(jnp.float32)
  return dataclasses.replace(
      conditioning, frame_mask=mask,
      frame_cond=mask[..., None, None, None] * latents)


def values_of(conditioning: types.Conditioning, name: str
              ) -> jax.Array | None:
  """What says that a condition is there, [B, F, ..]; None where it is not."""
  if name in BUILT_IN:
    return getattr(conditioning, BUILT_IN[name].present)
  return (conditioning.own or {}).get(name)


def drop(
    conditioning: types.Conditioning, name: str, where: jax.Array,
    *, null_label: int | None = None,
) -> types.Conditioning:
  """Replaces one condition by its null value where `where` is true.

  Args:
    conditioning: A condition that is None stays None: it is null already.
    name: One of `CONDITIONS`, or one of the user's own.
    where: bool [B, F] with F = 1 or the condition's own.
    null_label: The label id that means none (`num_classes`).
  """
  if values_of(conditioning, name) is None:
    return conditioning
  if name in BUILT_IN:
    return BUILT_IN[name].drop(conditioning, where, null_label)
  mask = own_mask(conditioning)
  return dataclasses.replace(
      conditioning, own_mask={**mask, name: mask[name] & ~where})


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


def own_mask(conditioning: types.Conditioning) -> dict[str, jax.Array]:
  """bool [B, F] by name; a missing mask means that every value is given."""
  given: Mapping[str, jax.Array] = conditioning.own_mask or {}
  return {name: given[name] if name in given
          else jnp.ones(value.shape[:2], bool)
          for name, value in (conditioning.own or {}).items()}


def with_masks(conditioning: types.Conditioning) -> types.Conditioning:
  """The same with every mask in place: leaving out changes no structure."""
  if conditioning.text is not None:
    conditioning = dataclasses.replace(
        conditioning, text_mask=text_mask(conditioning))
  if conditioning.own is not None:
    conditioning = dataclasses.replace(
        conditioning, own_mask=own_mask(conditioning))
  return conditioning


def drop_conditions(
    keys: jax.Array, conditioning: types.Conditioning,
    probabilities: DropProbabilities, *, null_label: int | None = None,
) -> types.Conditioning:
  """Leaves each condition out at random, independently of the others.

  A video row is decided once for all its frames, each image of an image row
  on its own.

  Args:
    keys: Random keys [B], one a row.
    conditioning: Conditions, as the model takes them.
    probabilities: Probability of leaving each condition out.
    null_label: The label id that means none (`num_classes`).
  """
  columns = list(probabilities.by_name)
  num_frames: dict[str, int] = {}
  for name, chance in probabilities.by_name.items():
    values = values_of(conditioning, name)
    if chance and values is not None:
      of_row = name in BUILT_IN and BUILT_IN[name].of_row
      num_frames[name] = 1 if of_row else values.shape[1]
  if not num_frames:
    return conditioning
  shape = (max(num_frames.values()), len(columns))
  draws = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
  for name, count in num_frames.items():
    uniform = draws[:, :count, columns.index(name)]
    uniform = per_row(uniform, conditioning.is_image)
    conditioning = drop(
        conditioning, name, uniform < probabilities.by_name[name],
        null_label=null_label)
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
