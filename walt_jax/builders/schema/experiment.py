"""Whole configs, and the check of one."""
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Literal, TypeAlias

from ml_collections import config_dict

from walt_jax.builders import sections
from walt_jax.builders.schema import data as data_lib
from walt_jax.builders.schema import denoiser as denoiser_lib
from walt_jax.builders.schema import sampler as sampler_lib
from walt_jax.builders.schema import tokenizer as tokenizer_lib
from walt_jax.builders.sections import Location
from walt_jax.core import errors
from walt_jax.core import ranges
from walt_jax.training import optimizers
from walt_jax.training import tokenizer_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """What the configs of all stages have.

  Attributes:
    seed: Random seed of initial parameters, order of the data, and noise.
    stage: What is trained: a tokenizer, a denoiser of a base stage, or one of
      a super-resolution stage.
    init_from: Work directory or export of a denoiser that a new run begins
      with, fitted to its grid and windows; '' begins with random parameters.
    ema: Decay a step of each running average of the parameters that is kept;
      evaluation, sampling and export take the longest.
  """
  seed: ranges.Seed = 0
  stage: Literal['tokenizer', 'denoiser', 'super_resolution']
  init_from: Location
  mesh: data_lib.Mesh
  data: data_lib.Data
  model: Any
  optimizer: optimizers.OptimizerOptions
  ema: tuple[ranges.Decay, ...]
  train: data_lib.Train

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
  model: tokenizer_lib.Autoencoder | tokenizer_lib.OwnTokenizer
  losses: tokenizer_step.TokenizerLosses
  perceptual: tokenizer_lib.Perceptual
  discriminator: (
      tokenizer_lib.Discriminator | tokenizer_lib.FeatureDiscriminator | None)
  discriminator_optimizer: optimizers.OptimizerOptions
  statistics: tokenizer_lib.Statistics

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
  tokenizer: denoiser_lib.Tokenizer
  latents: denoiser_lib.Latents
  text: denoiser_lib.Text
  model: denoiser_lib.Denoiser
  diffusion: denoiser_lib.Diffusion
  sampler: sampler_lib.Sampler

  def __post_init__(self):
    super().__post_init__()
    if self.data.buckets:
      raise errors.UserError(
          'config key data.buckets: the windows and position tables of a '
          'denoiser are made for one shape of latents, so it trains on '
          'data.height x data.width alone; give each shape a run of its own '
          '(configs/t2v_base_9x16.py is one)')
    if bool(self.model.low_res_factor) != self.model.use_noise_level:
      raise errors.UserError(
          f'config key model.low_res_factor is {self.model.low_res_factor}, '
          f'but model.use_noise_level is {self.model.use_noise_level}; a '
          'super-resolution stage takes a factor and True, a base 0 and False')
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
  model: tokenizer_lib.Autoencoder | tokenizer_lib.OwnTokenizer
  random_seed: ranges.Seed | None = None


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
  found = _experiment(values.get('stage'))
  if found is None:
    raise errors.UserError(
        f'config key stage is {errors.short(values.get("stage"))}; choose one '
        f'of {", ".join(STAGES)}')
  return sections.build(found, values)


def _experiment(stage: Any) -> type[Experiment] | None:
  """The config of a stage; None for whatever names no stage."""
  return STAGES.get(stage) if isinstance(stage, str) else None


def default(stage: Any, keys: Sequence[str]) -> Any:
  """The default of a key in configs of a stage, see `sections.default`."""
  found = _experiment(stage)
  return sections.default(found, keys) if found else sections.MISSING


def hint(stage: Any, keys: Sequence[str], text: str) -> str:
  """What a key of configs of a stage takes, see `sections.hint`."""
  found = _experiment(stage)
  return sections.hint(found, keys, text) if found else ''


def is_section(stage: Any, keys: Sequence[str]) -> bool:
  """Whether a key of configs of a stage holds a section."""
  found = _experiment(stage)
  return found is not None and sections.is_section(found, keys)


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config as JSON holds it, with the keys that it leaves out."""
  experiment = _experiment(config.get('stage'))
  if experiment is None:
    return dict(config)
  return sections.with_defaults(experiment, config)
