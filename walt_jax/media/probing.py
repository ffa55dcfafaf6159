"""What a file holds, from its packets: without decoding them."""
from collections.abc import Iterator
import dataclasses
import os

import av

from walt_jax.media import containers
from walt_jax.media import packets as packets_lib
from walt_jax.media import reader as reader_lib
from walt_jax.media import stream_decoder
from walt_jax.media import timeline
from walt_jax.media import truncation
from walt_jax.media import video_info


@dataclasses.dataclass(frozen=True)
class _Stamp:
  """A frame that is not decoded: when it is shown, in seconds, or None."""
  time: float | None


def probe_video(path: str | os.PathLike) -> video_info.VideoInfo:
  """Describes a video by its first frame and the times of all packets.

  `damage` holds what the container tells; more may show in decoding.

  Args:
    path: The file.

  Raises:
    video_info.ClipError: The file holds no video that can be read.
  """
  reader = reader_lib.Reader(path)
  reader.close()
  source = containers.open_video(path)
  try:
    with open(path, 'rb') as file:
      ending = truncation.Ending(source, file)
    packets = packets_lib.Packets(source, ending)
    found = timeline.Timeline(
        _events(packets, ending), packets.interval, lambda _: None)
    for _ in found.stretches():
      pass
  finally:
    source.container.close()
  return dataclasses.replace(
      reader.info, frames=found.frames, duration=found.clock,
      cuts=tuple(found.cuts), damage=tuple(found.damage))


def _events(packets: packets_lib.Packets, ending: truncation.Ending
            ) -> Iterator[_Stamp | stream_decoder.Damage]:
  """Yields frames in the order of display, and damage between them."""
  shown: list[_Stamp] = []  # Since time went back.
  last = None
  for read in packets:
    packet = read.packet
    if read.loss or last is not None and packets.step(
        last, packet) < -packets.jitter:
      yield from _in_order(shown)
      shown = []
    if read.loss:
      yield stream_decoder.Damage(read.loss)
    last = packet
    if not packet.is_discard:
      shown.append(_Stamp(_seconds(packet)))
  yield from _in_order(shown)
  if ending.lacks_frames(packets.interval):
    yield stream_decoder.Damage(ending.reason)
  elif packets.end_problem:
    yield stream_decoder.Damage(packets.end_problem)


def _seconds(packet: av.Packet) -> float | None:
  unit = packet.time_base  # Whole numbers: fractions are slow.
  if packet.pts is None:
    return None
  return packet.pts * unit.numerator / unit.denominator


def _in_order(shown: list[_Stamp]) -> list[_Stamp]:
  if any(stamp.time is None for stamp in shown):
    return shown
  return sorted(shown, key=lambda stamp: stamp.time or 0.0)
