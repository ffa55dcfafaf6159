"""Opening video files, and which of their streams is read."""
import io
import os
from typing import Any, BinaryIO

import av
from av import stream as av_stream
from av import video

from walt_jax.media import video_info

SUFFIXES = frozenset(
    ('.avi', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm'))
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

TIME_BASE = av.time_base  # Units of a container's duration in a second.


def open_video(path: str | os.PathLike, data: bytes | None = None):
  """Opens a file, which `choose_stream` may find to hold no video.

  Args:
    path: The file.
    data: Its bytes, where they are not in `path`.

  Returns:
    PyAV's container, for the caller to close.

  Raises:
    video_info.ClipError: Not a video.
  """
  file: str | BinaryIO = str(path)
  if data is not None:
    file = io.BytesIO(data)
  try:
    container = av.open(file, **_OPENING, options=dict(
        format_whitelist=_FORMATS, protocol_whitelist='file'))
  except av.error.ArgumentError as error:
    raise video_info.ClipError(
        'not a format of videos that is read, as a playlist is not') from error
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise video_info.ClipError(reason(error)) from error
  return container


def choose_stream(container) -> video.VideoStream:
  """The video stream that players take: the default one, else the largest.

  Pictures that come along, such as the cover of an album, are no videos.

  Raises:
    video_info.ClipError: There is none; the container is closed.
  """
  picture = (av_stream.Disposition.attached_pic
             | av_stream.Disposition.timed_thumbnails)
  streams = [stream for stream in container.streams.video
             if not stream.disposition & picture]
  if streams:
    return max(streams, key=lambda stream: (
        bool(stream.disposition & av_stream.Disposition.default),
        stream.width * stream.height))
  pictures = len(container.streams.video)
  container.close()
  raise video_info.ClipError(
      'no video stream, only a cover picture' if pictures else
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
