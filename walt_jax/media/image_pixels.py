"""A loaded image to uint8 RGB, upright, by what its file says of its values.

So equal pictures come out equal, whatever their depth:

  integers of n bits  their highest 8 bits, as FFmpeg's and Pillow's readers of
                      16-bit colour do: 16-bit white is 65535
  floats              0 is black and 1 is white; others are refused
  CMYK                converted without its profile
  alpha               dropped: the colour stored there shows, as in FFmpeg

Colour profiles (ICC) are left alone: values are taken as they are, as sRGB.
"""
from collections.abc import Callable
import contextlib

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import TiffImagePlugin

from walt_jax.media import video_info

# What brings stored rows and columns into place, by EXIF's number.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1)}
_WHITE_IS_ZERO, _IN_PLANES, _SIGNED = 0, 2, 2  # Values of TIFF's tags.


def to_rgb(image: Image.Image) -> np.ndarray:
  """The pixels of a loaded image as uint8 [H, W, 3], upright.

  Raises:
    video_info.ClipError: Values that have no place in 0 to 255.
    ValueError: A kind of colour that Pillow cannot convert.
  """
  tags = getattr(image, 'tag_v2', {})
  bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
  if image.mode == 'F':
    values = _of_floats(np.asarray(image))
  elif image.mode == 'I' or image.mode.startswith('I;16'):
    signed = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == _SIGNED
    values = _of_integers(np.asarray(image), bits, signed)
  else:
    if (bits > 8 and len(image.getbands()) > 1 and _IN_PLANES
        == tags.get(TiffImagePlugin.PLANAR_CONFIGURATION)):
      raise video_info.ClipError(
          f'{bits}-bit colours stored in planes are not read; store the '
          'colours of a pixel together')
    return _upright(image, np.asarray(image.convert('RGB')))
  if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
    values = 255 - values
  return _upright(image, values[..., None].repeat(3, axis=-1))


def _of_floats(values: np.ndarray) -> np.ndarray:
  low, high = values.min(), values.max()
  if not (low >= 0 and high <= 1):  # NaN is refused, too.
    raise video_info.ClipError(
        f'float pixels from {low:g} to {high:g}, where 0 is black and 1 is '
        'white; scale them')
  return np.rint(values * 255).astype(np.uint8)


def _of_integers(values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
  """The highest 8 bits of integers of so many bits."""
  if signed:
    if values.min() < 0:
      raise video_info.ClipError(
          f'pixels down to {values.min()}; negative ones have no colour')
    bits -= 1  # Its sign.
  # Unsigned 32 bits are signed in Pillow; of their highest 8 bits none changes.
  return (values >> (bits - 8)).astype(np.uint8)


def _upright(image: Image.Image, pixels: np.ndarray) -> np.ndarray:
  orientation = 1
  # Pixels are good without their EXIF data. Pillow turns TIFFs by itself.
  with contextlib.suppress(Exception):
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  turn = _UPRIGHT.get(orientation)
  return pixels if turn is None else np.ascontiguousarray(turn(pixels))
