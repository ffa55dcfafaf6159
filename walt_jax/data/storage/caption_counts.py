"""What a manifest counts of the captions of a set."""
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools

_MOST_REMEMBERED = 10_000  # Captions whose length is kept.


@dataclasses.dataclass(frozen=True)
class CaptionLimit:
  """What a text encoder reads of a caption.

  Attributes:
    encoder: Its name.
    max_tokens: Tokens that it reads, special ones included.
    is_cut: Whether it reads a caption only in part; travels to workers.
  """
  encoder: str
  max_tokens: int
  is_cut: Callable[[str], bool]

  def describe(self) -> dict[str, str | int]:
    """For a manifest."""
    return dict(encoder=self.encoder, max_tokens=self.max_tokens)


class CaptionCounts:
  """Counts the captions of clips as they are written."""

  def __init__(self, limit: CaptionLimit | None = None):
    """Counts from nothing; without a limit, none is measured."""
    self._counts = dict(captions=0, clips_without=0, clips_with_several=0)
    self._is_cut = None
    if limit is not None:
      self._counts['cut'] = 0
      self._is_cut = functools.lru_cache(_MOST_REMEMBERED)(limit.is_cut)

  def add(self, captions: Sequence[str]) -> None:
    """Takes note of a clip; () or '' is no caption."""
    captions = [caption for caption in captions if caption]
    self._counts['captions'] += len(captions)
    self._counts['clips_without'] += not captions
    self._counts['clips_with_several'] += len(captions) > 1
    if self._is_cut is not None:
      self._counts['cut'] += sum(map(self._is_cut, captions))

  def report(self) -> dict[str, int]:
    """The counts, a JSON value; `cut` is there if it was measured."""
    return dict(self._counts)


def total(reports: Iterable[Mapping[str, int]]) -> dict[str, int]:
  """The sums of several reports, for a manifest."""
  found: dict[str, int] = CaptionCounts().report()
  for report in reports:
    for what, count in report.items():
      found[what] = found.get(what, 0) + count
  return found
