"""What one visitor of the demo can ask of the machine that it runs on."""
from collections.abc import Sequence
import dataclasses
import pathlib
import re
import shutil
from typing import Any

from PIL import Image

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.media import samples as samples_lib

# A path of the server in a text, up to its last part; not 'red/green/blue'.
_FOLDERS = re.compile(
    r'(?<![^\s\'"(=,:])(?:gs:/)?(?:/[^/\s\'"]+)+/(?=[^/\s\'"])')


@dataclasses.dataclass(frozen=True)
class Limits:
  """Upper bounds; a request beyond them is refused by a sentence.

  Attributes:
    frames: Frames of a clip.
    steps: Steps of one stage.
    prompt: Characters of a prompt.
    upload: Bytes of an uploaded file.
    pixels: Pixels of an uploaded image.
    kept: Bytes of drawn clips that are kept; the oldest go first.
  """
  frames: int
  steps: int = 1000
  prompt: int = 2000
  upload: int = 20_000_000
  pixels: int = 40_000_000
  kept: int = 1_000_000_000

  def check_prompt(self, prompt: str) -> None:
    if len(prompt) > self.prompt:
      raise errors.UserError(
          f'Prompt has {len(prompt)} characters; it may have {self.prompt}')

  def check_image(self, path: str) -> None:
    """Refuses an image that would take much memory, by its header."""
    if not path:
      return
    size = paths.path(path).stat().st_size
    if size > self.upload:
      raise errors.UserError(
          f'First frame has {size} bytes; it may have {self.upload}')
    try:
      with Image.open(path) as image:
        width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError
            ) as e:
      raise errors.UserError('First frame is no image that can be read') from e
    if width * height > self.pixels:
      raise errors.UserError(
          f'First frame is {width} x {height}; it may have {self.pixels} '
          'pixels')


class Kept:
  """Folders of drawn clips, the newest last, within a bound."""

  def __init__(self, most_bytes: int):
    self._most = most_bytes
    self._sizes: dict[pathlib.Path, int] = {}

  def add(self, folder: pathlib.Path) -> None:
    """Takes a folder; removes the oldest until all fit, this one excepted."""
    self._sizes[folder] = sum(
        paths.size(file) for file in paths.files_below(folder))
    while len(self._sizes) > 1 and sum(self._sizes.values()) > self._most:
      oldest = next(iter(self._sizes))
      shutil.rmtree(oldest, ignore_errors=True)
      del self._sizes[oldest]


def without_paths(text: str) -> str:
  """A text in which files have their names alone."""
  return _FOLDERS.sub('', text)


def sentence(error: Exception) -> str:
  """What went wrong, for a visitor: a sentence, without paths."""
  text = without_paths(str(error)).strip().rstrip('.')
  return f'{text[:1].upper()}{text[1:]}.' if text else 'It failed.'


def offered(folder: pathlib.Path) -> Sequence[str]:
  """The files of a drawn clip to give away; none tells a path.

  The record of the clip names the work directories by their last part.
  """
  record = folder / samples_lib.FILE_NAME
  files.write_json(record, _shortened(files.read_json(record)))
  return [str(path) for path in sorted(folder.iterdir())]


def _shortened(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _shortened(each) for name, each in value.items()}
  if isinstance(value, list):
    return [_shortened(each) for each in value]
  return without_paths(value) if isinstance(value, str) else value


class AbandonedError(Exception):
  """Who asked for a clip has closed the page."""


class Visitors:
  """Who has left; what they asked for is not drawn, or no further."""

  def __init__(self):
    self._gone: set[str] = set()

  def leave(self, session: str | None) -> None:
    if session:
      self._gone.add(session)

  def check(self, session: str | None) -> None:
    """Raises `AbandonedError` for one who has left."""
    if session in self._gone:
      raise AbandonedError
