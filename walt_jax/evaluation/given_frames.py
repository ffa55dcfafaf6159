"""How many first frames of the generated clips are real ones."""
import collections
from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

from walt_jax.core import errors
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.media import decode
from walt_jax.media import samples
from walt_jax.sampling import requests as requests_lib

_FLAG = '--given_frames'


@dataclasses.dataclass(frozen=True)
class Given:
  """First frames of each generated clip that were given to the model.

  Attributes:
    counts: Number of clips by the frames that each was given; None is how
      many frames those were given of which nothing says it.
    known_by: What says so: 'samples.json', '--given_frames', '--requests', or
      'drawn' for samples that are given nothing; None where nothing says it,
      and none are taken to be given.
  """
  counts: Mapping[int | None, int]
  known_by: str | None

  @property
  def frames(self) -> int | None:
    """The number of every clip; None where clips differ or it is unknown."""
    return next(iter(self.counts)) if len(self.counts) == 1 else None

  def describe(self) -> dict[str, Any]:
    """What a result says."""
    found = dict(given_frames=self.frames, given_frames_known_by=self.known_by)
    if self.frames is None:
      found['given_frames_counts'] = {
          str(frames): count for frames, count in self.counts.items()}
    return found

  def __str__(self) -> str:
    if self.frames is not None:
      return str(self.frames)
    return ' and '.join(
        f'{"an unknown number" if frames is None else frames} in {count} clips'
        for frames, count in self.counts.items())


def of(inputs: inputs_lib.Inputs) -> Given:
  """Finds it out.

  Raises:
    UserError: `--given_frames` says something else than the samples do.
  """
  asked = inputs.request.measure.given_frames
  counts, known_by = _told(inputs)
  if not counts or (None in counts and asked is not None):
    if asked is None:
      return Given({0: 1}, 'drawn' if inputs.is_drawn else None)
    return Given({asked: 1}, _FLAG)
  found = Given(counts, known_by)
  if asked is not None and found.frames != asked:
    raise errors.UserError(
        f'--given_frames {asked}, but by {known_by} the frames given to the '
        f'model are {found}; leave {_FLAG} out')
  return found


def _told(inputs: inputs_lib.Inputs
          ) -> tuple[dict[int | None, int], str | None]:
  """What the samples or their requests say; nothing where they do not."""
  request = inputs.request
  if not inputs.is_drawn:
    entries = inputs.generated().entries
    return _counts(map(_of_entry, entries)), 'samples.json'
  file = request.drawing.requests_file
  if inputs.model is not None or not file:
    return {}, None
  asked = requests_lib.read(file, request.seed)
  if not any(r.image or r.video for r in asked):
    return {}, None
  shared = inputs.pipeline()[0].plan().context_frames
  return _counts(1 if r.image else shared if r.video else 0
                 for r in asked), '--requests'


def _of_entry(entry: samples.Entry) -> int | None:
  """Folders of earlier versions name the file, not the number of frames."""
  if entry.given_frames is not None or not entry.source:
    return entry.given_frames or 0
  return 1 if decode.is_image(entry.source) else None


def _counts(frames: Iterable[int | None]) -> dict[int | None, int]:
  return dict(collections.Counter(frames).most_common())
