"""Reading the packets of a stream, and the signs of damage to the file."""
from collections.abc import Iterator
import dataclasses
import itertools
import statistics

import av
from av import logging as av_logging

from walt_jax.media import containers
from walt_jax.media import truncation

_LOOK_AHEAD = 32  # Packets by which the distance of frames is told.
_MOSTLY = 0.8  # Part of the frames that makes a rate even.
# What FFmpeg calls an error although every frame comes out right: seeking in
# edit lists, references that a clean cut left behind. What a shortened file
# lacks is for `truncation` to tell.
_HARMLESS = (
    'Missing key frame while searching for timestamp', 'Cannot find an index',
    'co located POCs unavailable', 'mmco: unref short failure',
    'number of reference frames', 'SEI type', 'Late SEI',
    'File ended prematurely', 'unspecified size', 'VBV underflow')

Messages = list[tuple[int, str, str]]  # Level, who says it, and what.


@dataclasses.dataclass(frozen=True)
class Read:
  """A packet, and what FFmpeg complained of while it was found.

  Attributes:
    packet: Packet as stored.
    problem: Complaint about the packet itself, or ''.
    loss: Complaint about the file before it, or ''.
    is_marked: Whether FFmpeg takes it, or the next one, for damaged.
  """
  packet: av.Packet
  problem: str = ''
  loss: str = ''
  is_marked: bool = False


class Packets:
  """Packets of a stream from where its container stands.

  Attributes:
    interval: Seconds from a frame to the next one, as a rule.
    jitter: Seconds by which time stamps may be off.
    is_doubtful: Whether FFmpeg complained of one of the first.
    holes_are_losses: Whether packets are missing where times leave a hole: in
      MPEG-TS, most of whose losses nothing else tells, at an even rate.
    names: Parts of FFmpeg whose complaints concern the stream.
    end_problem: Complaint about what comes after the last packet, or ''.
  """

  def __init__(self, source: containers.Source, ending: truncation.Ending):
    """Reads a few packets ahead.

    Args:
      source: Open file.
      ending: Where the file should end.
    """
    self._container, self._stream = source.container, source.stream
    self._ending = ending
    self._demuxer = {source.container.format.name, ''}
    self.names = {*self._demuxer, source.stream.codec_context.name}
    self.end_problem = ''
    self._reads = self._read()
    self._ahead = list(itertools.islice(self._reads, _LOOK_AHEAD))
    packets = [read.packet for read in self._ahead]
    self.interval = _interval(packets, source.stream)
    self.jitter = max(0.1, 2 * self.interval)
    self.is_doubtful = bool(self.end_problem) or any(
        read.loss for read in self._ahead)

    steps = [self.step(*pair) for pair in itertools.pairwise(packets)]
    even = [abs(step - self.interval) < self.interval / 10 for step in steps]
    self.holes_are_losses = (
        source.container.format.name == 'mpegts'
        and sum(even) >= _MOSTLY * len(even))

  def __iter__(self) -> Iterator[Read]:
    """Yields packets, once."""
    return itertools.chain(self._ahead, self._reads)

  def step(self, packet: av.Packet, following: av.Packet) -> float:
    """Seconds from one packet to the next, in the order of decoding."""
    if packet.dts is None or following.dts is None:
      return self.interval
    unit = packet.time_base  # Whole numbers: fractions are slow.
    return (following.dts - packet.dts) * unit.numerator / unit.denominator

  def is_joint(self, packets: list[av.Packet]) -> bool:
    """Whether whole files were joined soon after the first of some packets.

    Packets of MPEG-TS are counted; the last ones before a joint are marked as
    if some were lost after them.
    """
    for packet, following in itertools.pairwise(packets):
      step = self.step(packet, following)
      is_next = abs(step - self.interval) < self.interval / 2
      if following.is_keyframe and (is_next or step < -self.jitter):
        return True
      if not is_next:
        return False
    return False

  def _read(self) -> Iterator[Read]:
    """Yields packets of the stream; shows those of others to the ending."""
    streams = () if self._ending.follows_all else (self._stream,)
    packets = self._container.demux(*streams)
    messages: Messages = []
    while True:
      packet = None
      with av_logging.Capture() as heard:
        try:
          packet = next(packets, None)
        except av.error.EOFError:
          pass
        except av.error.FFmpegError as error:
          messages.append((av_logging.ERROR, '', containers.reason(error)))
      messages += heard
      if packet is None:
        self.end_problem = complaint(messages, self.names)
        return
      if packet.dts is None and not packet.size:  # To flush a decoder.
        continue
      self._ending.see(packet)
      if packet.stream is self._stream:
        loss = complaint(messages, self._demuxer)
        yield Read(packet, '' if loss else complaint(messages, self.names),
                   loss, packet.is_corrupt or containers.has_marks(
                       messages, self._stream))
        messages = []


def complaint(messages: Messages, names: set[str]) -> str:
  """The first message that tells of damage, or ''.

  Args:
    messages: What FFmpeg said.
    names: Parts of FFmpeg that are listened to.
  """
  for level, name, text in messages:
    text = ' '.join(text.split()).rstrip('.')
    if (level <= av_logging.ERROR and name in names and text
        and not text.startswith(_HARMLESS)):
      return f'{name.partition(",")[0]}: {text}' if name else text
  return ''


def _interval(packets: list[av.Packet], stream) -> float:
  """Seconds from a frame to the next one, as a rule.

  What a header says is the mean over the file, which a gap makes worthless.
  """
  rate = float(stream.average_rate or stream.guessed_rate or 0)
  told = 1 / rate if rate else 0.0
  stamps = sorted({packet.pts for packet in packets if packet.pts is not None})
  unit = float(stream.time_base)
  steps = [(b - a) * unit for a, b in itertools.pairwise(stamps)]
  if not steps:
    steps = [packet.duration * unit for packet in packets if packet.duration]
  seen = statistics.median(steps) if steps else 0.0
  if not seen or told and 0.5 < told / seen < 2:
    return told or 1 / containers.UNKNOWN_RATE
  return seen
