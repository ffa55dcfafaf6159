"""Every section of a config: a line a key, with the paper's value.

`of` checks a whole config, once, and every builder reads the result. A key
without a default must be given. One with a default may be left out, as the
configs of runs that are older than the key do: its default is what they did.
"""
from collections.abc import Mapping
import dataclasses
from typing import Any, ClassVar, Literal, TypeAlias

from ml_collections import config_dict

from walt_jax.builders import sections
from walt_jax.builders.sections import Count
from walt_jax.builders.sections import Fraction
from walt_jax.builders.sections import Natural
from walt_jax.builders.sections import OwnClass
from walt_jax.builders.sections import Rate
from walt_jax.core import errors
from walt_jax.diffusion import samplers
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.tokenizer import feature_discriminator
from walt_jax.training import optimizers
from walt_jax.training import tokenizer_step

Dtype = Literal['float32', 'bfloat16']
Triple = tuple[Count, Count, Count]


@dataclasses.dataclass(frozen=True)
class Mesh:
  """How the devices share the work; the axes multiply to their number.

  One axis may be -1, for all remaining devices.

  Attributes:
    data: Parts of the batch whose devices keep their own whole parameters.
    fsdp: Parts of the batch whose devices also share parameters, averages
      and optimizer state among them.
    tensor: Devices that share the heads and MLP units of every layer.
  """
  data: int = -1
  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    mesh_lib.check_axes(self.data, self.fsdp, self.tensor)


@dataclasses.dataclass(frozen=True)
class Data:
  """What is trained on, and what a batch of it holds.

  Attributes:
    name: 'clips' that `walt data prepare` wrote, their cached 'latents', or
      'moving_digits', which are rendered on the way, or a source of your own
      as module:Class (`data.sources.source.Source`).
    path: Folder of prepared data or 'tfds:NAME[@DIR]'; several, separated by
      commas, are mixed. Unused by moving digits.
    image_path: Data of the image rows; '' takes frames of the videos.
    weights: Share of each set of `path` in a batch; () is by their sizes.
    num_frames: Frames of a clip; 1 + a multiple of the tokenizer's factor.
    height: Rows of a frame, in pixels; clips are resized and cropped to it.
    width: Columns of a frame, in pixels.
    buckets: Tokenizers: shapes (height, width) that training batches have in
      place of the one above, each clip at the nearest aspect ratio.
    frame_rate: Frames a second of a clip; 0 takes neighbouring frames of any
      rate.
    strides: Each video draws one of these and is shown that many times as
      fast.
    batch_size: Rows of a batch on all devices together, videos and images.
    image_rows: How many of those are rows of independent images; each holds
      as many as a video has latent frames (a tokenizer's: one).
    flip: Whether half of the rows are mirrored.
    random_crop: Whether crops are at random places; else at the centre.
    num_workers: Processes that read ahead; 0 reads in the training process.
    difficulty: Moving digits: 'quick' has fixed lanes, speed and backgrounds,
      'free' draws them for each clip.
    num_clips: Moving digits: how many different training clips there are.
    crop_sizes: Moving digits: sides of larger frames, in pixels, of which a
      quarter of `num_clips` each is shown too, as crops.
    labels: Moving digits: what the classes name.
  """
  name: Literal['moving_digits', 'clips', 'latents'] | OwnClass = 'clips'
  path: str = ''
  image_path: str = ''
  weights: tuple[Rate, ...] = ()
  num_frames: Count = 17
  height: Count = 128
  width: Count = 128
  buckets: tuple[tuple[Count, Count], ...] = ()
  frame_rate: Rate = 0.0
  strides: tuple[Count, ...] = (1,)
  batch_size: Count = 256
  image_rows: Natural = 0
  flip: bool = False
  random_crop: bool = False
  num_workers: Natural = 0
  difficulty: Literal['quick', 'free'] = 'quick'
  num_clips: Count = 2048
  crop_sizes: tuple[Count, ...] = ()
  labels: Literal['digit_direction', 'digit'] = 'digit_direction'

  def __post_init__(self):
    if self.image_rows > self.batch_size:
      raise ValueError(f'image_rows={self.image_rows} is more than batch_size='
                       f'{self.batch_size}.')
    if self.image_path and not self.image_rows:
      raise ValueError(f'image_path is {self.image_path!r}, but no row of a '
                       'batch holds images; set data.image_rows.')
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
    eval_every: Steps between evaluations on held-out data; 0: none.
    eval_batches: Held-out batches of an evaluation, always the same.
    eval_samples: Clips in an evaluation's picture; 0: no picture.
  """
  num_steps: Natural = 60_000
  log_every: Count = 100
  save_every: Natural = 5_000
  eval_every: Natural = 5_000
  eval_batches: Natural = 4
  eval_samples: Natural = 4


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """The tokenizer's network (section 4.1, MAGVIT-v2 without quantizer)."""
  configures: ClassVar[type] = autoencoder_lib.Autoencoder
  base_channels: Count = 128
  channel_multipliers: tuple[Count, ...] = (1, 2, 2, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  blocks_per_level: Natural = 4
  middle_blocks: Natural = 4
  latent_channels: Count = 8
  bottleneck: Literal['plain', 'kl'] = 'plain'
  norm: Literal['group', 'position'] = 'group'
  num_groups: Count = 32
  adaptive_decoder: bool = True
  kernel_size: Triple = (3, 3, 3)
  stem_patch: Triple = (1, 1, 1)
  stem_kernel: Triple = (3, 3, 3)
  head_kernel: Triple = (3, 3, 3)
  linear_ends: bool = False
  remat: bool = False
  dtype: Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class Discriminator:
  """The tokenizer's opponent, on pixels (MAGVIT-v2)."""
  configures: ClassVar[type] = discriminator_lib.Discriminator
  base_channels: Count = 64
  channel_multipliers: tuple[Count, ...] = (2, 4, 4)
  time_downsample: tuple[bool, ...] = (False, True, True)
  stem_patch: Triple = (1, 1, 1)
  dtype: Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class FeatureDiscriminator:
  """The tokenizer's opponent, on pixels and EfficientNet-Lite0's maps (ours).
  """
  configures: ClassVar[type] = feature_discriminator.FeatureDiscriminator
  feature_maps: Count
  base_channels: Count = 64
  cell: Count = 4
  blocks: Natural = 1
  dtype: Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class Perceptual:
  """The frozen network of perceptual distance and feature discriminator.

  Attributes:
    path: File of EfficientNet-Lite0's weights (a PyTorch state dictionary);
      '' takes those of the installed package.
  """
  path: str = ''


@dataclasses.dataclass(frozen=True)
class Statistics:
  """The latents' mean and deviation, measured when training is done.

  Attributes:
    num_batches: Training batches that they are measured on.
  """
  num_batches: Count = 64


@dataclasses.dataclass(frozen=True)
class RandomTokenizer:
  """A fixed random tokenizer, for runs that only try the machinery.

  Attributes:
    model: Its network.
    seed: Random seed of its parameters.
  """
  model: Autoencoder
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """What turns pixels into the latents that a denoiser learns to draw.

  Attributes:
    workdir: Work directory or export of a trained tokenizer; it is copied
      into the new run.
    random: Stand-in for a trained one; empty for none.
    normalise: Whether latents are brought to zero mean and unit variance a
      channel (Table 3e: without, FVD is 67.9 in place of 60.7).
  """
  workdir: str = ''
  random: RandomTokenizer | None = None
  normalise: bool = True


@dataclasses.dataclass(frozen=True)
class Latents:
  """Shape of the latents, as the tokenizer makes them of `data`'s clips.

  Attributes:
    frames: Latent frames, the first of which stands for one frame alone.
    height: Rows of cells.
    width: Columns of cells.
    channels: Values of a cell.
  """
  frames: Count = 5
  height: Count = 16
  width: Count = 16
  channels: Count = 8


@dataclasses.dataclass(frozen=True)
class Text:
  """The frozen text encoder.

  Attributes:
    name: 't5' (T5 v1.0 or v1.1), 'minilm', or '' for a model without text.
    path: Folder of its weights; '' takes the installed package's (minilm).
    max_tokens: Tokens of a caption; longer ones are cut.
    width: Width of its token states.
    dtype: Type of its matrix products.
  """
  name: Literal['', 'minilm', 't5'] = ''
  path: str = ''
  max_tokens: Natural = 0
  width: Natural = 0
  dtype: Dtype = 'float32'

  def __post_init__(self):
    if self.name and not (self.max_tokens and self.width):
      raise ValueError(
          f'name={self.name!r} needs max_tokens and width above 0, not '
          f'{self.max_tokens} and {self.width}.')


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """The windowed transformer (section 4.2)."""
  configures: ClassVar[type] = denoiser_lib.Denoiser
  width: Count
  depth: Count
  num_heads: Count
  mlp_width: Count
  patch: Count
  spatial_window: Triple
  spacetime_window: Triple
  num_classes: Natural = 0
  lora_rank: Natural = 2
  use_qk_norm: bool = True
  use_relative_bias: bool = True
  position_init_scale: Rate = 0.02
  self_condition: bool = True
  frame_condition: bool = True
  low_res_factor: Natural = 0
  linear_skip: bool = False
  use_noise_level: bool = False
  conditions: tuple[OwnClass, ...] = ()
  text_window: Literal['spatial', 'own'] = 'spatial'
  activation: Literal['gelu', 'relu2'] = 'gelu'
  remat_policy: Literal['none', 'matmuls', 'minimal', 'full', 'offload'] = (
      'none')
  scan_unroll: Count = 1
  dtype: Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class Diffusion:
  """Noise, what is predicted, and the loss.

  Attributes:
    schedule: Noise schedule: betas 'linear' in time (the paper's) or 'cosine'.
    zero_terminal_snr: Whether the schedule is rescaled to end at pure noise.
    prediction: What the network predicts.
    self_condition_probability: p_sc, how often a row is given an estimate of
      its clean latents that a first pass made (section 4.2).
    frame_condition_probability: p_fp, how often a video row is given its
      first latent frames (section 4.3).
    frame_condition_lengths: How many latent frames those are; each time one
      of these at random.
    drop_label: How often a row's label is left out, for guidance.
    drop_text: How often its text is left out.
    drop_frames: How often its given frames are left out.
    max_low_res_level: t_max, up to which timestep noise is added to the
      low-resolution latents of a super-resolution stage (section 4.5).
    weighting: Weight of a timestep's error: 'mse', the same for all, or
      'min_snr' (0 where no signal is left).
    snr_cap: Signal-to-noise ratio that caps the weights of 'min_snr'.
  """
  schedule: Literal['linear', 'cosine'] = 'linear'
  zero_terminal_snr: bool = True
  prediction: Literal['v', 'eps', 'x0'] = 'v'
  self_condition_probability: Fraction = 0.9
  frame_condition_probability: Fraction = 0.0
  frame_condition_lengths: tuple[Count, ...] = (1, 2)
  drop_label: Fraction = 0.1
  drop_text: Fraction = 0.1
  drop_frames: Fraction = 0.1
  max_low_res_level: Fraction = 0.3
  weighting: Literal['mse', 'min_snr'] = 'mse'
  snr_cap: Rate = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """What the configs of all stages have.

  Attributes:
    seed: Random seed of initial parameters, order of the data, and noise.
    stage: What is trained.
    init_from: Work directory or export of a denoiser that a new run begins
      with, fitted to its grid and windows; '' begins with random parameters.
    ema: Decay a step of each running average of the parameters that is kept;
      evaluation, sampling and export take the longest.
  """
  seed: int = 0
  stage: str
  init_from: str
  mesh: Mesh
  data: Data
  model: Any
  optimizer: optimizers.OptimizerOptions
  ema: tuple[Fraction, ...]
  train: Train

  def __post_init__(self):
    parts = self.optimizer.accumulation_steps
    if self.data.batch_size % parts:
      raise errors.UserError(
          f'config key optimizer.accumulation_steps is {parts}, which does '
          f'not divide data.batch_size={self.data.batch_size}; change one of '
          'them')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerExperiment(Experiment):
  """A config that trains a tokenizer.

  Attributes:
    discriminator: The opponent; empty trains without a GAN. With the key
      `feature_maps` it also judges the maps of a frozen network.
    discriminator_optimizer: Optimizer of the discriminators.
  """
  stage: Literal['tokenizer']
  model: Autoencoder
  losses: tokenizer_step.TokenizerLosses
  perceptual: Perceptual
  discriminator: Discriminator | FeatureDiscriminator | None
  discriminator_optimizer: optimizers.OptimizerOptions
  statistics: Statistics

  def __post_init__(self):
    super().__post_init__()
    if self.init_from:
      raise errors.UserError(
          f'config key init_from is {self.init_from!r}, but a tokenizer '
          'begins anew; leave it empty')
    if self.data.name == 'latents':
      raise errors.UserError(
          "config key data.name is 'latents', but a tokenizer trains on "
          "pixels; set it to 'clips' and data.path to prepared clips")
    if self.optimizer.accumulation_steps != 1:
      raise errors.UserError(
          'config key optimizer.accumulation_steps is '
          f'{self.optimizer.accumulation_steps}, but a tokenizer is trained '
          'on whole batches (its discriminator compares them); set it to 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserExperiment(Experiment):
  """A config that trains a denoiser, base or super-resolution."""
  stage: Literal['denoiser', 'super_resolution']
  tokenizer: Tokenizer
  latents: Latents
  text: Text
  model: Denoiser
  diffusion: Diffusion
  sampler: samplers.SamplerOptions

  def __post_init__(self):
    super().__post_init__()
    if self.data.buckets:
      raise errors.UserError(
          'config key data.buckets: the windows and position tables of a '
          'denoiser are made for one shape of latents, so it trains on '
          'data.height x data.width alone; give each shape a run of its own '
          '(configs/t2v_base_9x16.py is one)')
    for name in ('self_condition', 'frame_condition'):
      probability = getattr(self.diffusion, f'{name}_probability')
      if probability and not getattr(self.model, name):
        raise errors.UserError(
            f'config key diffusion.{name}_probability is {probability}, but '
            f'model.{name} is False; set one of them to agree with the other')


@dataclasses.dataclass(frozen=True)
class TokenizerExport:
  """The `config.json` of an exported tokenizer.

  Attributes:
    model: The network.
    random_seed: Where its parameters are random, their seed.
  """
  model: Autoencoder
  random_seed: int | None = None


STAGES: dict[str, type[Experiment]] = {
    'tokenizer': TokenizerExperiment,
    'denoiser': DenoiserExperiment,
    'super_resolution': DenoiserExperiment,
}


# A checked config, or what a config file or the JSON of one gives.
Config: TypeAlias = Experiment | config_dict.ConfigDict | Mapping[str, Any]


def of(config: Config) -> Experiment:
  """Checks a whole config.

  Args:
    config: What a config file gives; lists count as tuples. One that was
      checked already is returned as it is.

  Raises:
    UserError: On a key that is unknown or missing, or a value of a wrong type
      or out of its range.
  """
  if isinstance(config, Experiment):
    return config
  values = config.to_dict() if isinstance(
      config, config_dict.ConfigDict) else dict(config)
  if values.get('stage') not in STAGES:
    raise errors.UserError(
        f'config key stage is {values.get("stage")!r}; choose one of '
        f'{", ".join(STAGES)}')
  return sections.build(STAGES[values['stage']], values)
