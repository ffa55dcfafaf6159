"""Which file a line of a table is about, whatever spelling its name has.

A name is first taken as it stands, relative to the input folder. What then is
left, of names and of files, is compared from its end: names of another
machine or folder, with other case, or without a suffix, find their file where
only one can be meant. Nothing is guessed: a name that could be two files, and
two names that could be one, are refused with the reason.
"""
import collections
from collections.abc import Iterable, Sequence
import pathlib
import posixpath
import re
from typing import NamedTuple
import unicodedata

from walt_jax.data.prepare import listing
from walt_jax.data.prepare import segments
from walt_jax.media import decode

_DRIVE = re.compile(r'^[A-Za-z]:(?=/)')
# A name that ends so is not one without its suffix.
_SUFFIXES = decode.VIDEO_SUFFIXES | decode.IMAGE_SUFFIXES
_MOST_NAMED = 3  # Candidates in a message.


class Found(NamedTuple):
  """What is said of files.

  Attributes:
    lines: Lines by path.
    missing: Lines that are about no file.
    by_end: Number of lines that found their file by the end of its path.
  """
  lines: dict[str, list[segments.Annotation]]
  missing: list[listing.Rejection]
  by_end: int = 0


def by_path(lines: Iterable[segments.Annotation], paths: Sequence[str],
            folder: pathlib.Path) -> Found:
  """Matches lines that name files by their paths.

  Args:
    lines: What is said.
    paths: Files, relative to the input folder, with '/'.
    folder: The input, for absolute names.
  """
  own: dict[str, list[segments.Annotation]] = {}
  for line in lines:
    own.setdefault(line.name, []).append(line)
  known = set(paths)
  path_of = {name: name for name in own if name in known}
  roots = [top.as_posix() + '/' for top in (folder.absolute(),
                                            folder.resolve())]
  spelt = {name: _spelling(name, roots) for name in own if name not in path_of}
  by_key: dict[str, list[str]] = {}
  for path in paths if spelt else ():
    by_key.setdefault(_composed(path), []).append(path)
  for name, key in spelt.items():
    same = by_key.get(key, [])
    if len(same) == 1:
      path_of[name] = same[0]
  left = {name: key for name, key in spelt.items() if name not in path_of}
  problems = _match_ends(left, known - set(path_of.values()), path_of)
  found: dict[str, list[segments.Annotation]] = {}
  missing = []
  for name, about in own.items():
    if name in path_of:
      found.setdefault(path_of[name], []).extend(about)
    else:
      missing += [_missing(line, problems.get(name, 'no such file'))
                  for line in about]
  return Found(found, missing,
               sum(len(own[name]) for name in left if name in path_of))


def by_name(lines: Iterable[segments.Annotation],
            paths: Sequence[str]) -> Found:
  """Matches lines by the last part of their paths, as UCF-101's lists do.

  A folder of frames has the name of its video without the suffix.
  """
  own: dict[str, list[segments.Annotation]] = {}
  for line in lines:
    own.setdefault(posixpath.basename(line.name), []).append(line)
  stems = {posixpath.splitext(name)[0]: name for name in own}
  names_of = {}
  for path in paths:
    base = posixpath.basename(path)
    name = base if _suffix(base) in _SUFFIXES else stems.get(base, base)
    if name in own:
      names_of[path] = name
  found = {path: own[name] for path, name in names_of.items()}
  names = set(names_of.values())
  return Found(found, [_missing(line) for name, about in own.items()
                       if name not in names for line in about])


def by_youtube_id(lines: Iterable[segments.Annotation],
                  paths: Sequence[str]) -> Found:
  """Matches Kinetics lists: files are whole videos ID.*, or ID_START_END.*."""
  own: dict[str, list[segments.Annotation]] = {}
  for line in lines:
    own.setdefault(line.name, []).append(line)
  found: dict[str, list[segments.Annotation]] = {}
  used: set[str] = set()
  for path in paths:
    stem = pathlib.PurePosixPath(path).stem
    about = own.get(stem)
    if about is None:
      name, *times = stem.rsplit('_', 2)
      if len(times) != 2 or not ''.join(times).isdecimal():
        continue
      about = [line for line in own.get(name, ())
               if line.segment == (float(times[0]), float(times[1]))][:1]
      if not about:
        continue
      used.add(about[0].where)
      # It was cut already.
      found[path] = [segments.whole(about[0])]
      continue
    used.update(line.where for line in about)
    found[path] = about
  return Found(found, [
      _missing(line) for about in own.values() for line in about
      if line.where not in used])


def _missing(line: segments.Annotation,
             reason: str = 'no such file') -> listing.Rejection:
  return listing.Rejection(line.name, f'named in {line.where}, but {reason}')


def _composed(path: str) -> str:
  """Composed Unicode: a Mac writes 'e' and an accent for one letter."""
  return unicodedata.normalize('NFC', path)


def is_absolute(name: str) -> bool:
  """Whether a name starts at the root of some machine."""
  return _with_slashes(name).startswith('/')


def _with_slashes(name: str) -> str:
  return _DRIVE.sub('', name.strip().replace('\\', '/'))


def _spelling(name: str, roots: Iterable[str]) -> str:
  """A name with '/', composed letters and, inside the input, relative."""
  path = _with_slashes(name)
  path = posixpath.normpath(path) if path else path
  for root in roots:
    if path.startswith(root):
      path = path.removeprefix(root)
  return _composed(path)


def _match_ends(names: dict[str, str], paths: Iterable[str],
                path_of: dict[str, str]) -> dict[str, str]:
  """Adds names to `path_of` that only one file ends like.

  Args:
    names: Spelling by name.
    paths: Files that no name is about yet.
    path_of: Path by name.

  Returns:
    Why a name that comes near is about none, by name.
  """
  files: dict[str, list[str]] = {}
  for path in paths if names else ():
    base = _folded(posixpath.basename(path))
    for key in {base, posixpath.splitext(base)[0]}:
      files.setdefault(key, []).append(path)
  problems = {}
  claims: dict[str, list[str]] = {}
  for name, spelling in names.items():
    best = _nearest(spelling, files)
    if len(best) == 1:
      claims.setdefault(best[0], []).append(name)
    elif best:
      shown = ', '.join(map(repr, sorted(best)[:_MOST_NAMED]))
      problems[name] = f'{len(best)} files could be meant: {shown}' + (
          ', ..' if len(best) > _MOST_NAMED else '')
  for path, claiming in claims.items():
    parts = {name: _parts(names[name].casefold()) for name in claiming}
    longest = max(claiming, key=lambda name: len(parts[name]))
    other = next((name for name in claiming if _common_end(
        parts[name], parts[longest]) < len(parts[name])), None)
    if other is None:
      path_of.update(dict.fromkeys(claiming, path))
      continue
    for name in claiming:
      second = longest if name == other else other
      problems[name] = f'{path!r} could be that or {second!r}'
  return problems


def _parts(spelling: str) -> list[str]:
  return [part for part in spelling.split('/') if part]


def _folded(name: str) -> str:
  return _composed(name).casefold()


def _nearest(spelling: str, files: dict[str, list[str]]) -> list[str]:
  """The files that share the longest end with a name."""
  wanted = _parts(spelling)
  if not wanted:
    return []
  best = collections.defaultdict(list)
  for path in files.get(wanted[-1].casefold(), ()):
    parts = _composed(path).split('/')
    is_whole = parts[-1].casefold() == wanted[-1].casefold()
    if not is_whole:
      if _suffix(wanted[-1]) in _SUFFIXES:
        continue
      parts[-1] = posixpath.splitext(parts[-1])[0]
    folded = _common_end([part.casefold() for part in parts],
                         [part.casefold() for part in wanted])
    # One lies wholly inside the other, or the name is of another machine.
    if folded in (len(parts), len(wanted)) or spelling.startswith('/'):
      best[folded, _common_end(parts, wanted), is_whole].append(path)
  return best[max(best)] if best else []


def _suffix(name: str) -> str:
  return posixpath.splitext(name)[1].lower()


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
  """Parts that two paths share, from the last one on."""
  count = 0
  for a, b in zip(reversed(one), reversed(other), strict=False):
    if a != b:
      break
    count += 1
  return count
