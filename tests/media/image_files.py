"""Image files for tests: depths and layouts that Pillow does not write."""
from fractions import Fraction
import io
import struct

import av
import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
  """A file as Pillow writes it."""
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


def by_ffmpeg(pixels: np.ndarray, pix_fmt: str, codec: str) -> bytes:
  """A PNG or TIFF of a depth that Pillow does not write."""
  context = av.CodecContext.create(codec, 'w')
  context.height, context.width = pixels.shape[:2]
  context.pix_fmt, context.time_base = pix_fmt, Fraction(1)
  frame = av.VideoFrame.from_ndarray(pixels, format=pix_fmt)
  return b''.join(bytes(packet) for packet in (
      *context.encode(frame), *context.encode(None)))


def tiff(*pages: np.ndarray, photometric: int | None = None,
         planes: bool = False, kinds: tuple[int, ...] = (),
         order: str = '<') -> bytes:
  """An uncompressed TIFF of pages [H, W] or [H, W, C].

  Args:
    pages: Of uint8, uint16, int16, uint32 or floats.
    photometric: 0 white is zero, 1 black is zero, 2 RGB.
    planes: Whether the colours lie in planes.
    kinds: NewSubfileType of each page; 1 is a smaller copy.
    order: '<' for little endian, '>' for big.
  """
  data = struct.pack(f'{order}2sHI', b'II' if order == '<' else b'MM', 42, 8)
  for number, page in enumerate(pages):
    page = page.astype(page.dtype.newbyteorder(order))
    colours = page.shape[2] if page.ndim == 3 else 1
    bits = 8 * page.dtype.itemsize
    stored = (np.moveaxis(page, -1, 0) if planes else page).tobytes()
    plane = len(stored) // (colours if planes else 1)
    entries = 11
    after = len(data) + 2 + 12 * entries + 4
    lists = struct.pack(f'{order}{colours}H', *[bits] * colours)
    lists += struct.pack(f'{order}{colours}H', *[
        dict(u=1, i=2, f=3)[page.dtype.kind]] * colours)
    starts = [after + len(lists) + 8 * colours + plane * n
              for n in range(colours if planes else 1)]
    lists += struct.pack(f'{order}{len(starts)}I', *starts)
    lists += struct.pack(f'{order}{len(starts)}I', *[plane] * len(starts))
    lists = lists.ljust(starts[0] - after, b'\0')

    def entry(tag, form, values, place, order=order):
      size = struct.calcsize(form) * len(values)
      if size <= 4:
        value = struct.pack(f'{order}{len(values)}{form}', *values)
        value = value.ljust(4, b'\0')
      else:
        value = struct.pack(f'{order}I', place)
      return struct.pack(f'{order}HHI', tag, dict(H=3, I=4)[form],
                         len(values)) + value

    kind = kinds[number] if kinds else 0
    light = photometric if photometric is not None else (
        2 if colours > 1 else 1)
    two = 2 * colours
    fields = [
        entry(254, 'I', [kind], 0), entry(256, 'I', [page.shape[1]], 0),
        entry(257, 'I', [page.shape[0]], 0),
        entry(258, 'H', [bits] * colours, after),
        entry(259, 'H', [1], 0), entry(262, 'H', [light], 0),
        entry(273, 'I', starts, after + 2 * two),
        entry(277, 'H', [colours], 0),
        entry(279, 'I', [plane] * len(starts),
              after + 2 * two + 4 * len(starts)),
        entry(284, 'H', [2 if planes else 1], 0),
        entry(339, 'H', [dict(u=1, i=2, f=3)[page.dtype.kind]] * colours,
              after + two)]
    following = starts[0] + len(stored)
    following += following % 2
    last = number == len(pages) - 1
    data += struct.pack(f'{order}H', entries) + b''.join(fields)
    data += struct.pack(f'{order}I', 0 if last else following)
    data += lists + stored
    data = data.ljust(following, b'\0')
  return data
