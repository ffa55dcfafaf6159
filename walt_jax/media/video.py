"""Reading and writing of clips: H.264 mp4, lossless npy, png.

A clip is uint8 [T, H, W, 3], RGB.
"""
import fractions
import io
import os
import pathlib
import tempfile

import numpy as np

from walt_jax.core import errors
from walt_jax.core import files

# Chroma subsampling and the codec's macroblocks blur tiny frames: below this
# side, frames are enlarged by a whole factor so that pixels stay squares.
MIN_SIDE = 192

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v', '.mpg',
                  '.mpeg', '.gif')
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp')


def check_clip(clip: np.ndarray, name: str = 'clip') -> np.ndarray:
  """Returns `clip` if it is uint8 [T, H, W, 3] with T >= 1; else raises.

  Raises:
    ValueError: Another type or shape.
  """
  clip = np.asarray(clip)
  if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
    raise ValueError(f'{name} must be uint8 [T, H, W, 3], got '
                     f'{clip.dtype} {list(clip.shape)}.')
  if 0 in clip.shape:
    raise ValueError(f'{name} is empty: {list(clip.shape)}.')
  return clip


def enlarge(clip: np.ndarray, min_side: int = MIN_SIDE) -> np.ndarray:
  """Repeats pixels of [T, H, W, 3] until the shorter side is >= min_side."""
  factor = -(-min_side // min(clip.shape[1:3]))
  if factor <= 1:
    return clip
  return clip.repeat(factor, axis=1).repeat(factor, axis=2)


def _even(clip: np.ndarray) -> np.ndarray:
  """Repeats the last row and column where yuv420p needs even sides."""
  rows, columns = clip.shape[1] % 2, clip.shape[2] % 2
  if not rows and not columns:
    return clip
  return np.pad(clip, ((0, 0), (0, rows), (0, columns), (0, 0)), mode='edge')


def encode_mp4(clip: np.ndarray, fps: float, *, min_side: int = MIN_SIDE,
               crf: int = 16) -> bytes:
  """Encodes uint8 [T, H, W, 3] as an H.264 yuv420p mp4 for browsers.

  Colours are tagged as BT.709, limited range, so that every player shows the
  same ones. The file index is in front, so that it plays while it loads.

  Args:
    clip: Frames; odd sides gain one repeated row or column.
    fps: Frames a second.
    min_side: Smaller frames are enlarged by a whole factor (`enlarge`).
    crf: x264's constant rate factor; 16 looks the same as the input.
  """
  check_clip(clip)
  if not fps > 0:
    raise ValueError(f'fps must be positive, got {fps}.')
  clip = _even(enlarge(clip, min_side))
  rate = fractions.Fraction(fps).limit_denominator(1001)
  # FFmpeg reads the file again to put its index in front: memory won't do.
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'clip.mp4'
    _encode(path, clip, rate, crf)
    return path.read_bytes()


def _encode(path: pathlib.Path, clip: np.ndarray, rate: fractions.Fraction,
            crf: int) -> None:
  import av
  from av.video.reformatter import ColorRange
  from av.video.reformatter import Colorspace
  with av.open(str(path), 'w', format='mp4',
               options={'movflags': '+faststart'}) as container:
    stream = container.add_stream('libx264', rate=rate)
    stream.height, stream.width = clip.shape[1:3]
    stream.pix_fmt = 'yuv420p'
    stream.options = {'crf': str(crf), 'preset': 'medium'}
    context = stream.codec_context
    context.thread_count = 1  # The same bytes on every machine.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1
    for pixels in clip:
      frame = av.VideoFrame.from_ndarray(
          np.ascontiguousarray(pixels), format='rgb24')
      frame = frame.reformat(
          format='yuv420p', dst_colorspace=Colorspace.ITU709,
          dst_color_range=ColorRange.MPEG)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_mp4(path: str | os.PathLike, clip: np.ndarray, fps: float, *,
              min_side: int = MIN_SIDE, crf: int = 16) -> None:
  """Writes `encode_mp4(clip, ...)` to `path`, whole or not at all."""
  files.write_bytes(path, encode_mp4(clip, fps, min_side=min_side, crf=crf))


def encode_png(image: np.ndarray) -> bytes:
  """Encodes uint8 [H, W, 3] (or [H, W]) without loss."""
  from PIL import Image
  image = np.asarray(image)
  if image.dtype != np.uint8 or not (
      image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)):
    raise ValueError('An image must be uint8 [H, W, 3] or [H, W], got '
                     f'{image.dtype} {list(image.shape)}.')
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'png')
  return buffer.getvalue()


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
  """Writes uint8 [H, W, 3] (or [H, W]) as PNG, whole or not at all."""
  files.write_bytes(path, encode_png(image))


def write_animation(path: str | os.PathLike, clip: np.ndarray, fps: float, *,
                    min_side: int = MIN_SIDE) -> None:
  """Writes a looping GIF, or lossless WebP, by the suffix of `path`."""
  from PIL import Image
  path = pathlib.Path(path)
  if path.suffix not in ('.gif', '.webp'):
    raise ValueError(f'An animation ends in .gif or .webp, got {path.name}.')
  frames = [Image.fromarray(x) for x in enlarge(check_clip(clip), min_side)]
  buffer = io.BytesIO()
  options = dict(lossless=True) if path.suffix == '.webp' else {}
  frames[0].save(buffer, path.suffix[1:], save_all=True, loop=0,
                 append_images=frames[1:], duration=round(1000 / fps),
                 **options)
  files.write_bytes(path, buffer.getvalue())


def read_image(path: str | os.PathLike) -> np.ndarray:
  """Reads one image file as uint8 [H, W, 3].

  Raises:
    errors.UserError: No such file, or not an image.
  """
  from PIL import Image
  try:
    with Image.open(path) as image:
      return np.asarray(image.convert('RGB'))
  except FileNotFoundError:
    raise errors.UserError(f'no such image: {path}') from None
  except (OSError, ValueError, SyntaxError) as error:
    raise errors.UserError(
        f'cannot read {path} as an image ({_one_line(error)}); give a PNG or '
        'JPEG file') from None


def read_video(path: str | os.PathLike) -> tuple[np.ndarray, float | None]:
  """Reads a clip from a video file, an `.npy` or an image (one frame).

  Returns:
    uint8 [T, H, W, 3], and frames a second (None where the file has none).

  Raises:
    errors.UserError: No such file, no frame in it, or another kind of file.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.UserError(f'no such video: {path}')
  suffix = path.suffix.lower()
  if suffix in IMAGE_SUFFIXES:
    return read_image(path)[None], None
  if suffix == '.npy':
    return _read_npy(path), None
  return _decode(path)


def _read_npy(path: pathlib.Path) -> np.ndarray:
  try:
    return check_clip(np.load(path, allow_pickle=False), str(path))
  except (OSError, ValueError, EOFError) as error:
    raise errors.UserError(
        f'cannot read {path} as a clip ({_one_line(error)})') from None


def _decode(path: pathlib.Path) -> tuple[np.ndarray, float | None]:
  import av
  try:
    with av.open(str(path)) as container:
      if not container.streams.video:
        raise errors.UserError(f'{path} holds no video')
      stream = container.streams.video[0]
      frames = [frame.to_ndarray(format='rgb24')
                for frame in container.decode(stream)]
      rate = stream.average_rate
  except (av.error.FFmpegError, ValueError) as error:
    raise errors.UserError(
        f'cannot read {path} as a video ({_one_line(error)})') from None
  if not frames:
    raise errors.UserError(f'{path} holds no frame that can be decoded')
  if len({frame.shape for frame in frames}) > 1:
    raise errors.UserError(f'the frame size changes within {path}')
  return np.stack(frames), float(rate) if rate else None


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())
