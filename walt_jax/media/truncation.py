"""Whether a file ends before its own headers say that it does.

Containers write their length in front of what they hold. Where the file is
shorter, frames are missing, or only the index that comes after them.
"""
from collections.abc import Callable
import os
import struct
from typing import BinaryIO

import av

from walt_jax.media import containers

_MAY_LACK = 0.02  # Part of a length that nobody misses, where it is a guess.


class Ending:
  """What has been seen of a file's end.

  Attributes:
    follows_all: Whether packets of all streams must be seen to tell.
  """

  def __init__(self, source: containers.Source, file: BinaryIO):
    """Reads the lengths in a file's headers.

    Args:
      source: Open file.
      file: The same file's bytes.
    """
    self._container, self._stream = source.container, source.stream
    self._format = source.container.format.name.partition(',')[0]
    self._size = file.seek(0, os.SEEK_END)
    test = _TESTS.get(self._format)
    self._is_cut = test(file, self._size) if test else None
    self.follows_all = self._is_cut is not False
    self._end = 0.0  # Of the packet that ends last, in seconds.

  @property
  def reason(self) -> str:
    """What is wrong, for messages."""
    told = self._promised()
    if self._format == 'mpegts':  # Has no header that promises a length.
      return 'the file ends within a packet'
    return (f'the file ends after {self._end:.2f} of {told:.2f} seconds'
            if self._end < told else 'the file ends too early')

  def see(self, packet: av.Packet) -> None:
    """Takes note of a packet."""
    stamp = packet.dts if packet.pts is None else packet.pts
    counts = self._format != 'avi' or packet.stream is self._stream
    if stamp is not None and counts:
      unit = packet.time_base  # Whole numbers: fractions are slow.
      end = stamp + (packet.duration or 0)
      self._end = max(self._end, end * unit.numerator / unit.denominator)

  def lacks_frames(self, interval: float) -> bool:
    """Whether frames are missing; known once all packets were seen.

    Args:
      interval: Seconds from a frame to the next one.
    """
    told = self._promised()
    if self._is_cut is False:  # An AVI passes over what it cannot read.
      return self._format == 'avi' and self._end < told - max(
          2.5 * interval, _MAY_LACK * told)
    if self._is_cut and self._format == 'mov':
      entries = self._stream.index_entries
      last = entries[-1] if len(entries) else None
      return last is not None and last.pos + last.size > self._size
    if self._is_cut and self._format == 'mpegts':
      return True  # Of the last frame, whose length nothing tells.
    if self._is_cut:
      return not told or self._end + 1.5 * interval < told
    return (1 - _MAY_LACK) * told > self._end + 1.0

  def _promised(self) -> float:
    """Seconds that the headers promise, or 0."""
    stream = self._stream
    if self._format == 'avi':  # FFmpeg's duration is what the file can hold.
      return float(stream.frames * stream.time_base)
    if self._format == 'mov' and stream.duration:
      return float(stream.duration * stream.time_base)
    return (self._container.duration or 0) / av.time_base


def _mov(file: BinaryIO, size: int) -> bool | None:
  """Walks the boxes of an ISO base media file, which lie end to end."""
  at = 0
  while at + 8 <= size:
    file.seek(at)
    header = file.read(16)
    length = int.from_bytes(header[:4], 'big')
    if length == 1 and len(header) == 16:
      length = int.from_bytes(header[8:], 'big')
    elif length == 0:  # Up to the end.
      return False
    if length < 8:
      return None
    at += length
  return at > size


def _matroska(file: BinaryIO, size: int) -> bool | None:
  """The segment, which follows the EBML header, holds everything."""
  at = 0
  for identity in (b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67'):
    file.seek(at)
    header = file.read(12)
    if not header.startswith(identity) or len(header) < 12 or not header[4]:
      return None
    count = 9 - header[4].bit_length()  # Bytes of the length.
    length = int.from_bytes(header[4:4 + count], 'big') - (1 << 7 * count)
    if length == (1 << 7 * count) - 1:  # Written before it was known.
      return None
    at += 4 + count + length
  return at > size


def _avi(file: BinaryIO, size: int) -> bool | None:
  """Large files are several RIFF chunks."""
  at = 0
  while at + 8 <= size:
    file.seek(at)
    name, length = struct.unpack('<4sI', file.read(8))
    if name != b'RIFF':
      break
    if length in (0, 0xFFFFFFFF):  # Written before it was known.
      return None
    at += 8 + length
  return at > size if at else None


def _mpegts(file: BinaryIO, size: int) -> bool | None:
  """Packets of one length, each of which begins with one byte."""
  file.seek(0)
  start = file.read(3 * 204)
  for length, first in ((188, 0), (192, 4), (204, 0)):
    if start[first::length][:3] == b'GGG':
      return size % length != 0
  return None


_TESTS: dict[str, Callable[[BinaryIO, int], bool | None]] = {
    'mov': _mov, 'matroska': _matroska, 'avi': _avi, 'mpegts': _mpegts}
