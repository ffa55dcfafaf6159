"""What there is to prepare: files, segments of files, and tar shards.

Names that are not UTF-8 are kept with `surrogateescape`, as Python does.
"""
import dataclasses
import hashlib
import json
import os
import re

from walt_jax.data.storage import names as names_lib

UNLABELLED = 'unlabelled'

# What others call their splits.
_SPLIT_NAMES = {
    **dict.fromkeys(('train', 'training'), names_lib.TRAIN),
    **dict.fromkeys(('val', 'valid', 'validate', 'validation', 'test',
                     'testing', 'eval', 'holdout', 'heldout'),
                    names_lib.HELD_OUT)}
_UCF101 = re.compile(r'v_(?P<name>[A-Za-z0-9]+)_g(?P<group>\d+)_c\d+$')


@dataclasses.dataclass(frozen=True, slots=True)
class InputFile:
  """One file, or one segment of a file, to prepare.

  Attributes:
    path: Relative to the input folder, with '/'; of a member of a tar shard,
      its name inside.
    label: Class name.
    captions: What it shows, once or in several ways; () when nobody says.
    group: Files of one group go to the same split.
    size: Bytes.
    split: Where it must go; None leaves that to a hash of the group.
    start: Seconds where the segment starts; None is the file's start.
    end: Seconds where it ends; None is the file's end.
    offset: Offset of its bytes in the tar shard that holds it.
    copy: Which of several classes of the same segment this is.
  """
  path: str
  label: str
  captions: tuple[str, ...]
  group: str
  size: int
  split: str | None = None
  start: float | None = None
  end: float | None = None
  offset: int | None = None
  copy: int = 0

  @property
  def key(self) -> str:
    """Unique in the input."""
    key = self.path
    if self.start is not None or self.end is not None:
      end = '' if self.end is None else f'{self.end:g}'
      key += f'@{self.start or 0:g}-{end}'
    return f'{key}~{self.copy}' if self.copy else key


@dataclasses.dataclass(frozen=True, slots=True)
class TarFile:
  """A tar shard; only the worker that prepares it looks inside."""
  path: str
  size: int
  split: str | None = None

  @property
  def group(self) -> str:
    return self.path


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
  """Something that gave no clip, and why."""
  file: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
  """The input, in the order of names.

  Attributes:
    files: What can be tried.
    tars: Shards whose members can be tried.
    rejected: Files that cannot be tried.
    missing: What annotations name and nobody finds, and their bad lines.
    hidden: Hidden files and folders, which are passed over.
    annotations: Files that were read for what they say of others.
    known_classes: Class names in the order of an official list, if any.
    matched_by_end: Number of annotations that found their file by the end of
      its path; which they are shows in `files`.
  """
  files: tuple[InputFile, ...]
  tars: tuple[TarFile, ...] = ()
  rejected: tuple[Rejection, ...] = ()
  missing: tuple[Rejection, ...] = ()
  hidden: tuple[str, ...] = ()
  annotations: tuple[str, ...] = ()
  known_classes: tuple[str, ...] | None = None
  matched_by_end: int = 0

  @property
  def sha256(self) -> str:
    """Hash of the list: names, sizes and all that annotations say."""
    hasher = hashlib.sha256()
    for items in (self.files, self.tars, self.rejected, self.missing):
      for item in items:
        hasher.update(json.dumps(_said(item)).encode() + b'\n')
    hasher.update(json.dumps(self.known_classes).encode())
    return hasher.hexdigest()


def _said(item: InputFile | TarFile | Rejection) -> list:
  """What is known of an item, as the hash reads it."""
  said = dataclasses.asdict(item)
  if isinstance(item, InputFile) and len(item.captions) < 2:
    # As when every file had one caption: finished sets keep their identity.
    said['captions'] = ''.join(item.captions)
  return list(said.values())


def class_names(labels: set[str],
                known: tuple[str, ...] | None) -> tuple[str, ...]:
  """All class names by id: the official order, else numbers, else names."""
  if known is not None:
    return (*known, *sorted(labels - set(known)))
  if labels and all(label.isdecimal() for label in labels):
    return tuple(sorted(labels, key=int))
  return tuple(sorted(labels))


def split_of_name(name: str) -> str | None:
  """'train' or 'heldout' for what others call a split, else None."""
  return _SPLIT_NAMES.get(name.strip().lower())


def ucf101_name(stem: str) -> tuple[str, str] | None:
  """Class and group of a UCF-101 file name (one place and its people)."""
  match = _UCF101.match(stem)
  if match is None:
    return None
  return match['name'], f'{match["name"]}/g{int(match["group"]):02d}'


def heldout_groups(items: tuple[InputFile | TarFile, ...],
                   fraction: float) -> frozenset[str]:
  """Draws the groups of the held-out split by the hash of their names.

  Whole groups (UCF-101 groups show the same people and place) are held out;
  at least one group when there are two, so that small sets can be evaluated.
  """
  groups = sorted(
      {item.group for item in items if item.split is None},
      key=lambda group: hashlib.sha256(os.fsencode(group)).digest())
  if fraction <= 0 or len(groups) < 2:
    return frozenset()
  count = min(len(groups) - 1, max(1, round(fraction * len(groups))))
  return frozenset(groups[:count])
