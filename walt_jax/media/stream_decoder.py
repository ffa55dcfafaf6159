"""Decoding a stream: frames in the order of display, and where it is broken.

FFmpeg decodes on after damage, and makes up what is missing. Four signs tell:
an error, a mark on a packet or on a frame, and the messages that the command
`ffmpeg` prints; some damage shows in one of them alone. From the first sign to
the next key frame, nothing is sound.
"""
import collections
from collections.abc import Iterator, Sequence
import dataclasses
import itertools

import av
from av import logging as av_logging

from walt_jax.media import containers
from walt_jax.media import packets as packets_lib
from walt_jax.media import truncation

_LONGEST_LOSS = 2.0  # Seconds; more, up to a key frame, is a gap in time.
_JOINT = 2  # Packets before the joint of two files that may be marked.


@dataclasses.dataclass(frozen=True)
class Damage:
  """Frames are missing here.

  Attributes:
    reason: First sign of it, for messages.
  """
  reason: str


Event = av.VideoFrame | Damage


class Decoder:
  """A stream from where its container stands.

  Attributes:
    packets: Its packets.
    last_problem: First sign of the last damage, or ''.
  """

  def __init__(self, source: containers.Source, ending: truncation.Ending):
    """Reads a few packets ahead.

    Args:
      source: Open file.
      ending: Where the file should end.
    """
    self.packets = packets_lib.Packets(source, ending)
    self.last_problem = ''
    self._stream, self._ending = source.stream, ending
    # Damage in the order of display: from `_from` (in units of the stream) to
    # the key frame at `_until`, which is None while none was found.
    self._problem = ''
    self._from: int | None = None
    self._until: int | None = None
    self._resumed = False  # After damage, at a key frame.
    self._started = False  # Before that, a decoder has nothing to build on.
    self._last: av.Packet | None = None  # Of the sound ones.

  def events(self, problem: str = '') -> Iterator[Event]:
    """Yields sound frames, and damage between them.

    Args:
      problem: What is known to be wrong before the first frame, or ''.
    """
    if problem:
      self.last_problem = problem
      yield Damage(problem)
    reads = iter(self.packets)
    window = collections.deque(itertools.islice(reads, _JOINT))
    while window:
      read = window.popleft()
      window.extend(itertools.islice(reads, 1))
      yield from self._decode(read, window)
    yield from self._finish()

  def _decode(self, read: packets_lib.Read,
              following: Sequence[packets_lib.Read]) -> Iterator[Event]:
    """Decodes a packet, in sight of those that come after it."""
    packet = read.packet
    is_damaged = read.is_marked and not self.packets.is_joint(
        [packet, *(later.packet for later in following)])
    # Where a file is found to be damaged, the packet before it was, too.
    problem = (read.problem or ('a packet is damaged' if is_damaged else '') or
               (following[0].loss if following else self.packets.end_problem))
    if not problem and self._last is not None and self.packets.step(
        self._last, packet) < -self.packets.jitter:
      yield from self._start_anew()
    if packet.is_keyframe and not self._started:
      # Frames that are shown before it, and follow, have nothing to build on.
      self._started, self._until = True, packet.pts
    step = 0.0 if self._last is None else self.packets.step(self._last, packet)
    if (self.packets.holes_are_losses and step > 1.5 * self.packets.interval
        and not (packet.is_keyframe and step > _LONGEST_LOSS)):
      self._break('packets are missing', packet.pts)
    if self._problem and self._until is None and packet.is_keyframe:
      self._resumed, self._until = True, packet.pts
    if problem:
      self._break(problem, packet.pts)
    frames, failure = self._call(packet)
    if failure:
      self._break(failure, packet.pts)
    if not problem and not failure:
      self._last = packet
    yield from self._sound(frames)

  def _start_anew(self) -> Iterator[Event]:
    """Ends with all frames so far, as time goes back."""
    yield from self._flush()
    self._stream.codec_context.flush_buffers()
    self._until, self._last = None, None

  def _finish(self) -> Iterator[Event]:
    """Ends with what the decoder holds, and with what the file lacks."""
    self.last_problem = self.last_problem or self.packets.end_problem
    # What a shortened index lacks is no frame.
    if self._ending.lacks_frames(self.packets.interval):
      self._problem = ''
      self._break(self._ending.reason, None)
    yield from self._flush()

  def _flush(self) -> Iterator[Event]:
    frames, _ = self._call(None)
    yield from self._sound(frames)
    if self._problem:
      yield self._take_damage()

  def _call(self, packet: av.Packet | None
            ) -> tuple[list[av.VideoFrame], str]:
    """Frames that come out, and what FFmpeg complained of."""
    frames: list[av.VideoFrame] = []
    with av_logging.Capture() as messages:
      try:
        frames = self._stream.decode(packet)
      except av.error.EOFError:
        pass
      except (av.error.FFmpegError, ValueError) as error:
        messages.append((av_logging.ERROR, '', containers.reason(error)))
    for frame in frames:
      if frame.time_base is None:  # Out of a decoder that is flushed.
        frame.time_base = self._stream.time_base
    return frames, packets_lib.complaint(messages, self.packets.names)

  def _break(self, problem: str, time: int | None) -> None:
    """Takes note of damage to the packet after the last sound one.

    Args:
      problem: First sign of it.
      time: Time stamp of the packet, or None.
    """
    self.last_problem = problem
    if not self._started or (self._until is not None and time is not None
                             and time < self._until):
      return  # Nothing to build on; these frames are dropped as it is.
    if not self._problem:
      self._problem = problem
      # Frames up to here have all been decoded, whatever their order; the time
      # of a damaged packet is worth nothing.
      self._from = time
      if self._last is not None and self._last.dts is not None:
        self._from = self._last.dts + 1
    self._until, self._resumed = None, False

  def _sound(self, frames: list[av.VideoFrame]) -> Iterator[Event]:
    """Yields the frames that are sound, and damage that lies before them."""
    for frame in frames:
      if not self._started:
        continue
      if frame.is_corrupt and not self._problem:
        self._break('a frame is damaged', frame.pts)
        continue
      if self._problem:
        if frame.pts is None or self._from is None:
          if not (self._resumed and frame.key_frame):
            continue
        elif frame.pts < self._from and not frame.is_corrupt:
          yield frame
          continue
        elif self._until is None or frame.pts < self._until:
          continue
        yield self._take_damage()
      yield frame

  def _take_damage(self) -> Damage:
    damage = Damage(self._problem)
    self._problem, self._from, self._resumed = '', None, False
    return damage
