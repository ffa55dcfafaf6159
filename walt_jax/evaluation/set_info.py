"""What sets of clips are: rate, length, size and codec, and how two differ."""
from collections.abc import Callable, Iterable, Sequence
import dataclasses
from typing import Any

from walt_jax.media import video_info

_MAY_DIFFER = 0.05  # Part of a rate, a duration or a size.


@dataclasses.dataclass(frozen=True)
class ClipInfo:
  """What is known of one clip before it is decoded.

  Attributes:
    height: Rows of its frames.
    width: Columns.
    frames: Number of its frames; None where only reading all would tell.
    rate: Frames a second; None for arrays and images, which have none.
    duration: Seconds; None likewise.
    container: 'mp4', 'npy', ..; None for what was never in a file.
    codec: 'h264', 'png', 'raw', .. or None.
    lossless: Whether the file keeps every pixel; None where nothing says so.
    flaws: Places of damage, and of gaps in time.
  """
  height: int
  width: int
  frames: int | None = None
  rate: float | None = None
  duration: float | None = None
  container: str | None = None
  codec: str | None = None
  lossless: bool | None = None
  flaws: tuple[video_info.Place, ...] = ()


@dataclasses.dataclass(frozen=True)
class Span:
  """The least, the mean and the largest of some numbers."""
  least: float
  mean: float
  largest: float

  @classmethod
  def of(cls, values: Iterable[float | None]) -> 'Span | None':
    """Of the values that are known, or None."""
    known = [value for value in values if value is not None]
    if not known:
      return None
    return cls(min(known), sum(known) / len(known), max(known))


@dataclasses.dataclass(frozen=True)
class SetInfo:
  """What is known of a set of clips; fields are None where nothing is.

  Attributes:
    path: Where the clips are.
    count: Number of clips.
    height: Rows of their frames.
    width: Columns.
    frames: Frames of a clip.
    rate: Frames a second.
    duration: Seconds of a clip.
    container: Names of the containers, joined by commas.
    codec: Names of the codecs, likewise.
    lossless: Whether every clip's codec keeps every pixel.
    flawed: Number of clips with damage or gaps in time behind what is scored.
  """
  path: str
  count: int | None
  height: int | None = None
  width: int | None = None
  frames: Span | None = None
  rate: Span | None = None
  duration: Span | None = None
  container: str | None = None
  codec: str | None = None
  lossless: bool | None = None
  flawed: int = 0

  @classmethod
  def of(cls, path: str, clips: Sequence[ClipInfo]) -> 'SetInfo':
    """Adds up clips whose frames have one size."""
    known = [c.lossless for c in clips if c.lossless is not None]
    return cls(
        path, len(clips), clips[0].height, clips[0].width,
        frames=Span.of(c.frames for c in clips),
        rate=Span.of(c.rate for c in clips),
        duration=Span.of(c.duration for c in clips),
        container=_names(c.container for c in clips),
        codec=_names(c.codec for c in clips),
        lossless=all(known) if known else None,
        flawed=sum(bool(c.flaws) for c in clips))

  def record(self) -> dict[str, Any]:
    """What a result says of the set."""
    return dataclasses.asdict(self)

  @classmethod
  def of_record(cls, record: dict[str, Any]) -> 'SetInfo':
    """The set that `record` describes."""
    spans = {name: Span(**record[name]) for name in (
        'frames', 'rate', 'duration') if record[name] is not None}
    return cls(**record | spans)


@dataclasses.dataclass(frozen=True)
class Difference:
  """A way in which the clips of two sets are unlike.

  Attributes:
    what: 'rate', 'duration', 'size', 'length' or 'compression'.
    real: Value of the real clips.
    generated: Value of the generated ones.
    matters: Whether no published score is measured so.
    text: The same for messages.
  """
  what: str
  real: Any
  generated: Any
  matters: bool
  text: str


def differences(real: SetInfo, generated: SetInfo,
                frames: int | None = None) -> list[Difference]:
  """Where two sets differ in what a score of them depends on.

  What is not known of both does not differ.

  Args:
    real: The real clips.
    generated: The generated ones.
    frames: First frames that are scored of each clip; None is all. Of a
      single one it does not matter when it is shown.
  """
  found: list[Difference] = []

  def add(what: str, pair: Sequence[Any], text: str, matters: bool = True):
    found.append(Difference(what, pair[0], pair[1], matters, text))

  if frames != 1:
    _add_times(add, real, generated, frames)
  sizes = [[info.height, info.width] for info in (real, generated)]
  if any(_differ(a, b) for a, b in zip(*sizes, strict=True)):
    add('size', sizes, 'frames of {}x{} and {}x{}'.format(
        *sizes[0], *sizes[1]))
  if None not in (real.lossless, generated.lossless) and (
      real.lossless != generated.lossless):
    names = [f'{"lossless" if info.lossless else "lossy"} '
             f'({info.codec or "no codec"})' for info in (real, generated)]
    add('compression', names, '{} and {} clips'.format(*names),
        matters=False)
  return found


def _add_times(add: Callable[..., None], real: SetInfo, generated: SetInfo,
               frames: int | None) -> None:
  """Differences of clips with more than one frame."""
  if real.rate and generated.rate:
    rates = real.rate.mean, generated.rate.mean
    if _differ(*rates):
      add('rate', rates, '{:.4g} and {:.4g} frames/s'.format(*rates))
  scored = _scored(real, frames), _scored(generated, frames)
  if _differ(*scored):
    add('duration', scored, '{:.3g} and {:.3g} s are scored'.format(*scored))
  elif real.duration and generated.duration and frames is not None:
    whole = real.duration.mean, generated.duration.mean
    if _differ(*whole, slack=_period(real) + _period(generated)):
      add('length', whole, 'clips of {:.3g} and {:.3g} s, of which the first '
          '{} frames are scored'.format(*whole, frames), matters=False)


def _names(names: Iterable[str | None]) -> str | None:
  return ','.join(sorted({name for name in names if name})) or None


def _scored(info: SetInfo, frames: int | None) -> float | None:
  """Seconds that are scored of a clip."""
  if frames is None or not info.rate:
    return info.duration.mean if info.duration else None
  return frames / info.rate.mean


def _period(info: SetInfo) -> float:
  """Seconds of a frame: lengths are not told more exactly."""
  return 1 / info.rate.mean if info.rate else 0.0


def _differ(real: float | None, generated: float | None,
            slack: float = 0.0) -> bool:
  if real is None or generated is None:
    return False
  return abs(real - generated) > max(_MAY_DIFFER * real, slack)
