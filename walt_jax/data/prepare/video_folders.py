"""Finding videos, images, folders of frames and tar shards in a folder.

Classes come from, in this order: annotations (`annotations.py`) or texts beside
the files (`sidecars.py`), UCF-101 file names
(`v_<Class>_g<group>_c<clip>.avi`), and class sub-folders.
"""
import collections
from collections.abc import Iterator
import contextlib
import os
import pathlib

from walt_jax.core import errors
from walt_jax.data.prepare import annotations as annotations_lib
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import sidecars
from walt_jax.data.storage import names as names_lib
from walt_jax.media import frame_folders as frame_folders_lib

_TAR = '.tar'


def list_folder(folder: pathlib.Path, *,
                annotations: annotations_lib.Annotations | None = None,
                split_folders: bool = False,
                frame_folders: bool = False) -> listing.Listing:
  """Lists all files under `folder`, except hidden ones.

  Args:
    folder: The input.
    annotations: What is known of the files; None reads caption files that lie
      in the folder.
    split_folders: The first folder's name (train, val, test, ..) is the split.
    frame_folders: Folders of nothing but numbered images are clips.

  Raises:
    errors.UserError: No such folder, unreadable, or no file in it.
  """
  if not folder.is_dir():
    raise errors.UserError(f'--input {str(folder)!r} is not a folder')
  if annotations is None:
    annotations = annotations_lib.read_found(folder)
  walk = _Walk(folder, annotations, split_folders, frame_folders)
  walk.run()
  if not walk.files and not walk.tars and not walk.rejected:
    raise errors.UserError(f'--input {str(folder)!r} holds no files')
  by_name = lambda item: (
      os.fsencode(getattr(item, 'path', None) or item.file),
      getattr(item, 'start', None) or 0, getattr(item, 'end', None) or 0)
  return listing.Listing(
      files=tuple(sorted(walk.files, key=by_name)),
      tars=tuple(sorted(walk.tars, key=by_name)),
      rejected=tuple(sorted(walk.rejected, key=by_name)),
      missing=tuple(sorted(walk.missing, key=by_name)),
      hidden=tuple(walk.hidden), annotations=tuple(walk.sources),
      known_classes=annotations.known_classes if annotations else None,
      matched_by_end=walk.matched_by_end)


class _Walk:
  """Everything under a folder, one file after another."""

  def __init__(self, folder: pathlib.Path,
               annotations: annotations_lib.Annotations | None,
               split_folders: bool, frame_folders: bool):
    self._folder, self._annotations = folder, annotations
    self._split_folders, self._frame_folders = split_folders, frame_folders
    self.files: list[listing.InputFile] = []
    self.tars: list[listing.TarFile] = []
    self.rejected: list[listing.Rejection] = []
    self.missing: list[listing.Rejection] = []
    self.hidden: list[str] = []
    self.sources: list[str] = []
    self.matched_by_end = 0
    self._sizes: dict[str, int] = {}  # Of clips, by path.
    self._media: list[str] = []  # All that texts may lie beside of.

  def run(self) -> None:
    """Fills the lists."""
    own = {path.resolve() for path in (
        self._annotations.sources if self._annotations else ())}
    texts: list[str] = []
    for path in self._paths():
      full = self._folder / path
      if own and full.resolve() in own:
        self.sources.append(path)
        continue
      if sidecars.is_one(path) or annotations_lib.is_table(path):
        texts.append(path)
        continue
      self._media.append(path)
      try:
        size = full.stat().st_size
      except OSError as error:
        self._reject(path, f'cannot read: {error.strerror}')
        continue
      if not full.is_file():
        self._reject(path, 'not a regular file')
      elif size == 0:
        self._reject(path, 'empty file')
      elif full.suffix.lower() == _TAR:
        self.tars.append(listing.TarFile(path, size, self._folder_split(path)))
      else:
        self._take(path, size)
    if self._annotations is None:
      self._add_described(*sidecars.pair(self._media, texts))
    else:
      self._add_annotated(self._annotations, texts)

  def _take(self, path: str, size: int) -> None:
    """Keeps a clip to describe, unless it is in no split."""
    if self._split_folders and self._folder_split(path) is None:
      self._reject(path, 'in no folder named train, val or test')
    else:
      self._sizes[path] = size

  def _paths(self) -> Iterator[str]:
    """Yields paths with '/', relative to the folder; follows links once."""
    seen = set()
    for top, folders, names in os.walk(self._folder, onerror=self._refuse,
                                       followlinks=True):
      relative = os.path.relpath(top, self._folder).replace(os.sep, '/')
      status = os.stat(top)
      if (status.st_dev, status.st_ino) in seen:
        self._reject(relative, 'a link to a folder that was seen already')
        folders.clear()
        continue
      seen.add((status.st_dev, status.st_ino))
      place = '' if relative == '.' else f'{relative}/'
      self.hidden += [f'{place}{name}' for name in folders + names
                      if name.startswith('.')]
      folders[:] = sorted(n for n in folders if not n.startswith('.'))
      names = sorted(name for name in names if not name.startswith('.'))
      if self._frame_folders and not folders and frame_folders_lib.frames_of(
          names):
        self._add_folder(relative, names)
        continue
      for name in names:
        yield f'{place}{name}'

  def _add_folder(self, path: str, names: list[str]) -> None:
    """Adds a folder of frames as one clip."""
    size = 0
    for name in names:
      with contextlib.suppress(OSError):  # Told by who reads it.
        size += (self._folder / path / name).stat().st_size
    self._media.append(path)
    self._take(path, size)

  def _refuse(self, error: OSError) -> None:
    where = os.path.relpath(error.filename, self._folder)
    if where == '.':
      raise errors.UserError(
          f'cannot read --input {str(self._folder)!r}: {error.strerror}')
    self._reject(where, f'cannot list: {error.strerror}')

  def _reject(self, path: str, reason: str) -> None:
    self.rejected.append(listing.Rejection(path, reason))

  def _folder_split(self, path: str) -> str | None:
    return listing.split_of_name(
        path.split('/')[0]) if self._split_folders else None

  def _add_described(self, texts_of: dict[str, list[str]],
                     alone: list[str]) -> None:
    """Adds files that their names and the texts beside them describe."""
    self.sources += sorted({text for own in texts_of.values() for text in own})
    for text in alone:
      self._reject(text, 'a text without a video or an image beside it')
    for path, size in self._sizes.items():
      try:
        said = sidecars.describe(
            [(text, (self._folder / text).read_bytes())
             for text in texts_of.get(path, ())])
      except ValueError as error:
        self._reject(path, str(error))
        continue
      except OSError as error:
        self._reject(path, f'cannot read {error.filename!r}: {error.strerror}')
        continue
      except Exception as error:  # pylint: disable=broad-except
        self._reject(path, f'cannot be described: {errors.reason(error)}')
        continue
      label, captions, group = self._from_name(path)
      self.files.append(listing.InputFile(
          path, said.label or label, said.captions or captions, group, size,
          self._folder_split(path)))

  def _add_annotated(self, annotations: annotations_lib.Annotations,
                     texts: list[str]) -> None:
    """Adds files once for each segment and class that annotations name."""
    for text in texts:
      self._reject(text, f'not read: {annotations.origin} describes the files')
    matched = annotations.match(list(self._sizes), self._folder)
    self.missing += matched.missing
    self.matched_by_end = matched.by_end
    for path, size in self._sizes.items():
      if path not in matched.segments:
        self._reject(path, f'not named in {annotations.origin}')
        continue
      label, _, group = self._from_name(path)
      split = self._folder_split(path)
      copies: collections.Counter = collections.Counter()
      for line in matched.segments[path]:
        self.files.append(listing.InputFile(
            path, line.label or label, line.captions, group, size,
            line.split or split, line.start, line.end,
            copy=copies[line.segment]))
        copies[line.segment] += 1

  def _from_name(self, path: str) -> tuple[str, tuple[str, ...], str]:
    """Label, captions and group that the path tells."""
    pure = pathlib.PurePosixPath(path)
    folders = pure.parts[1 if self._split_folders else 0:-1]
    ucf101 = listing.ucf101_name(pure.stem)
    if ucf101 is not None:
      label, group = ucf101
    else:
      label, group = '/'.join(folders) or listing.UNLABELLED, path
    known = ucf101 is not None or folders
    captions = (names_lib.spaced(label.rsplit('/', 1)[-1]),) if known else ()
    return label, captions, group
