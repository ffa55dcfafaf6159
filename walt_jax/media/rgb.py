"""Decoded frames to RGB as a player shows them: upright, of square pixels.

What FFmpeg calls full chroma: colour is brought to the size of brightness
before it is turned into RGB. Without it, swscale paints 2 x 2 pixels of yuv420p
with one colour.
"""
import dataclasses
import struct

import av
from av.sidedata import sidedata
from av.video import reformatter
import numpy as np

from walt_jax.media import video_info

_Interpolation = reformatter.Interpolation
_FULL_CHROMA = (
    _Interpolation.BICUBIC | _Interpolation.FULL_CHR_H_INT |
    _Interpolation.FULL_CHR_H_INP | _Interpolation.ACCURATE_RND)
# Transfer functions of high dynamic range, which 8-bit RGB cannot hold.
_HDR = {reformatter.ColorTrc.SMPTE2084: 'PQ',
        reformatter.ColorTrc.ARIB_STD_B67: 'HLG'}
_TO_SDR = ('ffmpeg -i IN -vf zscale=t=linear:npl=100,format=gbrpf32le,'
           'zscale=p=bt709,tonemap=hable,zscale=t=bt709:m=bt709:r=tv,'
           'format=yuv420p OUT.mp4')
_WORTH_THREADS = 1 << 16  # Pixels; fewer are too little work to share.
_SQUARE_ENOUGH = 0.005  # Encoders round; so little is not worth resampling.
_WIDEST = 16  # A pixel wider or narrower than this is a mistake.


@dataclasses.dataclass(frozen=True)
class Layout:
  """How stored pixels lie on the screen: turned first, then mirrored.

  Attributes:
    height: Rows of an upright frame of square pixels.
    width: Columns of the upright frame.
    transposed: Whether stored rows are shown as columns.
    mirrored: Whether rows and columns run backwards, after that.
  """
  height: int
  width: int
  transposed: bool = False
  mirrored: tuple[bool, bool] = (False, False)


def layout(frame: av.VideoFrame, pixel_aspect: float = 1.0) -> Layout:
  """How a frame lies on the screen.

  Args:
    frame: Decoded frame.
    pixel_aspect: Width of a stored pixel over its height.

  Raises:
    video_info.ClipError: Turned by no right angle.
  """
  height, width = frame.height, frame.width
  if (1 / _WIDEST <= pixel_aspect <= _WIDEST
      and abs(pixel_aspect - 1) > _SQUARE_ENOUGH):
    width = max(1, round(width * pixel_aspect))
  matrix = _display_matrix(frame)
  if matrix is None:
    return Layout(height, width)
  # A stored point (column, row) is shown at column a * column + c * row and row
  # b * column + d * row.
  a, b, c, d = matrix
  if b == c == 0 and a and d:
    return Layout(height, width, mirrored=(d < 0, a < 0))
  if a == d == 0 and b and c:
    return Layout(width, height, True, (b < 0, c < 0))
  raise video_info.ClipError(
      f'frames turned by {frame.rotation} degrees, which is no right angle')


class Converter:
  """Turns decoded frames into RGB; keeps what can be used again."""

  def __init__(self):
    self._reformatter = reformatter.VideoReformatter()

  def __call__(self, frame: av.VideoFrame, shown: Layout, height: int,
               width: int) -> np.ndarray:
    """Turns a decoded frame into uint8 [height, width, 3].

    Args:
      frame: Decoded frame.
      shown: Layout of the frame.
      height: Rows of the upright frame.
      width: Columns of the upright frame.
    """
    if shown.transposed:
      height, width = width, height
    image = self._reformatter.reformat(
        frame, width=width, height=height, format='rgb24',
        interpolation=int(_FULL_CHROMA),
        threads=1 if height * width < _WORTH_THREADS else None).to_ndarray()
    if not shown.transposed and not any(shown.mirrored):
      return image
    if shown.transposed:
      image = image.swapaxes(0, 1)
    rows, columns = (slice(None, None, -1 if mirrored else 1)
                     for mirrored in shown.mirrored)
    return np.ascontiguousarray(image[rows, columns])


def check_range(transfer: int) -> None:
  """Refuses frames of high dynamic range.

  Args:
    transfer: FFmpeg's number of the transfer function.

  Raises:
    video_info.ClipError: PQ or HLG.
  """
  for known, name in _HDR.items():
    if transfer == known:
      raise video_info.ClipError(
          f'HDR ({name}) would come out grey in 8 bits; convert it, as by: '
          f'{_TO_SDR}')


def _display_matrix(frame: av.VideoFrame
                    ) -> tuple[float, float, float, float] | None:
  """The part of a frame's display matrix that turns and mirrors, or None.

  Each of its numbers is a share of the largest; near 0 they are 0.
  """
  # `frame.side_data` would stay with the frame and refer to it, so that neither
  # was freed before Python next collects garbage: hundreds of frames later.
  found = sidedata.SideDataContainer(frame)  # type: ignore[call-arg]
  data = found.get(
      sidedata.Type.DISPLAYMATRIX)  # type: ignore[call-overload]
  if data is None:
    return None
  a, b, _, c, d = struct.unpack('=5i', bytes(data)[:20])
  largest = max(map(abs, (a, b, c, d)))
  if not largest:
    return None
  share = [number / largest for number in (a, b, c, d)]
  # Below one degree, as FFmpeg does.
  a, b, c, d = (0.0 if abs(number) < 0.0174 else number for number in share)
  return a, b, c, d
