"""Readers of images, videos and arrays of frames."""
import functools
import io
import pathlib

import av
import numpy as np
from PIL import Image

from benchmarks.fuzz import formats
from benchmarks.fuzz import mutations
from benchmarks.fuzz import reader as reader_lib
from walt_jax.evaluation import clip_arrays
from walt_jax.media import decode

Reader, Target = reader_lib.Reader, reader_lib.Target


def _picture(side: int = 12, seed: int = 0) -> Image.Image:
  rng = np.random.default_rng(seed)
  return Image.fromarray(
      rng.integers(0, 256, (side, side + 4, 3), dtype=np.uint8))


def _image(kind: str, **options) -> bytes:
  out = io.BytesIO()
  _picture().save(out, kind, **options)
  return out.getvalue()


def _animation(kind: str, **options) -> bytes:
  return _image(kind, save_all=True,
                append_images=[_picture(seed=1), _picture(seed=2)], **options)


def _oriented() -> bytes:
  exif = Image.Exif()
  exif[0x0112] = 6
  return _image('JPEG', exif=exif.tobytes(), quality=90)


def _read_image(name: str, make):
  """A still image, or a clip of several pictures, as preparation reads it."""

  def call(path: pathlib.Path):
    info, frames = decode.read_frames(path, fps=8.0)
    for number, _ in enumerate(frames):
      if number > 20:
        break

  return lambda folder: reader_lib.of_file(folder / name, make(), call)


def _video(container: str, codec: str, pix_fmt: str = 'yuv420p') -> bytes:
  out = io.BytesIO()
  with av.open(out, 'w', format=container) as opened:
    stream = opened.add_stream(codec, rate=8)
    stream.height, stream.width, stream.pix_fmt = 16, 32, pix_fmt
    stream.codec_context.thread_count = 1
    for number in range(6):
      frame = av.VideoFrame.from_ndarray(
          np.asarray(_picture(28, number).crop((0, 0, 32, 16))), 'rgb24')
      opened.mux(stream.encode(frame))
    opened.mux(stream.encode())
  return out.getvalue()


def _read_video(name: str, make, folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  seed = folder / 'seed'
  if not seed.exists():
    seed.write_bytes(make())

  def call(path: pathlib.Path):
    reader = decode.Reader(path, fps=8.0)
    for number, segment in enumerate(reader.segments()):
      for frame, _ in zip(segment.frames, range(40), strict=False):
        if frame.shape[2:] != (3,):
          raise AssertionError(frame.shape)
      if number > 20:
        break
    reader.close()

  return reader_lib.of_file(folder / name, [seed.read_bytes()], call)


def _npy(clip: np.ndarray) -> bytes:
  out = io.BytesIO()
  np.save(out, clip)
  return out.getvalue()


def _npz(name: str, clips: np.ndarray, *, compressed: bool = False) -> bytes:
  out = io.BytesIO()
  (np.savez_compressed if compressed else np.savez)(out, **{name: clips})
  return out.getvalue()


_CLIP = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)


def _read_clip(folder: pathlib.Path) -> Target:
  return reader_lib.of_file(folder / 'clip.npy', [_npy(_CLIP)],
                            lambda path: decode.read_clip(path, first=3))


def _read_clips(name: str, seeds: list[bytes]):
  def call(path: pathlib.Path):
    found = clip_arrays.read(path)
    np.array(found[0])
    np.array(found[-1])

  return lambda folder: reader_lib.of_file(folder / name, seeds, call)


_CLIPS = np.stack([_CLIP] * 2)
_MEDIA = (decode.ClipError,)
# FFmpeg and Pillow decode frames of up to 8192 x 8192 pixels; a header may
# ask for one.
_LARGE = 2048

READERS = (
    Reader('image.png', _read_image('a.png', lambda: [
        _image('PNG'), _animation('PNG', duration=100)]), formats.png,
           formats.starts(b'\x89PNG\r\n\x1a\n', size=40), _MEDIA, _LARGE),
    Reader('image.jpeg', _read_image('a.jpg', lambda: [
        _image('JPEG', quality=80), _image('JPEG', progressive=True),
        _oriented()]), mutations.one_of(
            (4, mutations.behind(4)), (1, mutations.edits)),
           formats.starts(b'\xff\xd8\xff', size=40), _MEDIA, _LARGE),
    Reader('image.gif', _read_image('a.gif', lambda: [
        _image('GIF'), _animation('GIF', duration=100)]), mutations.one_of(
            (4, mutations.behind(6)), (1, mutations.edits)),
           formats.starts(b'GIF87a', b'GIF89a', size=40), _MEDIA, _LARGE),
    Reader('image.webp', _read_image('a.webp', lambda: [
        _image('WEBP'), _image('WEBP', lossless=True),
        _animation('WEBP', duration=100)]), mutations.one_of(
            (4, mutations.behind(12)), (1, mutations.edits)),
           lambda data: data[:4] == b'RIFF' and data[8:12] == b'WEBP',
           _MEDIA, _LARGE),
    Reader('image.tiff', _read_image('a.tiff', lambda: [
        _image('TIFF'), _animation('TIFF'),
        _image('TIFF', compression='tiff_lzw')]), mutations.one_of(
            (4, mutations.behind(8)), (1, mutations.edits)),
           formats.starts(b'II*\0', b'MM\0*', size=40), _MEDIA, _LARGE),
    Reader('image.bmp', _read_image('a.bmp', lambda: [_image('BMP')]),
           mutations.one_of((4, mutations.behind(14)), (1, mutations.edits)),
           formats.starts(b'BM', size=40), _MEDIA, _LARGE),
    Reader('image.ppm', _read_image('a.ppm', lambda: [_image('PPM')]),
           mutations.one_of((4, mutations.behind(3)), (1, mutations.edits)),
           formats.starts(b'P6', b'P5', size=20), _MEDIA, _LARGE),
    Reader('video.mp4', functools.partial(
        _read_video, 'a.mp4', lambda: _video('mp4', 'libx264')),
           mutations.one_of((4, mutations.behind(32)), (1, mutations.edits)),
           lambda data: data[4:8] == b'ftyp', _MEDIA, _LARGE),
    Reader('video.mkv', functools.partial(
        _read_video, 'a.mkv', lambda: _video('matroska', 'libx264')),
           mutations.one_of((4, mutations.behind(40)), (1, mutations.edits)),
           formats.starts(b'\x1a\x45\xdf\xa3'), _MEDIA, _LARGE),
    Reader('video.avi', functools.partial(
        _read_video, 'a.avi', lambda: _video('avi', 'mpeg4')),
           mutations.one_of((4, mutations.behind(12)), (1, mutations.edits)),
           lambda data: data[:4] == b'RIFF' and data[8:12] == b'AVI ',
           _MEDIA, _LARGE),
    Reader('video.webm', functools.partial(
        _read_video, 'a.webm', lambda: _video('webm', 'libvpx-vp9')),
           mutations.one_of((4, mutations.behind(40)), (1, mutations.edits)),
           formats.starts(b'\x1a\x45\xdf\xa3'), _MEDIA, _LARGE),
    Reader('clip.npy', _read_clip, formats.npy, formats.is_npy),
    Reader('clips.npy', _read_clips('clips.npy', [_npy(_CLIPS)]),
           formats.npy, formats.is_npy),
    Reader('clips.npz', _read_clips('clips.npz', [
        _npz('arr_0', _CLIPS), _npz('arr_0', _CLIPS, compressed=True)]),
           formats.NPZ, formats.is_archive, memory_mib=256),
)
