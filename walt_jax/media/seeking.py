"""A part of a file: from one time to another, whatever its index is worth."""
from collections.abc import Iterator
import contextlib
import itertools

import av

from walt_jax.media import containers
from walt_jax.media import stream_decoder
from walt_jax.media import truncation

# MPEG-TS and its kin are entered at any packet, from which a decoder waits for
# the next key frame: too late. Then one enters so many seconds earlier.
_EARLIER = (0.0, 2.0, 8.0, 32.0, float('inf'))
_TOLERANCE = 1e-4  # Seconds; stamps are rounded.

_Events = Iterator[stream_decoder.Event]


def start(source: containers.Source, ending: truncation.Ending,
          begin: float | None = None, end: float | None = None
          ) -> tuple[stream_decoder.Decoder, _Events]:
  """Begins to decode a part of a stream.

  Args:
    source: Open file.
    ending: Where the file should end.
    begin: Seconds to skip, as a player counts them, or None.
    end: Seconds from the file's start where the part ends, or None.

  Returns:
    The decoder, and frames and damage of the part.
  """
  origin = _origin(source)
  first = origin + begin if begin else None
  decoder, events = (_start_whole(source, ending) if first is None else
                     _enter(source, ending, first))
  if first is None and end is None:
    return decoder, events
  return decoder, _between(events, first, None if end is None else origin + end,
                           decoder.packets.interval)


def _origin(source: containers.Source) -> float:
  """The time stamp at which a player's clock starts."""
  if source.container.start_time is not None:
    return source.container.start_time / containers.TIME_BASE
  return 0.0


def _seek(source: containers.Source, time: float) -> None:
  source.container.seek(round(time / source.stream.time_base),
                        stream=source.stream)


def _start_whole(source: containers.Source, ending: truncation.Ending
                 ) -> tuple[stream_decoder.Decoder, _Events]:
  """Decodes from the first packet."""
  if source.is_doubtful:
    # What FFmpeg found while it looked at the file is read again, to know where
    # it is; if it cannot be, it is at the beginning.
    with contextlib.suppress(av.error.FFmpegError):
      _seek(source, min(0.0, _origin(source)))
  decoder = stream_decoder.Decoder(source, ending)
  is_lost = source.is_doubtful and not decoder.packets.is_doubtful
  return decoder, decoder.events('the beginning is damaged' if is_lost else '')


def _enter(source: containers.Source, ending: truncation.Ending, first: float
           ) -> tuple[stream_decoder.Decoder, _Events]:
  """Decodes from a place that is no later than a time stamp."""
  if source.container.start_time is not None:  # A raw stream has none.
    for earlier in _EARLIER:
      try:
        _seek(source, max(first - earlier, _origin(source)))
      except av.error.FFmpegError:
        break
      decoder = stream_decoder.Decoder(source, ending)
      events = decoder.events()
      head = []
      for event in events:
        head.append(event)
        if isinstance(event, av.VideoFrame):
          break
      found = head[-1].time if head and isinstance(
          head[-1], av.VideoFrame) else None
      if earlier == _EARLIER[-1] or (
          found is not None and found <= first + _TOLERANCE):
        return decoder, itertools.chain(head, events)
  decoder = stream_decoder.Decoder(source, ending)
  return decoder, decoder.events()


def _between(events: _Events, first: float | None, last: float | None,
             interval: float) -> _Events:
  """Yields events from a time stamp on, until before another."""
  damage, time, inside = None, None, first is None
  for event in events:
    if isinstance(event, stream_decoder.Damage):
      damage = event
      continue
    if event.time is not None:
      time = event.time
    else:
      time = 0.0 if time is None else time + interval
    if last is not None and time >= last - _TOLERANCE:
      return
    if first is not None and time < first - _TOLERANCE:
      damage = None  # Of no concern.
      continue
    if damage is not None and (inside or time > first + interval):
      yield damage
    damage, inside = None, True
    yield event
  if damage is not None:
    yield damage
