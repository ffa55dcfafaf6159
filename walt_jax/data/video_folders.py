"""Finding videos in a folder, with the class and caption of each.

Classes come from, in this order: `captions.jsonl` in the folder (a line is
{"file": PATH, "caption": TEXT, "label": NAME (optional)}), UCF-101 file names
(`v_<Class>_g<group>_c<clip>.avi`), and class sub-folders.
"""
import dataclasses
import hashlib
import json
import os
import pathlib
import re

from walt_jax import errors

CAPTIONS = 'captions.jsonl'
UNLABELLED = 'unlabelled'

_UCF101 = re.compile(r'v_(?P<name>[A-Za-z0-9]+)_g(?P<group>\d+)_c\d+$')


@dataclasses.dataclass(frozen=True)
class InputFile:
  """One file to prepare.

  Attributes:
    path: Relative to the input folder, with '/'.
    label: Class name.
    caption: What it shows; '' when nobody says.
    group: Files of one group go to the same split.
    size: Bytes.
  """
  path: str
  label: str
  caption: str
  group: str
  size: int


@dataclasses.dataclass(frozen=True)
class Rejection:
  """A file that gave no clip, and why."""
  file: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
  """What a folder holds, in the order of names."""
  files: tuple[InputFile, ...]
  rejected: tuple[Rejection, ...]

  @property
  def classes(self) -> tuple[str, ...]:
    return tuple(sorted({file.label for file in self.files}))

  @property
  def sha256(self) -> str:
    lines = [[file.path, file.size, file.label, file.caption]
             for file in self.files]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def spaced(name: str) -> str:
  """Reads a class name as words: 'ApplyEyeMakeup' -> 'apply eye makeup'."""
  words = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', name)
  return re.sub(r'[_\-\s]+', ' ', words).strip().lower()


def list_folder(folder: pathlib.Path) -> Listing:
  """Lists all files under `folder`, except hidden ones.

  Raises:
    errors.UserError: No such folder, unreadable, or no file in it.
  """
  if not folder.is_dir():
    raise errors.UserError(f'--input {str(folder)!r} is not a folder')
  rejected: list[Rejection] = []

  def refuse(error: OSError):
    where = os.path.relpath(error.filename, folder)
    if where == '.':
      raise errors.UserError(
          f'cannot read --input {str(folder)!r}: {error.strerror}')
    rejected.append(Rejection(where, f'cannot list: {error.strerror}'))

  captions = _read_captions(folder / CAPTIONS, rejected)
  files: list[InputFile] = []
  for top, directories, names in os.walk(folder, onerror=refuse):
    directories[:] = sorted(d for d in directories if not d.startswith('.'))
    for name in names:
      path = os.path.relpath(os.path.join(top, name), folder)
      if name.startswith('.') or path == CAPTIONS:
        continue
      found = _describe(folder, path.replace(os.sep, '/'), captions)
      (files if isinstance(found, InputFile) else rejected).append(found)
  if not files and not rejected:
    raise errors.UserError(f'--input {str(folder)!r} holds no files')
  if captions is not None:
    present = {file.path for file in files}
    rejected.extend(Rejection(path, f'named in {CAPTIONS} but not usable')
                    for path in captions
                    if path not in present
                    and not any(r.file == path for r in rejected))
  order = lambda item: os.fsencode(getattr(item, 'path', None) or item.file)
  return Listing(tuple(sorted(files, key=order)),
                 tuple(sorted(rejected, key=order)))


def _describe(folder: pathlib.Path, path: str,
              captions: dict[str, dict] | None) -> InputFile | Rejection:
  full = folder / path
  try:
    size = full.stat().st_size
  except OSError as error:
    return Rejection(path, f'cannot read: {error.strerror}')
  if not full.is_file():
    return Rejection(path, 'not a regular file')
  if size == 0:
    return Rejection(path, 'empty file')
  parent, stem = str(pathlib.PurePosixPath(path).parent), full.stem
  match = _UCF101.match(stem)
  group = f'{match["name"]}/g{int(match["group"]):02d}' if match else path
  if captions is not None:
    if path not in captions:
      return Rejection(path, f'not named in {CAPTIONS}')
    entry = captions[path]
    caption = entry.get('caption', '')
    label = entry.get('label') or caption or UNLABELLED
  elif match:
    label = match['name']
    caption = spaced(label)
  elif parent != '.':
    label = parent
    caption = spaced(parent.rsplit('/', 1)[-1])
  else:
    label, caption = UNLABELLED, ''
  return InputFile(path, label, caption, group, size)


def _read_captions(path: pathlib.Path,
                   rejected: list[Rejection]) -> dict[str, dict] | None:
  """Reads `captions.jsonl` into file -> entry; None when there is none."""
  if not path.exists():
    return None
  try:
    text = path.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise errors.UserError(f'cannot read {str(path)!r}: {error}') from error
  captions = {}
  for number, line in enumerate(text.splitlines(), start=1):
    if not line.strip():
      continue
    try:
      entry = json.loads(line)
      file = entry['file']
      texts = (file, entry.get('caption', ''), entry.get('label') or '')
      if not all(isinstance(value, str) for value in texts):
        raise TypeError('file, caption and label are strings')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      rejected.append(Rejection(
          f'{CAPTIONS}:{number}',
          'not a line {"file": .., "caption": ..}: '
          f'{type(error).__name__} {error}'))
      continue
    captions[pathlib.PurePosixPath(file).as_posix()] = entry
  return captions


def heldout_groups(files: tuple[InputFile, ...],
                   fraction: float) -> frozenset[str]:
  """Draws the groups of the held-out split by the hash of their names.

  Whole groups (UCF-101 groups show the same people and place) are held out;
  at least one group when there are two, so that small sets can be evaluated.
  """
  groups = sorted(
      {file.group for file in files},
      key=lambda group: hashlib.sha256(os.fsencode(group)).digest())
  if fraction <= 0 or len(groups) < 2:
    return frozenset()
  count = min(len(groups) - 1, max(1, round(fraction * len(groups))))
  return frozenset(groups[:count])
