"""The files of a folder of clips: one kind, each clip once."""
import pathlib
from typing import Any
import unicodedata

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.data import evaluation_clips
from walt_jax.media import decode
from walt_jax.media import frame_folders as frame_folders_lib

_ARRAY_SUFFIXES = ('.npy',)


def find(folder: pathlib.Path, *, frame_folders: bool = False
         ) -> list[pathlib.Path]:
  """The clips of a folder and of those in it, in the order of their names.

  Args:
    folder: Where to look.
    frame_folders: Whether folders of nothing but numbered images are clips;
      else each image is one, of one frame.

  Raises:
    UserError: There are none, or several kinds, or one clip in two files.
  """
  kinds: dict[str, list[pathlib.Path]] = {}
  folders: set[pathlib.Path] = set()
  if frame_folders:
    folders = {place for place in (folder, *folder.rglob('*'))
               if place.is_dir() and frame_folders_lib.find(place)}
    if folders:
      kinds['folders of frames'] = sorted(folders)
  for file in sorted(folder.rglob('*')):
    if file.parent in folders:
      continue
    suffix = file.suffix.lower()
    for kind, suffixes in (('videos', decode.VIDEO_SUFFIXES),
                           ('images', decode.IMAGE_SUFFIXES),
                           ('.npy files', _ARRAY_SUFFIXES)):
      if (suffix in suffixes and file.is_file()
          and not file.name.startswith('.')):
        kinds.setdefault(kind, []).append(file)
  if not kinds:
    raise errors.UserError(
        f'{folder} holds no videos, images or .npy clips; give another folder')
  if len(kinds) > 1:
    found = ', '.join(f'{len(files)} {kind}' for kind, files in kinds.items())
    raise errors.UserError(
        f'{folder} mixes {found}; keep one kind to a folder')
  (files,) = kinds.values()
  _check_distinct(folder, files)
  return files


def _check_distinct(folder: pathlib.Path, files: list[pathlib.Path]) -> None:
  """A clip in two files, as a.mp4 and a.avi, would count twice."""
  seen: dict[str, pathlib.Path] = {}
  for file in files:
    name = file.relative_to(folder)
    whole = name if file.is_dir() else name.with_suffix('')
    # Some systems write letters with accents in two characters.
    stem = unicodedata.normalize('NFC', str(whole))
    if stem in seen:
      raise errors.UserError(
          f'{folder} holds {str(seen[stem])!r} and {str(name)!r}, the same '
          'clip twice by their names; remove or rename one of them')
    seen[stem] = name


def fingerprint(path: str) -> list[Any]:
  """Changes when a set does: names, sizes and times of files, their reader."""
  prepared = evaluation_clips.parse(path)  # Which split is in the path.
  root = prepared[0] if prepared else paths.path(path)
  if paths.is_remote(root):
    return [str(path), paths.versions(root)]
  root = root.resolve()
  files = [root] if root.is_file() else sorted(
      file for file in root.rglob('*') if file.is_file())
  reader = [] if prepared else [decode.VERSION]
  return [str(path) if prepared else str(root), *reader, [
      (str(file.relative_to(root)), file.stat().st_size,
       file.stat().st_mtime_ns) for file in files]]
