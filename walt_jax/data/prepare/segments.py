"""Lines about one file -> its segments, each with all of its captions."""
from collections.abc import Iterable
import dataclasses

from walt_jax.data.prepare import listing


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
  """One line about a file.

  Attributes:
    name: The file, as the line calls it.
    where: Line and file that say so, for messages.
    captions: What it shows; () when nothing is said.
    label: Class name, if one is given.
    split: 'train' or 'heldout', if one is given.
    start: Seconds.
    end: Seconds.
  """
  name: str
  where: str
  captions: tuple[str, ...] = ()
  label: str | None = None
  split: str | None = None
  start: float | None = None
  end: float | None = None

  @property
  def segment(self) -> tuple[float | None, float | None]:
    """The part of the file that the line is about."""
    return self.start, self.end


def merge(lines: Iterable[Annotation]
          ) -> tuple[list[Annotation], list[listing.Rejection]]:
  """Joins the lines about the same segment of one file.

  Several captions of a segment become one clip with several captions, equal
  ones are kept once. Only classes that differ make copies of a segment. A line
  that asks for another split than an earlier one is not used: the same clip
  would be trained on and held out.

  Args:
    lines: All about one file, in their order.

  Returns:
    One annotation for each segment and class, with the first line's name and
    place, and the lines that contradict others.
  """
  merged: list[Annotation] = []
  contradictions = []
  by_segment: dict[tuple, list[Annotation]] = {}
  for line in lines:
    by_segment.setdefault(line.segment, []).append(line)
  for own in by_segment.values():
    split_line = next((line for line in own if line.split), own[0])
    agreeing = []
    for line in own:
      if line.split in (None, split_line.split):
        agreeing.append(line)
      else:
        contradictions.append(listing.Rejection(
            line.where, f'puts {line.name!r} into split {line.split}, but '
            f'{split_line.where} into {split_line.split}: one file belongs to '
            'one split'))
    labels = list(dict.fromkeys(line.label for line in agreeing if line.label))
    for label in labels or [None]:
      # A line without a class speaks of the one that others give.
      about = [line for line in agreeing if len(labels) < 2
               or line.label == label or line.label is None]
      captions = dict.fromkeys(
          caption for line in about for caption in line.captions)
      merged.append(dataclasses.replace(
          about[0], captions=tuple(captions), label=label,
          split=split_line.split))
  return merged, contradictions


def whole(line: Annotation) -> Annotation:
  """The line as one about a file that was cut out already."""
  return dataclasses.replace(line, start=None, end=None)
