"""Opening video files, and which of their streams is read."""
import dataclasses
import io
import logging
import os
from typing import Any, BinaryIO

import av
from av import stream as av_stream
from av import video

from walt_jax.media import video_info

SUFFIXES = frozenset(
    ('.3gp', '.asf', '.avi', '.flv', '.gif', '.m2ts', '.m4v', '.mkv', '.mov',
     '.mp4', '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.vob', '.webm', '.wmv'))
# PyAV before 19 refuses titles that are not UTF-8 unless it is told not to; 19
# reads them, and knows no such argument.
_OPENING: dict[str, Any] = (
    {} if int(av.__version__.partition('.')[0]) >= 19 else
    dict(metadata_errors='ignore'))
# What FFmpeg may take a file for. It would also draw text files as video, and
# follow playlists to other files.
_FORMATS = ','.join((
    'mov', 'matroska', 'avi', 'mpegts', 'mpeg', 'mpegvideo', 'flv', 'ogg',
    'asf', 'gif', 'apng', 'ivf', 'h264', 'hevc', 'm4v', 'mjpeg', 'rm', 'dv',
    'nut', 'wtv', 'mxf', 'swf', 'yuv4mpegpipe', 'av1', 'obu', '3dostr',
    'wav', 'mp3', 'flac', 'aac'))  # The last row for a better message.

UNKNOWN_RATE = 25.0  # Frames a second of a file that tells none.
TIME_BASE = av.time_base  # Units of a container's duration in a second.


@dataclasses.dataclass(frozen=True)
class Source:
  """An open file, and which of its streams is read.

  Attributes:
    container: PyAV's container, for the caller to close.
    stream: One of its video streams.
    is_doubtful: Whether FFmpeg found the file damaged as it looked at it.
  """
  container: Any
  stream: video.VideoStream
  is_doubtful: bool


def open_video(path: str | os.PathLike, data: bytes | None = None) -> Source:
  """Opens a file and chooses its video stream.

  Args:
    path: The file.
    data: Its bytes, where they are not in `path`.

  Raises:
    video_info.ClipError: Not a video.
  """
  # FFmpeg's messages reach who asks for them (`av.logging.Capture`), no others.
  logging.getLogger('libav').setLevel(logging.CRITICAL)
  av.logging.set_level(av.logging.WARNING)
  av.logging.set_skip_repeated(False)
  file: str | BinaryIO = str(path)
  if data is not None:
    file = io.BytesIO(data)
  try:
    with av.logging.Capture() as messages:
      container = av.open(file, **_OPENING, options=dict(
          format_whitelist=_FORMATS, protocol_whitelist='file'))
  except av.error.ArgumentError as error:
    raise video_info.ClipError(
        'not a format of videos that is read, as a playlist is not') from error
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise video_info.ClipError(reason(error)) from error
  try:
    stream = _choose(container)
  except video_info.ClipError:
    container.close()
    raise
  # Workers run in parallel; and threads would differ on damaged files.
  stream.thread_type = 'NONE'
  stream.codec_context.thread_count = 1
  is_doubtful = any(
      level <= av.logging.ERROR and name == container.format.name
      for level, name, _ in messages)
  return Source(container, stream, is_doubtful)


def has_marks(messages, stream: video.VideoStream) -> bool:
  """Whether FFmpeg warned of a damaged packet of a stream."""
  marks = (f'Packet corrupt (stream = {stream.index},',
           f'Invalid timestamps stream={stream.index},')
  return any(text.startswith(marks) for *_, text in messages)


def _choose(container) -> video.VideoStream:
  """The video stream that players take: the default one, else the largest.

  Pictures that come along, such as the cover of an album, are no videos.

  Raises:
    video_info.ClipError: There is none.
  """
  picture = (av_stream.Disposition.attached_pic
             | av_stream.Disposition.timed_thumbnails)
  # FFmpeg knows no decoder of a stream without a context.
  known = [stream for stream in container.streams.video
           if stream.codec_context is not None]
  streams = [stream for stream in known if not stream.disposition & picture]
  if streams:
    return max(streams, key=lambda stream: (
        bool(stream.disposition & av_stream.Disposition.default),
        stream.width * stream.height))
  raise video_info.ClipError(
      'no video stream, only a cover picture' if known else
      'a video of a kind that is not read' if container.streams.video else
      'no video stream')


def short_name(container) -> str:
  """A container's name, as 'mp4'; FFmpeg lists kin of one reader."""
  names = container.format.name.split(',')
  suffix = os.path.splitext(str(container.name))[1][1:].lower()
  return suffix if suffix in names else names[0]


def is_lossless(stream: video.VideoStream) -> bool:
  """Whether a stream's codec keeps every pixel; not if it merely may."""
  codec = stream.codec_context.codec
  return codec.lossless and not codec.lossy or codec.name == 'rawvideo'


def reason(error: Exception) -> str:
  """What FFmpeg or the system says, for messages."""
  text = getattr(error, 'strerror', None) or str(error)
  return f'{type(error).__name__}: {text}'
