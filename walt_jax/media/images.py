"""Reading images: upright, uint8 [H, W, 3], RGB."""
from collections.abc import Callable
import os
import pathlib
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL import ImageOps

from walt_jax.media import video_info

SUFFIXES = frozenset(
    ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'))


def is_image(name: str) -> bool:
  """Whether a file of this name is read as an image."""
  return pathlib.PurePath(name).suffix.lower() in SUFFIXES


def read(file: str | os.PathLike | BinaryIO,
         size: Callable[[int, int], tuple[int, int]] | None = None
         ) -> np.ndarray:
  """Reads an image upright, as `size(height, width)` says.

  Returns:
    uint8 [H, W, 3].

  Raises:
    video_info.ClipError: Not an image, damaged or too large.
  """
  try:
    with Image.open(file) as image:
      video_info.check_size(image.height, image.width)
      upright = ImageOps.exif_transpose(image).convert('RGB')
  except (OSError, ValueError, SyntaxError,
          Image.DecompressionBombError) as error:
    raise video_info.ClipError(f'{type(error).__name__}: {error}') from error
  if size is not None:
    height, width = size(upright.height, upright.width)
    if (height, width) != (upright.height, upright.width):
      upright = upright.resize((width, height), Image.Resampling.BICUBIC)
  return np.asarray(upright)
