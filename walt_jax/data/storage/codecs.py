"""How clips are stored: compressed frames, or compressed video.

  jpeg, png   each frame on its own; any frame is read without the others
  h264        a Matroska file in memory, in full colour resolution (4:4:4): a
              fifth of the bytes of jpeg or less, 1.1 to 1.5 dB worse at the
              default quality (benchmarks/stored_codecs.py); read from the key
              frame before
"""
from collections.abc import Sequence
import fractions
import io

import av
import numpy as np
from PIL import Image

from walt_jax.core import errors
from walt_jax.core import pixels
from walt_jax.media import images
from walt_jax.media import video_info

FRAME_CODECS = ('jpeg', 'png')
VIDEO_CODECS = ('h264',)
CODECS = FRAME_CODECS + VIDEO_CODECS
LOSSLESS = ('png',)  # Keep every pixel.

_KEYFRAME_EVERY = 32
# Else x264 weighs frames with approximate reciprocals, which differ between
# processors, and so do the bytes.
_X264 = 'cpu-independent=1'
_RATE_LIMIT = 1_000_000  # Denominators of frame rates.


def encode_clip(clip: np.ndarray, codec: str, quality: int,
                fps: float) -> list[bytes]:
  """Compresses uint8 [T, H, W, 3]: a list of frames, or of one video.

  Args:
    clip: Frames of at most 16384 pixels in width and height.
    codec: One of CODECS.
    quality: 1 to 100, of JPEG; 100 is the best of h264 too.
    fps: Frames/s; only written down.
  """
  if codec == 'h264':
    return [_encode_video(clip, quality, fps)]
  return [encode_frame(frame, codec, quality) for frame in clip]


def encode_frame(frame: np.ndarray, codec: str, quality: int) -> bytes:
  """Compresses one frame uint8 [H, W, 3] as 'jpeg' (4:4:4) or 'png'."""
  out = io.BytesIO()
  image = Image.fromarray(frame)
  if codec == 'jpeg':
    image.save(out, 'JPEG', quality=quality, subsampling=0)
  elif codec == 'png':
    image.save(out, 'PNG', compress_level=4)
  else:
    raise ValueError(f'Unknown codec {codec!r}: use "jpeg" or "png".')
  return out.getvalue()


def _encode_video(clip: np.ndarray, quality: int, fps: float) -> bytes:
  """Equal clips give equal bytes: one thread, no date, no program's name."""
  out = io.BytesIO()
  with av.open(out, 'w', format='matroska',
               options=dict(fflags='+bitexact')) as container:
    stream = container.add_stream(
        'libx264', rate=fractions.Fraction(fps).limit_denominator(_RATE_LIMIT),
        options=dict(crf=str(round((100 - quality) * 0.6 + 9)),
                     preset='medium', threads='1',
                     g=str(_KEYFRAME_EVERY), bf='0',
                     **{'x264-params': _X264}))
    stream.height, stream.width = clip.shape[1:3]
    stream.pix_fmt = 'yuv444p'
    stream.codec_context.thread_count = 1
    for frame in clip:
      picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
      container.mux(stream.encode(picture))
    container.mux(stream.encode())
  return out.getvalue()


def decode_frames(encoded: Sequence[bytes]) -> np.ndarray:
  """Reads compressed frames as uint8 [T, H, W, 3]."""
  return np.stack([np.asarray(_open(data).convert('RGB'))
                   for data in encoded])


def _open(data: bytes) -> Image.Image:
  image = Image.open(io.BytesIO(data))
  video_info.check_size(image.height, image.width)
  return image


def decode_video(data: bytes, indices: np.ndarray,
                 size: tuple[int, int] | None = None,
                 stored: tuple[int, int] | None = None) -> np.ndarray:
  """Reads some frames of a stored video.

  Args:
    data: A whole file.
    indices: int [T], increasing.
    size: Height and width of the result; None keeps the stored size.
    stored: The stored size, if it is known.

  Returns:
    uint8 [T, H, W, 3].
  """
  frames = []
  wanted = iter(indices.tolist())
  following = next(wanted)
  number = -1
  with av.open(io.BytesIO(data), 'r') as container:
    stream = container.streams.video[0]
    stream.thread_type = 'NONE'  # Workers are what runs in parallel.
    rate = stream.average_rate or fractions.Fraction(1)
    if following >= _KEYFRAME_EVERY:  # To the key frame before.
      container.seek(int(following / rate * av.time_base))
    for frame in container.decode(stream):
      if stored is not None and stored != (frame.height, frame.width):
        raise ValueError(f'The stored video has {frame.height} x {frame.width} '
                         f'pixels, not {stored[0]} x {stored[1]}.')
      number = round((frame.time or 0.0) * rate)
      if number < following:
        continue
      if size is not None and size != (frame.height, frame.width):
        frame = frame.reformat(width=size[1], height=size[0], format='rgb24',
                               interpolation='BICUBIC')
      frames.append(frame.to_ndarray(format='rgb24'))
      following = next(wanted, None)
      if following is None:
        return np.stack(frames)
  raise ValueError(f'The stored video has {number + 1} frames, not '
                   f'{int(indices[-1]) + 1}.')


def num_frames(example: dict) -> int:
  """Frames of an example (see `sources/source.py`)."""
  if 'video_file' in example:
    return example['num_frames']
  return len(example['encoded'] if 'encoded' in example else example['video'])


def read_clip(example: dict, indices: np.ndarray, height: int, width: int,
              rng: np.random.Generator | None = None) -> np.ndarray:
  """Reads frames of an example, resized to cover height x width and cropped.

  Args:
    example: See `sources/source.py`.
    indices: int [T], increasing.
    height: Rows wanted.
    width: Columns wanted.
    rng: Draws where to crop; None crops the centre.

  Returns:
    uint8 [T, height, width, 3].

  Raises:
    errors.UserError: What is stored of the frames is damaged.
  """
  if 'video' in example:
    return pixels.fit(example['video'][indices], height, width, rng)
  try:
    if 'video_file' in example:
      stored = example['height'], example['width']
      frames = decode_video(example['video_file'], indices,
                            pixels.cover(*stored, height, width), stored)
    else:
      frames = decode_frames([example['encoded'][index] for index in indices])
  except (*images.ERRORS, av.error.FFmpegError, video_info.ClipError) as error:
    raise errors.UserError(
        f'the frames of clip {example["key"]!r} are damaged '
        f'({errors.reason(error)}): prepare again') from error
  return pixels.fit(frames, height, width, rng)
