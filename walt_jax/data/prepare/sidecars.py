"""Texts that lie beside a clip: `clip.txt`, `clip.cls`, `clip.json`.

  .txt    the caption
  .cls    the class, a name or a number
  .json   an object with any of the columns of a table that tell captions or
          the class (`columns.py`)

They are of the clip whose name they have up to the suffix, or whole
(`a.b.txt` or `a.b.mp4.txt` of `a.b.mp4`); in a tar shard also of all clips
with that key up to the first dot, as WebDataset reads them.
"""
from collections.abc import Iterable, Sequence
import dataclasses
import posixpath

from walt_jax.core import json_text
from walt_jax.core import text_files
from walt_jax.data.prepare import columns

MAX_BYTES = 1 << 20
_SUFFIXES = ('.txt', '.cls', '.json')  # Earlier ones count.


@dataclasses.dataclass(frozen=True)
class Description:
  """What the texts beside a clip say.

  Attributes:
    captions: What it shows, in one or several ways; () for nothing.
    label: Class name, if one is given.
  """
  captions: tuple[str, ...] = ()
  label: str | None = None


def is_one(path: str) -> bool:
  """Whether a file is a text that may describe another."""
  return posixpath.splitext(path)[1].lower() in _SUFFIXES


def pair(media: Iterable[str], texts: Iterable[str], *,
         by_key: bool = False) -> tuple[dict[str, list[str]], list[str]]:
  """Finds the texts of each clip.

  Args:
    media: Paths of clips.
    texts: Paths of texts.
    by_key: A text is also of the clips that share its name up to their first
      dot, as in WebDataset's shards.

  Returns:
    Texts of each clip that has some, in the order in which they count, and
    those that are of none.
  """
  own: dict[str, list[str]] = {}
  for text in sorted(texts, key=lambda text: _SUFFIXES.index(
      posixpath.splitext(text)[1].lower())):
    own.setdefault(posixpath.splitext(text)[0], []).append(text)
  found: dict[str, list[str]] = {}
  used = set()
  for path in media:
    folder, slash, name = path.rpartition('/')
    keys = [path, posixpath.splitext(path)[0]]
    if by_key:
      keys.append(f'{folder}{slash}{name.partition(".")[0]}')
    for key in dict.fromkeys(keys):
      if key in own:
        found.setdefault(path, []).extend(own[key])
        used.add(key)
  return found, [text for key, about in own.items() if key not in used
                 for text in about]


def describe(texts: Sequence[tuple[str, bytes]]) -> Description:
  """Reads the texts of one clip.

  Args:
    texts: Name and content of each; the first one that says something counts.

  Raises:
    ValueError: One of them cannot be read, and why.
  """
  captions: tuple[str, ...] = ()
  label = None
  for name, data in texts:
    try:
      said = _read(name, data)
    except ValueError as error:
      raise ValueError(
          f'cannot read {posixpath.basename(name)!r}: {error}') from error
    captions, label = captions or said.captions, label or said.label
  return Description(captions or columns.as_caption(label), label)


def _read(name: str, data: bytes) -> Description:
  if len(data) > MAX_BYTES:
    raise ValueError(f'more than {MAX_BYTES} bytes')
  text = text_files.decode(data).strip()
  suffix = posixpath.splitext(name)[1].lower()
  if suffix == '.txt':
    return Description((text,) if text else ())
  if suffix == '.cls':
    return Description(label=columns.class_name(text))
  row = json_text.loads(text)
  if not isinstance(row, dict):
    raise ValueError('it is not an object {"caption": ..}')
  row = {columns.normalised(key): value for key, value in row.items()}
  return Description(columns.captions(row), columns.label(row))
