"""Sections that every stage has: mesh, data, train."""
import dataclasses
from typing import Annotated, Literal

from walt_jax.builders import sections
from walt_jax.builders.sections import OwnClass
from walt_jax.core import ranges
from walt_jax.parallel import mesh as mesh_lib


@dataclasses.dataclass(frozen=True)
class Mesh:
  """How the devices share the work; the axes multiply to their number.

  One axis may be -1, for all remaining devices; `fsdp` then takes the largest
  number that cuts at least 95% of the state, and `data` those that are left.

  Attributes:
    data: Number of copies of the parameters; each works on a part of the batch.
    fsdp: Number of devices that share one copy, and its part of the batch: each
      keeps a slice of parameters, averages and optimizer state.
    tensor: Number of devices that share the heads and MLP units of every layer,
      and work on the same part of the batch.
    slices: Number of groups of devices with fast links inside, between which
      there is a slow network: slices of TPUs, nodes of GPUs. `data` goes over
      them. -1: what the devices say.
    context: Number of devices that share the tokens of each row, in sampling
      alone: a clip then takes less time, and not only a batch of them.
  """
  data: ranges.DevicesOrRest = -1
  fsdp: ranges.DevicesOrRest = 1
  tensor: ranges.DevicesOrRest = 1
  slices: ranges.DevicesOrRest = -1
  context: ranges.Devices = 1

  def __post_init__(self):
    mesh_lib.check_axes(self.data, self.fsdp, self.tensor)


@dataclasses.dataclass(frozen=True)
class Data:
  """What is trained on, and what a batch of it holds.

  Attributes:
    name: 'clips' that `walt data prepare` wrote, their cached 'latents', or
      'moving_digits' or 'stage_play', which are rendered on the way, or a
      source of your own as module:Class (`data.sources.source.Source`).
    path: Folder of prepared data or 'tfds:NAME[@DIR]'; several, separated by
      commas, are mixed. Unused by what is rendered.
    image_path: Data of the image rows; '' takes frames of the videos.
    weights: Share of each set of `path` in a batch; () goes by their sizes.
    num_frames: Frames of a clip; 1 + a multiple of the tokenizer's factor.
    height: Rows of a frame, in pixels; clips are resized and cropped to it.
    width: Columns of a frame, in pixels.
    buckets: Tokenizers: shapes (height, width) that training batches have in
      place of the one above, each clip at the nearest aspect ratio.
    frame_rate: Frames a second of a clip; 0 takes neighbouring frames of any
      rate.
    strides: Speeds, of which each video draws one: 2 is shown twice as fast.
    batch_size: Rows of a batch on all devices together, videos and images.
    image_rows: Rows of independent images among these; each holds as many
      images as a video has latent frames (a tokenizer's: one).
    flip: Whether half of the rows are mirrored; wrong where left and right
      have a meaning.
    random_crop: Whether crops are at random places; else at the centre.
    num_workers: Processes that read ahead; 0 reads in the training process.
    difficulty: Moving digits: 'quick' has fixed lanes, speed and backgrounds,
      'free' draws them for each clip. Stage play: 'solo' has one actor and
      plain captions, 'duo' up to two groups and captions in variants, 'stage'
      up to three, walls that hide them and a camera that may move.
    num_clips: Moving digits and stage play: number of different clips of a
      split.
    crop_sizes: Moving digits: sides of larger frames, in pixels, of which a
      quarter of `num_clips` each is shown too, as crops.
    labels: Moving digits: what the classes name, digit and direction or the
      digit alone.
  """
  name: Literal['moving_digits', 'stage_play', 'clips',
                'latents'] | OwnClass = 'clips'
  path: str = ''
  image_path: str = ''
  weights: tuple[ranges.Rate, ...] = ()
  num_frames: ranges.Frames = 17
  height: ranges.Pixels = 128
  width: ranges.Pixels = 128
  buckets: tuple[tuple[ranges.Pixels, ranges.Pixels], ...] = ()
  frame_rate: ranges.FramesPerSecond = 0.0
  strides: tuple[ranges.Frames, ...] = (1,)
  batch_size: ranges.Rows = 256
  image_rows: ranges.Natural = 0
  flip: bool = False
  random_crop: bool = False
  num_workers: ranges.Workers = 0
  difficulty: Literal['quick', 'free', 'solo', 'duo', 'stage'] = 'quick'
  num_clips: ranges.Count = 2048
  crop_sizes: tuple[ranges.Pixels, ...] = ()
  labels: Literal['digit_direction', 'digit'] = 'digit_direction'

  def __post_init__(self):
    if ':' not in self.name:  # A source of one's own reads what it will.
      sections.check_places(self.path)
      sections.check_places(self.image_path)
    if self.image_rows > self.batch_size:
      raise ValueError(f'image_rows={self.image_rows} is more than batch_size='
                       f'{self.batch_size}.')
    if self.image_path and not self.image_rows:
      raise ValueError(f'image_path is {self.image_path!r}, but no row of a '
                       'batch holds images; set data.image_rows.')
    if self.weights and not any(self.weights):
      raise ValueError(f'weights={self.weights} leaves no set in a batch; give '
                       'one of them more than 0, or () for their sizes.')
    if self.name == 'stage_play' and self.crop_sizes:
      raise ValueError(f'crop_sizes={self.crop_sizes} are of moving digits; '
                       'stage_play is drawn at any size; give ().')
    if not self.strides:
      raise ValueError('strides is empty; (1,) shows clips at their speed.')
    if self.name == 'latents' and (
        self.flip or self.random_crop or self.strides != (1,)):
      raise ValueError(
          'cached latents cannot be flipped, cropped or slowed down; set '
          'data.flip and data.random_crop to False and data.strides to (1,)')


@dataclasses.dataclass(frozen=True)
class Train:
  """How long to train, and what to do on the way.

  Attributes:
    num_steps: Steps in all, those before a restart included; 0 saves the
      initial state.
    log_every: Steps between lines of metrics.
    save_every: Steps between checkpoints; 0: only at the end.
    save_seconds: Seconds after which a checkpoint is due as well, at the end of
      a step (on several hosts: of a logged one); 0: steps alone decide.
    keep_newest: Number of the newest checkpoints that stay.
    keep_every: Steps between checkpoints that are never removed, a multiple
      of `save_every`; 0: none.
    keep_best: Number of checkpoints that stay since `best_metric` was best, of
      those whose step was evaluated; 0: none.
    best_metric: What `keep_best` goes by, named as in `metrics.jsonl`, such as
      'eval/v_loss'.
    best_mode: Whether the best value is the smallest or the largest.
    eval_every: Steps between evaluations on held-out data; 0: none.
    eval_batches: Held-out batches of an evaluation, always the same.
    eval_samples: Clips in an evaluation's picture; 0: no picture.
    evaluators: Metrics of an evaluation, named as for `walt evaluate` or as
      module:Class; they score the averaged model.
    writers: Where scalars and pictures go beside `metrics.jsonl` and `eval/`:
      TensorBoard's files, a run of Weights & Biases (its own variables, such
      as WANDB_PROJECT and WANDB_MODE, hold).
  """
  num_steps: ranges.Natural = 60_000
  log_every: ranges.Count = 100
  save_every: ranges.Natural = 5_000
  save_seconds: ranges.Rate = 0.0
  keep_newest: ranges.Count = 2
  keep_every: ranges.Natural = 0
  keep_best: ranges.Natural = 0
  best_metric: str = ''
  best_mode: Literal['min', 'max'] = 'min'
  eval_every: ranges.Natural = 5_000
  eval_batches: Annotated[int, ranges.Range(0, 100_000)] = 4
  eval_samples: Annotated[int, ranges.Range(0, 1_024)] = 4
  evaluators: tuple[str, ...] = ()
  writers: tuple[Literal['tensorboard', 'wandb'], ...] = ('tensorboard',)

  def __post_init__(self):
    if self.keep_every and (
        not self.save_every or self.keep_every % self.save_every):
      raise ValueError(
          f'keep_every={self.keep_every} is no multiple of save_every='
          f'{self.save_every}, at whose steps checkpoints are written; change '
          'one of them')
    if bool(self.keep_best) != bool(self.best_metric):
      raise ValueError(
          f'keep_best={self.keep_best}, but best_metric={self.best_metric!r}; '
          "give both, such as 1 and 'eval/v_loss', or neither")
    if self.keep_best and not (self.eval_every and self.save_every):
      raise ValueError(
          f'keep_best={self.keep_best} takes evaluations and checkpoints of '
          f'the same steps, but eval_every={self.eval_every} and save_every='
          f'{self.save_every}; set both')
