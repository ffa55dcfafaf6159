"""Image files: still ones, and those that hold several pictures."""
from collections.abc import Callable, Iterator
import contextlib
import os
import pathlib
import struct
from typing import Any, BinaryIO
import zlib

import numpy as np
import PIL
from PIL import Image

from walt_jax.media import image_pixels
from walt_jax.media import video_info

SUFFIXES = frozenset(
    ('.apng', '.avif', '.bmp', '.heic', '.heif', '.jfif', '.jpeg', '.jpg',
     '.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp'))

# By kind, whether files keep every pixel; of others, some do.
_LOSSLESS = {'bmp': True, 'png': True, 'ppm': True, 'jpeg': False,
             'mpo': False}

# Maps height and width of a frame to those wanted.
Size = Callable[[int, int], tuple[int, int]]

# What Pillow may take a file for, whatever its name; it would also run other
# programs on what a file holds. AVIF is not in all of its builds.
Image.init()
_FORMATS = tuple(name for name in (
    'AVIF', 'BMP', 'GIF', 'JPEG', 'MPO', 'PNG', 'PPM', 'TIFF', 'WEBP')
                 if name in Image.OPEN)
# What Pillow raises on files that are damaged, or no images at all: found by
# changing bytes of files of every format, and in Pillow's own fuzzers.
ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError,
    ArithmeticError, RuntimeError, struct.error, zlib.error,
    Image.DecompressionBombError)
_SUBFILE_TYPE, _REDUCED, _MASK = 254, 1, 4  # Of TIFF: tag, and its bits.
_UNTIMED = 0.1  # Seconds that browsers show a picture said to last 0.


class ImageFile:
  """An open file of one or more pictures of one size.

  Attributes:
    height: Rows of an upright picture.
    width: Its columns.
    kind: Pillow's name of the format in small letters, as 'png'.
    durations: Seconds that each picture is shown; None of pages, of which
      nothing says so, and of a still image.
  """

  def __init__(self, file: str | os.PathLike | BinaryIO):
    """Opens a file.

    Raises:
      video_info.ClipError: Not an image, damaged or too large.
    """
    self._stack = contextlib.ExitStack()
    with self._reading():
      self._image: Any = self._stack.enter_context(
          Image.open(file, formats=_FORMATS))
      video_info.check_size(self._image.height, self._image.width)
      self.kind = self._image.format.lower()
      self._pages = _pages(self._image, _size_of(file))
      self.durations = self._durations()
    self._first = self._read(self._pages[0])
    self.height, self.width, _ = self._first.shape

  def __len__(self) -> int:
    return len(self._pages)

  def pictures(self, size: Size | None = None) -> Iterator[np.ndarray]:
    """Yields the pictures, uint8 [H, W, 3]; closes the file.

    Args:
      size: Maps height and width of the upright picture to those wanted.

    Raises:
      video_info.ClipError: Damaged, after the pictures before the damage.
    """
    shape = self._first.shape
    with self._stack:
      for number, page in enumerate(self._pages):
        picture = self._first if not number else self._read(page)
        if picture.shape != shape:
          raise video_info.ClipError(
              f'picture {number} has {picture.shape[1]}x{picture.shape[0]} '
              f'pixels, the first has {shape[1]}x{shape[0]}')
        yield resize(picture, size)

  def _read(self, page: int) -> np.ndarray:
    with self._reading():
      if getattr(self._image, 'n_frames', 1) > 1:
        self._image.seek(page)
      self._image.load()
      return image_pixels.to_rgb(self._image)

  def _durations(self) -> tuple[float, ...] | None:
    """Seconds of each picture, which only reading all of them tells."""
    if len(self._pages) == 1:
      return None
    found = []
    for page in self._pages:
      self._image.seek(page)
      self._image.load()
      duration = self._image.info.get('duration')
      if duration is None:
        return None
      found.append(duration / 1000 or _UNTIMED)
    return tuple(found)

  @contextlib.contextmanager
  def _reading(self):
    """Tells what Pillow raises as a ClipError, and closes the file."""
    try:
      yield
    except video_info.ClipError:
      self._stack.close()
      raise
    except ERRORS as error:
      self._stack.close()
      raise video_info.ClipError(_reason(error)) from error


def is_image(name: str) -> bool:
  """Whether a file of this name is read as an image."""
  return pathlib.PurePath(name).suffix.lower() in SUFFIXES


def kind_of(name: str) -> str:
  """Pillow's name of a file's format by its suffix, as `ImageFile.kind`."""
  suffix = pathlib.PurePath(name).suffix.lower()
  return Image.registered_extensions().get(suffix, suffix[1:]).lower()


def is_lossless(kind: str) -> bool | None:
  """Whether images of a kind keep every pixel; None where only some do."""
  return _LOSSLESS.get(kind)


def read(file: str | os.PathLike | BinaryIO, size: Size | None = None
         ) -> np.ndarray:
  """Reads a still image upright, as `size(height, width)` says.

  Returns:
    uint8 [H, W, 3].

  Raises:
    video_info.ClipError: Not an image, damaged, too large, or several
      pictures.
  """
  found = ImageFile(file)
  if len(found) > 1:
    raise video_info.ClipError(f'{len(found)} pictures, not a still image')
  image, = found.pictures(size)
  return image


def resize(picture: np.ndarray, size: Size | None) -> np.ndarray:
  """Scales uint8 [H, W, 3] to `size(height, width)`."""
  height, width, _ = picture.shape
  wanted = (height, width) if size is None else size(height, width)
  if wanted == (height, width):
    return picture
  return np.asarray(Image.fromarray(picture).resize(
      wanted[::-1], Image.Resampling.BICUBIC))


def _size_of(file: str | os.PathLike | BinaryIO) -> int:
  """Bytes of a file; an open one stays where it is."""
  if isinstance(file, (str, os.PathLike)):
    return os.path.getsize(file)
  place = file.tell()
  size = file.seek(0, os.SEEK_END)
  file.seek(place)
  return size


def _pages(image: Any, size: int) -> list[int]:
  """Numbers of the pictures of a file that are shown, one after another.

  Args:
    image: The open file.
    size: Its bytes, of which each picture takes some.
  """
  count = getattr(image, 'n_frames', 1)
  if count > size:
    raise ValueError(f'{count} pictures in {size} bytes')
  if image.format == 'MPO':  # A photo, with its preview or for the other eye.
    return [0]
  if image.format == 'PNG' and count > 1 and image.info.get('default_image'):
    return list(range(1, count))  # The first is for those who know no others.
  if image.format != 'TIFF' or count == 1:
    return list(range(count))
  pages = []
  for page in range(count):
    image.seek(page)
    if not image.tag_v2.get(_SUBFILE_TYPE, 0) & (_REDUCED | _MASK):
      pages.append(page)
  return pages or [0]


def _reason(error: Exception) -> str:
  """What is wrong; Pillow names the object in memory, where it is one."""
  text = str(error)
  if isinstance(error, PIL.UnidentifiedImageError):
    text = 'no image, or of a format that is not read, as HEIC is not'
  return f'{type(error).__name__}: {" ".join(text.split())}'
