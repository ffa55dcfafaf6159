"""Real clips that a protocol draws of whole videos, anew for each set."""
from collections.abc import Sequence
import functools
import pathlib
from typing import Any

import numpy as np

from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.data import evaluation_clips
from walt_jax.data import video_draws
from walt_jax.data.storage import codecs
from walt_jax.data.storage import names as names_lib
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import set_info
from walt_jax.metrics import protocols
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as sampling_requests

# What published protocols call the videos of both splits.
_BOTH = 'train+test'


class DrawnReal(clip_sets.ClipSet):
  """The real clips of one set of samples.

  Attributes:
    labels: What each sample of the set is asked to show: a class.
    left_out: Number of videos that are too short.
  """

  def __init__(self, path: pathlib.Path, split: str,
               draws: video_draws.VideoDraws, clips: '_Draws',
               labels: Sequence[str], left_out: int):
    """Wraps clips that are drawn when they are read."""
    names = [f'{i} (of video {number})'
             for i, number in enumerate(draws.numbers)]
    super().__init__(path, names, clips, clips.form.num_frames, split=split)
    self.labels, self.left_out = tuple(labels), left_out


class _Draws:
  """Where the clips of a `DrawnReal` come from."""

  def __init__(self, videos: video_draws.Videos, form: video_draws.ClipForm,
               draws: video_draws.VideoDraws):
    self._videos, self.form, self._draws = videos, form, draws

  def __len__(self) -> int:
    return len(self._draws)

  def read(self, index: int, frames: int | None) -> np.ndarray:
    """Decodes the clip."""
    del frames  # As many as were drawn for.
    return self._draws[index]

  def info(self, index: int) -> set_info.ClipInfo:
    """What the set's index and manifest say."""
    form, codec = self.form, self._videos.codec
    rate = form.rate or float(
        self._videos.rates[self._draws.numbers[index]]) or None
    return set_info.ClipInfo(
        form.height, form.width, form.num_frames, rate,
        rate and form.num_frames / rate, 'walt_dataset', codec,
        codec in codecs.LOSSLESS)


def open_draws(path: str | None, protocol: protocols.Protocol, *, seed: int,
               repeat: int, frames: int, size: tuple[int, int] | None = None,
               rate: float | None = None) -> DrawnReal:
  """Opens the real clips of set number `repeat`; decodes nothing.

  Args:
    path: A set that `walt data prepare` wrote.
    protocol: One that draws its real clips.
    seed: Random seed of the draws of all sets.
    repeat: Number of the set.
    frames: Frames of a clip.
    size: Height and width, where the protocol names no size; None is a square
      of the shorter side.
    rate: Frames a second of the samples, or None where nothing says it.

  Raises:
    errors.UserError: Not the videos that the protocol draws of.
  """
  draw = protocol.draw
  assert draw is not None and protocol.num_generated
  name = f'protocol {protocol.name}'
  parsed = evaluation_clips.parse(path) if path is not None else None
  if parsed is None:
    raise errors.UserError(
        f'{name} draws real clips of whole videos; give a set that walt data '
        f'prepare wrote as --real, got {path}')
  folder, split, asked = parsed
  split_name = _BOTH if len(draw.splits) > 1 else draw.splits[0]
  if split not in (None, *draw.splits[:1]) or (split and split_name == _BOTH):
    raise errors.UserError(
        f'{name} draws of the videos of {split_name}, and {path} names '
        f':{split}; leave it out')
  videos = _videos(folder, draw.splits)
  if len(videos) != draw.num_videos:
    raise errors.UserError(
        f'{name} draws of the {draw.num_videos} videos of {split_name}, and '
        f'{folder} has {len(videos)}; prepare all of them, or use --protocol '
        'quick')
  own = (protocol.size,) * 2 if protocol.size else None
  if own and asked not in (None, own):
    raise errors.UserError(
        f'{name} scores frames of {own[0]}x{own[1]}, and {path} asks for '
        f'{asked[0]}x{asked[1]}; leave it out')
  height, width = own or asked or size or (videos.short_side,) * 2
  form = video_draws.ClipForm(
      frames, height, width, draw.augment,
      rate if draw.at_sample_rate else None)
  count = protocol.num_generated
  first = repeat * count
  draws = (video_draws.epochs(videos, first, count, seed, form)
           if draw.order == 'epochs' else
           video_draws.first_by_name(videos, count, seed, form))
  labels = (video_draws.random_labels(videos, first, count, seed)
            if draw.asks == 'random label' else draws.labels)
  left_out = len(videos) - int(video_draws.fits(videos, form).sum())
  return DrawnReal(paths.path(path), split_name, draws,
                   _Draws(videos, form, draws), labels, left_out)


@functools.lru_cache(maxsize=2)
def _videos(folder: pathlib.Path, splits: tuple[str, ...]
            ) -> video_draws.Videos:
  """Opened once for all sets: names of files are read from every record."""
  return video_draws.Videos(folder, splits)


def requests(protocol: protocols.Protocol, real: DrawnReal | None,
             pipeline: pipeline_lib.Pipeline
             ) -> list[sampling_requests.Request]:
  """What the samples of a set show, one request a sample.

  None of a model without classes, which shows what it likes.

  Args:
    protocol: One that draws its real clips.
    real: The real clips of the set.
    pipeline: Draws the samples.

  Raises:
    errors.UserError: The model cannot be asked in the protocol's way.
  """
  base, draw = pipeline.stages[0], protocol.draw
  assert draw is not None and real is not None
  if draw.asks == 'prompt':
    if not base.uses_text:
      raise errors.UserError(
          f'protocol {protocol.name} asks for classes by their names, and '
          f'{base.workdir} was trained without text; use ucf101-magvit')
    return [sampling_requests.Request(prompt=names_lib.spaced(label))
            for label in real.labels]
  if not base.classes:
    return []
  return [sampling_requests.Request(label=label) for label in real.labels]


def check_labels(protocol: protocols.Protocol, real: DrawnReal,
                 entries: Sequence[Any], repeat: int) -> str | None:
  """Refuses samples on disk that show other classes than the real clips.

  Args:
    protocol: One that draws its real clips.
    real: The real clips of the set.
    entries: What `samples.json` says of the samples of the set; empty where
      there is none.
    repeat: Number of the set.

  Returns:
    What says that the classes are as they should be; None where nothing says
    what the samples show.

  Raises:
    errors.UserError: They are not.
  """
  draw = protocol.draw
  assert draw is not None
  if draw.asks == 'prompt':
    shown = [entry.caption for entry in entries]
    wanted = [names_lib.spaced(label) for label in real.labels]
  else:
    shown = [entry.label for entry in entries]
    wanted = list(real.labels)
  if not any(shown):
    return None
  if sorted(map(str, shown)) != sorted(wanted):
    raise errors.UserError(
        f'protocol {protocol.name} has samples of set {repeat + 1} show the '
        'classes of the real clips that are drawn for it, and these show '
        'others; score the checkpoint itself, with --workdir')
  return 'samples.json'
