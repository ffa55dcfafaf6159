"""Decoded frames in time: stretches without a gap, and frames at even times."""
from collections.abc import Callable, Hashable, Iterator
import dataclasses
from typing import Any

from walt_jax.media import stream_decoder
from walt_jax.media import video_info

# A longer time without a new frame is a gap, not a picture that stands still.
_LONGEST_STILL = 2.0  # Seconds.
_MOST_MISSING = 10  # Frames, where frames are far apart as a rule.
_TOLERANCE = 1e-4  # Seconds; stamps are rounded.


@dataclasses.dataclass(frozen=True)
class Shown:
  """A frame and when it is shown.

  Attributes:
    frame: Decoded frame, or whatever else stands for it.
    time: Seconds from the first frame of its stretch.
    duration: Seconds that it is shown, if none follows.
  """
  frame: Any
  time: float
  duration: float


class Timeline:
  """Cuts a stream of events where time jumps, or frames are missing.

  Attributes:
    cuts: Places, so far, where time jumps or frames change their size.
    damage: Places, so far, where frames are missing.
    frames: Number of frames so far.
    clock: Seconds that they last, gaps left out.
  """

  def __init__(self, events: Iterator[Any], interval: float,
               look: Callable[[Any], Hashable], clock: float = 0.0):
    """Takes the first frame.

    Args:
      events: Frames, or whatever has a `time`, and `stream_decoder.Damage`.
      interval: Seconds from a frame to the next one, as a rule.
      look: Size of a frame, which must not change within a stretch.
      clock: Seconds of the file before the first frame.
    """
    self.cuts: list[video_info.Place] = []
    self.damage: list[video_info.Place] = []
    self.frames, self.clock = 0, clock
    self._interval, self._look = interval, look
    self._placed = self._place(events)
    self._head = next(self._placed, None)

  def stretches(self) -> Iterator[tuple[float, Iterator[Shown]]]:
    """Yields where each stretch begins, in seconds, and its frames.

    What the caller leaves of a stretch is skipped.
    """
    while self._head is not None:
      begin, first = self._head
      assert begin is not None
      stretch = self._stretch(first)
      yield begin, stretch
      for _ in stretch:
        pass

  def _stretch(self, first: Shown) -> Iterator[Shown]:
    shown: Shown | None = first
    while shown is not None:
      # What comes next is known before a frame is passed on, so that places are
      # told no later than the frame before them.
      self._head = next(self._placed, None)
      yield shown
      begin, shown = self._head or (None, None)
      if begin is not None:
        return

  def _place(self, events: Iterator[Any]
             ) -> Iterator[tuple[float | None, Shown]]:
    """Yields frames, the first of a stretch with its place in the file."""
    begin, first, last, look = 0.0, 0.0, 0.0, None
    is_new, is_damaged = True, False
    for event in events:
      if isinstance(event, stream_decoder.Damage):
        self.damage.append(
            video_info.Place(self.clock, self.frames, event.reason))
        is_new = is_damaged = True
        continue
      stamp = event.time
      if stamp is None:
        stamp = last + self._interval if self.frames else 0.0
      new_look = self._look(event)
      if self.frames and not is_damaged:
        reason = self._jump(stamp - last)
        if not reason and new_look != look:
          reason = f'frames change their size from {look} to {new_look}'
        if reason:
          is_new = True
          self.cuts.append(
              video_info.Place(self.clock, self.frames, reason))
      if is_new:
        begin, first = self.clock, stamp
        if self.frames and is_damaged:  # The clock runs on.
          lost = stamp - last - self._interval
          begin += lost if 0 < lost <= self._longest() else 0.0
      time = max(stamp, last) - first if not is_new else 0.0
      last, look = max(stamp, last) if not is_new else stamp, new_look
      shown = Shown(event, time, self._duration(event))
      self.clock = begin + time + shown.duration
      self.frames += 1
      yield begin if is_new else None, shown
      is_new = is_damaged = False

  def _duration(self, event: Any) -> float:
    """Seconds that a frame is shown, if none follows."""
    told = getattr(event, 'duration', None) or 0
    if told:
      unit = event.time_base  # Whole numbers: fractions are slow.
      told = told * unit.numerator / unit.denominator
    return told if self._interval < told <= self._longest() else self._interval

  def _longest(self) -> float:
    return max(_LONGEST_STILL, _MOST_MISSING * self._interval)

  def _jump(self, step: float) -> str:
    """Why a step in time is a gap, or ''."""
    if step > self._longest():
      return f'nothing new is shown for {step:.2f} s'
    if step < -1.5 * self._interval:
      return f'timestamps go back by {-step:.2f} s'
    return ''


def resample(shown: Iterator[Shown], fps: float | None) -> Iterator[Any]:
  """Yields the frame on show at each tick of `fps`, or all without it.

  Args:
    shown: Frames of one stretch.
    fps: Frames a second wanted.
  """
  if fps is None:
    for each in shown:
      yield each.frame
    return
  ticks, last = 0, None
  for each in shown:
    # A small tolerance keeps equal rates from dropping frames to rounding.
    while last is not None and ticks / fps < each.time - _TOLERANCE:
      yield last.frame
      ticks += 1
    last = each
  end = last.time + last.duration - _TOLERANCE if last is not None else 0.0
  while last is not None and ticks / fps < end:
    yield last.frame
    ticks += 1
