"""Folders of clips with a `samples.json` that says how each came to be.

Such a folder holds, for each entry, `STEM.npy` (uint8 [T, H, W, 3], lossless)
and `STEM.mp4` (`STEM.png` for one frame), for people to look at. Real clips,
reconstructions and generated clips all use it; readers go through
`samples.json`, which is written last: a folder with it is complete.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import io
import os
import pathlib
from typing import Any, Literal

import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_kinds
from walt_jax.core import paths
from walt_jax.core import pixels
from walt_jax.media import decode
from walt_jax.media import video

FILE_NAME = 'samples.json'
FORMAT = 1
_SUFFIXES = ('.npy', '.mp4', '.png', '.gif', '.webp')
KINDS = ('generated', 'real', 'reconstruction')


@dataclasses.dataclass(frozen=True)
class Entry:
  """One clip of the folder.

  Attributes:
    stem: File name without suffix, such as '00007'.
    caption: What the clip shows or was asked to show; '' if nothing was said.
    label: Class name, or None.
    seed: Seed that this sample's noise was drawn from, or None.
    index: Its number in the run or the data set, or None.
    prompts: [(first frame, prompt), ..] where the prompt changes over time.
    source: File given by `--image` or `--video`, or the real clip's file.
    given_frames: First frames that were given to the model, 0 for none; None
      in folders of versions that did not say.
    original: Stem, in the same folder, of the true clip that this one
      reconstructs or super-resolves.
    stages: Stage name -> stem of that stage's output, in the same folder
      (for a cascade; the last stage's is `stem` itself).
    shape: [T, H, W, 3]; filled in when the clip is written.
  """
  stem: str
  caption: str = ''
  label: str | None = None
  seed: int | None = None
  index: int | None = None
  prompts: tuple[tuple[int, str], ...] = ()
  source: str | None = None
  given_frames: int | None = None
  original: str | None = None
  stages: Mapping[str, str] = dataclasses.field(default_factory=dict)
  shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class StageRecord:
  """How one stage of the pipeline was run.

  Attributes:
    name: 'base', 'sr1', ..
    workdir: Its work directory.
    step: Training step of the checkpoint.
    sha256: Hash of the parameters used.
    weights: 'params' or the EMA used, such as 'ema/0.99'.
    sampler: 'ddim', ..
    steps: Sampling steps.
    guidance: Condition -> guidance scale.
    guidance_shape: How the scales depend on the timestep; {} where they do
      not.
    noise_level: Noise augmentation of the low-resolution input, or None.
    shape: [T, H, W, 3] of its output.
    seconds: Wall time of the stage over all samples.
    compile_seconds: Part of `seconds` spent compiling, or None.
    tokenizer_sha256: Hash of the tokenizer used.
    sampler_options: All settings of the sampler.
    origins: Setting -> where it came from: 'request' (a flag, an argument, a
      field of the page) or 'config' (the run's).
    windows: How clips longer than a window were made: 'continued', each
      window from the last frames of the one before, or 'blended', each on its
      own and the frames that two share faded over; '' for other clips.
  """
  name: str
  workdir: str
  step: int
  sha256: str
  weights: str = 'params'
  sampler: str = 'ddim'
  steps: int = 0
  guidance: Mapping[str, float] = dataclasses.field(default_factory=dict)
  noise_level: float | None = None
  shape: tuple[int, ...] = ()
  seconds: float | None = None
  compile_seconds: float | None = None
  tokenizer_sha256: str | None = None
  sampler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  windows: str = ''
  guidance_shape: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  origins: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SampleSet:
  """A folder of clips, as `read_samples` finds it.

  Attributes:
    directory: The folder.
    kind: One of `KINDS`.
    fps: Frames a second.
    entries: The clips, in order.
    stages: How each stage was run (generated clips).
    settings: Any other flag or setting of the run, JSON values.
    seconds: Wall time of the whole run, or None.
  """
  directory: pathlib.Path
  kind: str
  fps: float
  entries: tuple[Entry, ...]
  stages: tuple[StageRecord, ...] = ()
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seconds: float | None = None

  @property
  def rate(self) -> float | None:
    """`fps`, or None where nothing said at what rate the clips play."""
    is_known = self.settings.get('fps_origin') != 'default'
    return self.fps if is_known else None

  def clip(self, stem: str) -> np.ndarray:
    """Reads uint8 [T, H, W, 3] of a stem named in any entry."""
    return decode.read_clip(self.directory / f'{stem}.npy')

  def clips(self) -> np.ndarray:
    """Reads all entries as uint8 [N, T, H, W, 3].

    Raises:
      errors.UserError: A missing file, or clips of unlike shapes.
    """
    shapes = sorted({entry.shape for entry in self.entries})
    if len(shapes) != 1:
      raise errors.UserError(
          f'{self.directory} must hold clips of one shape, got {shapes}')
    return np.stack([self.clip(entry.stem) for entry in self.entries])


# What `samples.json` holds.
_FORM: json_kinds.Kind = {
    'kind': Literal[KINDS], 'fps': float, 'entries': list[Entry],
    'stages': list[StageRecord], 'settings?': Mapping[str, Any],
    'seconds?': float | None}


class SampleWriter:
  """Writes clips as they come; `finish` makes the folder complete.

  Clips that the `samples.json` of an earlier run names are removed, and that
  file first, so that an interrupted run never looks complete.
  """

  def __init__(self, directory: str | os.PathLike, *, fps: float,
               kind: str = 'generated', mp4: bool = True):
    """Makes the folder.

    Args:
      directory: Where to write.
      fps: Frames a second.
      kind: One of `KINDS`.
      mp4: False leaves out the files for viewing (mp4 and png).
    """
    if kind not in KINDS:
      raise ValueError(f'kind must be one of {KINDS}, got {kind!r}.')
    self._directory = paths.path(directory)
    paths.make_folder(self._directory)
    remove_set(self._directory)
    self._fps, self._kind, self._mp4 = float(fps), kind, mp4
    self._entries: list[Entry] = []
    self._stems: set[str] = set()

  def add_clip(self, stem: str, clip: np.ndarray) -> None:
    """Writes one clip [T, H, W, 3] that entries may name by its stem."""
    if not _is_stem(stem):
      raise ValueError(f'{stem!r} is not a file stem.')
    if stem in self._stems:
      raise ValueError(f'Two clips with the stem {stem!r}.')
    clip = pixels.check_clip(clip, stem)
    self._stems.add(stem)
    path = self._directory / stem
    files.write_bytes(f'{path}.npy', _npy_bytes(clip))
    if not self._mp4:
      return
    if clip.shape[0] == 1:
      video.write_png(f'{path}.png', clip[0])
    else:
      video.write_mp4(f'{path}.mp4', clip, self._fps)

  def add(self, entry: Entry, clip: np.ndarray, *,
          stage_clips: Mapping[str, np.ndarray] | None = None,
          original: np.ndarray | None = None) -> None:
    """Writes one sample.

    Args:
      entry: Its record; `shape`, and the stems below, are filled in here.
      clip: [T, H, W, 3].
      stage_clips: Outputs of earlier stages, written as 'STEM.NAME'.
      original: The true clip of a reconstruction, written as 'STEM.original'.
    """
    stages = dict(entry.stages)
    self.add_clip(entry.stem, clip)
    for name, stage_clip in (stage_clips or {}).items():
      stages[name] = f'{entry.stem}.{name}'
      self.add_clip(stages[name], stage_clip)
    original_stem = entry.original
    if original is not None:
      original_stem = f'{entry.stem}.original'
      self.add_clip(original_stem, original)
    self._entries.append(dataclasses.replace(
        entry, stages=stages, original=original_stem,
        shape=tuple(map(int, np.shape(clip)))))

  def finish(self, *, stages: Sequence[StageRecord] = (),
             settings: Mapping[str, Any] | None = None,
             seconds: float | None = None,
             order: Callable[[Entry], Any] | None = None) -> SampleSet:
    """Writes `samples.json`.

    Args:
      stages: How each stage was run.
      settings: Other settings of the run, JSON values.
      seconds: Wall time of the run.
      order: Key by which entries are sorted; None: as they were added.
    """
    entries = sorted(self._entries, key=order) if order else self._entries
    record = SampleSet(self._directory, self._kind, self._fps,
                       tuple(entries), tuple(stages), settings or {}, seconds)
    content = dict(format=FORMAT, **dataclasses.asdict(record))
    del content['directory']
    files.write_json(self._directory / FILE_NAME, content)
    return record


def write_samples(directory: str | os.PathLike, clips: Iterable[np.ndarray],
                  entries: Sequence[Entry], fps: float, *,
                  kind: str = 'generated', mp4: bool = True,
                  originals: Iterable[np.ndarray] | None = None,
                  stages: Sequence[StageRecord] = (),
                  settings: Mapping[str, Any] | None = None,
                  seconds: float | None = None) -> SampleSet:
  """Writes clips [N, T, H, W, 3] and `samples.json` in one go.

  Args:
    directory: Made if needed.
    clips: uint8, one [T, H, W, 3] an entry.
    entries: One a clip.
    fps: Frames a second.
    kind: 'generated', 'real' or 'reconstruction'.
    mp4: False leaves out the files for viewing.
    originals: The true clips, for reconstructions.
    stages: How each stage was run.
    settings: Other settings of the run, JSON values.
    seconds: Wall time of the run.
  """
  writer = SampleWriter(directory, fps=fps, kind=kind, mp4=mp4)
  truths = [None] * len(entries) if originals is None else originals
  for entry, clip, original in zip(entries, clips, truths, strict=True):
    writer.add(entry, clip, original=original)
  return writer.finish(stages=stages, settings=settings, seconds=seconds)


def is_sample_folder(directory: str | os.PathLike) -> bool:
  """Whether `directory` holds a `samples.json`."""
  return (paths.path(directory) / FILE_NAME).is_file()


def remove_set(directory: pathlib.Path) -> None:
  """Removes the clips that a folder's `samples.json` names, and the file."""
  if not is_sample_folder(directory):
    return
  try:
    entries = read_samples(directory).entries
  except errors.UserError:
    entries = ()  # A damaged list names nothing.
  (directory / FILE_NAME).unlink()
  for entry in entries:
    for stem in (entry.stem, entry.original, *entry.stages.values()):
      if stem and pathlib.PurePath(stem).name == stem:
        for suffix in _SUFFIXES:
          (directory / f'{stem}{suffix}').unlink(missing_ok=True)


def read_samples(directory: str | os.PathLike) -> SampleSet:
  """Reads `samples.json` of a folder (not yet the clips).

  Raises:
    errors.UserError: No such file, or not one of this format.
  """
  path = paths.path(directory) / FILE_NAME
  if not path.exists():
    raise errors.UserError(f'{directory} has no {FILE_NAME}: it is not a '
                           'finished folder of samples')
  content = files.read_json(path)
  try:
    if content.pop('format') != FORMAT:
      raise ValueError(f'only format {FORMAT} is known')
    json_kinds.check(content, _FORM)
    _check_entries(content['entries'])
    content['entries'] = tuple(map(_entry, content['entries']))
    content['stages'] = tuple(
        StageRecord(**stage | dict(shape=tuple(stage['shape'])))
        for stage in content['stages'])
    return SampleSet(directory=path.parent, **content)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
        f'{path} is not a list of samples of this version: '
        f'{errors.words(error)}') from None


def _check_entries(entries: list[dict[str, Any]]) -> None:
  """Raises ValueError for a clip not in the folder, or of no clip's shape."""
  for entry in entries:
    if len(entry['shape']) not in (0, 4):
      raise ValueError(f'shape {entry["shape"]} is not [T, H, W, 3]')
    for stem in (entry['stem'], entry.get('original') or 'none',
                 *entry.get('stages', {}).values()):
      if not _is_stem(stem):
        raise ValueError(f'{stem!r} is not a file stem')


def _is_stem(stem: str) -> bool:
  return files.is_name(stem) and stem[0] != '.'


def _entry(fields: dict[str, Any]) -> Entry:
  prompts = tuple((int(frame), prompt) for frame, prompt in fields['prompts'])
  return Entry(**fields | dict(prompts=prompts, shape=tuple(fields['shape'])))


def _npy_bytes(clip: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, np.ascontiguousarray(clip))
  return buffer.getvalue()
