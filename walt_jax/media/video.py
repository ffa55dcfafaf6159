"""Writing of clips: H.264 mp4, GIF and WebP animations, PNG images.

A clip is uint8 [T, H, W, 3], RGB.
"""
import fractions
import io
import os
import pathlib
from typing import Any

import numpy as np

from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import pixels
from walt_jax.core import scratch

# Chroma subsampling and the codec's macroblocks blur tiny frames: below this
# side, frames are enlarged by a whole factor so that pixels stay squares.
MIN_SIDE = 192
# Colour lies where readers take H.264 to have it, at the left pixel of two.
_TO_H264 = ('flags=bicubic+full_chroma_inp+accurate_rnd:'
            'out_color_matrix=bt709:out_range=tv:out_chroma_loc=left')


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
  pixels.check_clip(clip)
  if not fps > 0:
    raise ValueError(f'fps must be positive, got {fps}.')
  clip = _even(enlarge(clip, min_side))
  rate = fractions.Fraction(fps).limit_denominator(1001)
  # FFmpeg reads the file again to put its index in front: memory won't do.
  with scratch.folder('clip') as folder:
    path = folder / 'clip.mp4'
    _encode(path, clip, rate, crf)
    return path.read_bytes()


def _encode(path: pathlib.Path, clip: np.ndarray, rate: fractions.Fraction,
            crf: int) -> None:
  import av
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
    graph = _to_yuv420p(stream.height, stream.width, 1 / rate)
    for number, image in enumerate(clip):
      frame = av.VideoFrame.from_ndarray(
          np.ascontiguousarray(image), format='rgb24')
      frame.pts, frame.time_base = number, 1 / rate
      graph.push(frame)
      container.mux(stream.encode(graph.pull()))
    container.mux(stream.encode())


def _to_yuv420p(height: int, width: int, time_base: fractions.Fraction) -> Any:
  """libavfilter's conversion of RGB frames, an `av.filter.Graph`."""
  import av
  graph = av.filter.Graph()
  graph.threads = 1
  graph.link_nodes(
      graph.add_buffer(width=width, height=height, time_base=time_base,
                       format=av.VideoFormat('rgb24', width, height)),
      graph.add('scale', _TO_H264), graph.add('format', 'yuv420p'),
      graph.add('buffersink')).configure()
  return graph


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


def _durations(count: int, fps: float, tick: int) -> list[int]:
  """Milliseconds of each frame, which add up to the right time.

  Args:
    count: Number of frames.
    fps: Frames a second.
    tick: What the file counts in, in milliseconds.
  """
  ends = np.rint(np.arange(count + 1) * 1000 / (fps * tick)).astype(int)
  return (np.diff(ends) * tick).tolist()


def write_animation(path: str | os.PathLike, clip: np.ndarray, fps: float, *,
                    min_side: int = MIN_SIDE) -> None:
  """Writes a looping GIF, or lossless WebP, by the suffix of `path`."""
  from PIL import Image
  path = paths.path(path)
  if path.suffix not in ('.gif', '.webp'):
    raise ValueError(f'An animation ends in .gif or .webp, got {path.name}.')
  clip = enlarge(pixels.check_clip(clip), min_side)
  frames = [Image.fromarray(image) for image in clip]
  buffer = io.BytesIO()
  is_webp = path.suffix == '.webp'
  options = dict(lossless=True) if is_webp else {}
  frames[0].save(buffer, path.suffix[1:], save_all=True, loop=0,
                 append_images=frames[1:],
                 duration=_durations(len(frames), fps, 1 if is_webp else 10),
                 **options)
  files.write_bytes(path, buffer.getvalue())
