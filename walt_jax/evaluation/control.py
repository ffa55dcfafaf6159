"""`walt evaluate control`: do clips show the digits that were asked for?"""
from collections.abc import Callable
from typing import Any

import numpy as np

from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.data.sources import moving_digits
from walt_jax.evaluation import digit_reader
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import reconstruct
from walt_jax.sampling import compiled_tokenizer

_HELD_OUT_CLIPS = 320  # Real clips on which the readers show what they can.


class Control:
  """Reads clips of moving digits and counts what is as it was asked for."""
  takes: tuple[metric.Kind, ...] = ('generated',)

  def evaluate(self, inputs: inputs_lib.Inputs) -> dict[str, Any]:
    """Scores generated clips that say what they were asked to show."""
    if inputs.request.network:
      raise errors.UserError(
          f'--network {inputs.request.network}: control trains readers of its '
          'own and would not read it; leave it out')
    if inputs.request.frames:
      raise errors.UserError(
          f'--frames {inputs.request.frames}: control reads whole clips and '
          'would not heed it; leave it out')
    generated = inputs.generated()
    digits, directions = [], []
    if not generated.entries:
      raise errors.UserError(
          f'{generated.path} has no samples.json, so nothing says what was '
          'asked for; give a folder written by walt sample')
    for entry in generated.entries:
      # A caption says more than the name of a class may.
      asked = entry.caption or entry.label or ''
      try:
        digit, direction = moving_digits.parse_name(asked)
      except ValueError:
        raise errors.UserError(
            f'sample {entry.stem} of {generated.path} was asked to show '
            f'{asked!r}, which names no moving digit'
        ) from None
      digits.append(digit)
      directions.append(direction)
    clips = generated.stack()
    if clips.shape[2] != clips.shape[3] or clips.shape[2] % 32:
      raise errors.UserError(
          f'{generated.path} has frames of {plan_lib.size_of(clips[0])}; '
          'the readers need squares of a multiple of 32 pixels')
    reader = digit_reader.train_reader()
    result = digit_reader.score(reader.read(clips), digits, directions)
    tokenizer = _tokenizer_of(generated, inputs.request.allow_code)
    readers = digit_reader.reader_accuracy(
        reader, size=clips.shape[2], num_frames=clips.shape[1],
        count=_HELD_OUT_CLIPS,
        reconstruct=None if tokenizer is None else _reconstruct_fn(tokenizer))
    return dict(
        metric='control', value=result['digit']['accuracy'],
        values=[result['digit']['accuracy']], num_real=_HELD_OUT_CLIPS,
        num_generated=len(clips), frames=clips.shape[1],
        network=dict(name='moving-digits-readers', source='trained here',
                     sha256=''), preprocessing='none', covariance=None,
        protocol=inputs.request.protocol, comparable_to=[], readers=readers,
        **result)


def _reconstruct_fn(tokenizer: Any) -> Callable[[np.ndarray], np.ndarray]:
  codec = compiled_tokenizer.Codec(tokenizer)
  return lambda clips: np.stack(
      list(reconstruct.reconstructions(codec, clips)))


def _tokenizer_of(generated, allow_code: bool) -> Any:
  """The tokenizer that decoded the samples, if it is still there."""
  if not generated.workdirs:
    return None
  workdir = paths.path(generated.workdirs[0])
  if not workdir.is_dir():
    return None
  return tokenizers.load_tokenizer(str(workdir), allow_code=allow_code)
