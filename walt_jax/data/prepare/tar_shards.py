"""WebDataset-style tar shards: members of one sample share their stem.

A sample is a video or an image (`key.mp4`, `key.jpg`, ..) with, if there are,
`key.txt` (caption), `key.cls` (class name or number) and `key.json` (an object
with any of `caption` or `text`, `label` or `class`). Only headers and these
small members are read to list a shard; a clip's bytes are read where they lie.
"""
from collections.abc import Iterator
import dataclasses
import json
import pathlib
import tarfile

from walt_jax.data.prepare import listing
from walt_jax.data.storage import names as names_lib

_TEXT_MEMBERS = ('txt', 'cls', 'json')
_MAX_TEXT_BYTES = 1 << 20


@dataclasses.dataclass
class _Sample:
  """Members of one key."""
  media: list[listing.InputFile] = dataclasses.field(default_factory=list)
  texts: dict[str, str] = dataclasses.field(default_factory=dict)
  problem: str = ''


def scan(folder: pathlib.Path, tar: listing.TarFile
         ) -> tuple[list[listing.InputFile], list[listing.Rejection]]:
  """Lists the samples of a shard in their order, and what is unusable.

  `path` of a file found is 'SHARD.tar/MEMBER'.
  """
  samples: dict[str, _Sample] = {}
  rejected = []
  try:
    for member, texts in _members(folder / tar.path):
      key, dot, suffix = _split_name(member.name)
      sample = samples.setdefault(key, _Sample())
      if suffix in _TEXT_MEMBERS:
        _add_text(sample, suffix, texts)
      elif dot:
        path = f'{tar.path}/{member.name}'
        if not member.size:
          rejected.append(listing.Rejection(path, 'empty file'))
          continue
        sample.media.append(listing.InputFile(
            path, listing.UNLABELLED, (), tar.group, member.size, tar.split,
            offset=member.offset_data))
      else:
        rejected.append(listing.Rejection(f'{tar.path}/{member.name}',
                                          'a name without a suffix'))
  except (tarfile.TarError, OSError, EOFError) as error:
    rejected.append(listing.Rejection(
        tar.path, f'damaged after {len(samples)} samples: '
        f'{type(error).__name__}: {error}'))
  files = []
  for key, sample in samples.items():
    if sample.problem:
      rejected.append(listing.Rejection(f'{tar.path}/{key}', sample.problem))
    elif sample.media:
      files += _described(sample)
    elif sample.texts:
      rejected.append(listing.Rejection(
          f'{tar.path}/{key}', 'a caption without a video or an image'))
  return files, rejected


def read_member(folder: pathlib.Path, tar: str,
                file: listing.InputFile) -> bytes:
  """The bytes of a file that `scan` found."""
  with (folder / tar).open('rb') as shard:
    shard.seek(file.offset or 0)
    return shard.read(file.size)


def _members(path: pathlib.Path
             ) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
  """Yields regular members, with the bytes of small texts."""
  # 'r:' takes no compression: members must be found without reading it all.
  size = path.stat().st_size
  with tarfile.open(path, 'r:', errors='surrogateescape') as tar:
    for member in tar:
      if not member.isfile():
        continue
      if member.offset_data + member.size > size:
        raise EOFError(f'{member.name} runs past the end of the file')
      text = None
      if (_split_name(member.name)[2] in _TEXT_MEMBERS
          and member.size <= _MAX_TEXT_BYTES):
        opened = tar.extractfile(member)
        text = opened.read() if opened else None
      yield member, text
      # Else the list of a large shard stays in memory.
      tar.members = []  # type: ignore[attr-defined]


def _split_name(name: str) -> tuple[str, str, str]:
  """'a/b.c.mp4' -> ('a/b', '.', 'c.mp4'), as WebDataset does."""
  folder, slash, base = name.rpartition('/')
  stem, dot, suffix = base.partition('.')
  return f'{folder}{slash}{stem}', dot, suffix.lower()


def _add_text(sample: _Sample, suffix: str, data: bytes | None) -> None:
  try:
    if data is None:
      raise ValueError('too long')
    text = data.decode('utf-8').strip()
    if suffix == 'json':
      entry = json.loads(text)
      if not isinstance(entry, dict):
        raise ValueError('not an object')
      caption = entry.get('caption', entry.get('text'))
      label = entry.get('label', entry.get('class'))
      if isinstance(caption, str):
        sample.texts.setdefault('caption', caption)
      if isinstance(label, str | int):
        sample.texts.setdefault('label', str(label))
    else:
      sample.texts['caption' if suffix == 'txt' else 'label'] = text
  except (UnicodeDecodeError, ValueError) as error:
    sample.problem = f'cannot read .{suffix}: {error}'


def _described(sample: _Sample) -> list[listing.InputFile]:
  label = sample.texts.get('label') or listing.UNLABELLED
  caption = sample.texts.get('caption')
  if caption is None:
    known = label != listing.UNLABELLED and not label.isdecimal()
    caption = names_lib.spaced(label) if known else ''
  return [dataclasses.replace(file, label=label,
                              captions=(caption,) if caption else ())
          for file in sample.media]
