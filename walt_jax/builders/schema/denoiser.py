"""Sections of a denoiser's config, base or super-resolution."""
import dataclasses
from typing import Annotated, ClassVar, Literal

from walt_jax.builders.schema import tokenizer
from walt_jax.builders.sections import Location
from walt_jax.builders.sections import OwnClass
from walt_jax.core import ranges
from walt_jax.models import denoiser as denoiser_lib


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """What turns pixels into the latents that a denoiser learns to draw.

  Attributes:
    workdir: Work directory or export of a trained tokenizer; it is copied
      into the new run.
    random: Stand-in for a trained one; empty for none.
    normalise: Whether latents are brought to zero mean and unit variance a
      channel (Table 3e: without, FVD is 67.9 in place of 60.7).
    encode_rows: Rows of the batch that a shard encodes at once, videos or
      images (their text, too): the largest number up to this that divides the
      shard's rows. 0: as many as take about 2 GiB, by an estimate.
  """
  workdir: Location = ''
  random: tokenizer.RandomTokenizer | None = None
  normalise: bool = True
  encode_rows: ranges.Natural = 0


@dataclasses.dataclass(frozen=True)
class Latents:
  """Shape of the latents, as the tokenizer makes them of `data`'s clips.

  Attributes:
    frames: Latent frames, the first of which stands for one frame alone.
    height: Rows of cells.
    width: Columns of cells.
    channels: Values of a cell.
  """
  frames: ranges.Frames = 5
  height: ranges.Pixels = 16
  width: ranges.Pixels = 16
  channels: ranges.Width = 8


@dataclasses.dataclass(frozen=True)
class Text:
  """The frozen text encoder.

  Attributes:
    name: Text encoder: 't5' (T5 v1.0 or v1.1), 'minilm', or '' for a model
      without text.
    path: Folder of the weights; '' takes the installed package's (minilm).
    max_tokens: Tokens of a caption; longer ones are cut.
    width: Width of the token states.
    dtype: Type of the matrix products.
  """
  name: Literal['', 'minilm', 't5'] = ''
  path: Location = ''
  max_tokens: Annotated[int, ranges.Range(0, 4_096)] = 0
  width: Annotated[int, ranges.Range(0, 65_536)] = 0
  dtype: tokenizer.Dtype = 'float32'

  def __post_init__(self):
    if self.name and not (self.max_tokens and self.width):
      raise ValueError(
          f'name={self.name!r} needs max_tokens and width above 0, not '
          f'{self.max_tokens} and {self.width}.')


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """The windowed transformer (section 4.2)."""
  configures: ClassVar[type] = denoiser_lib.Denoiser
  width: ranges.Width
  depth: ranges.Layers
  num_heads: ranges.Width
  mlp_width: Annotated[int, ranges.Range(1, 262_144)]
  patch: ranges.Extent
  spatial_window: tokenizer.Triple
  spacetime_window: tokenizer.Triple
  num_classes: Annotated[int, ranges.Range(0, 10_000_000)] = 0
  lora_rank: Annotated[int, ranges.Range(0, 4_096)] = 2
  use_qk_norm: bool = True
  use_relative_bias: bool = True
  position_init_scale: ranges.Weight = 0.02
  self_condition: bool = True
  frame_condition: bool = True
  low_res_factor: Annotated[int, ranges.Range(0, 64)] = 0
  linear_skip: bool = False
  use_noise_level: bool = False
  conditions: tuple[OwnClass, ...] = ()
  text_window: Literal['spatial', 'own'] = 'spatial'
  activation: Literal['gelu', 'relu2'] = 'gelu'
  attention_form: Literal['auto', 'xla', 'cudnn', 'fused_tpu', 'fused_gpu',
                          'mapped'] = 'auto'
  passes_form: Literal['auto', 'plain', 'triton'] = 'auto'
  remat_policy: Literal['none', 'matmuls', 'minimal', 'full', 'offload'] = (
      'none')
  scan_unroll: ranges.MaybeLayers = 1
  dtype: tokenizer.Dtype = 'float32'


@dataclasses.dataclass(frozen=True)
class Diffusion:
  """Noise, what is predicted, and the loss.

  Attributes:
    schedule: Noise schedule: betas 'linear' in time (the paper's) or 'cosine'.
    zero_terminal_snr: Whether the schedule is rescaled to end at pure noise.
    prediction: What the network predicts: the velocity 'v', the noise 'eps',
      or the clean latents 'x0'.
    self_condition_probability: Probability p_sc that a row is given an estimate
      of its clean latents, which a first pass makes (section 4.2).
    self_condition_group: Number of neighbouring rows of which as many are
      chosen as the probability needs; only they make an estimate where it
      divides the rows of a shard of the batch. 1: every row draws for itself,
      and all rows make one.
    frame_condition_probability: Probability p_fp that a video row is given its
      first latent frames (section 4.3).
    frame_condition_lengths: Numbers of latent frames to give, of which each
      row draws one.
    drop_label: Probability that a row's label is left out, for guidance.
    drop_text: Probability that a row's text is left out, for guidance.
    drop_frames: Probability that given frames are left out, for guidance.
    max_low_res_level: Timestep t_max up to which noise is added to the
      low-resolution latents of a super-resolution stage (section 4.5).
    weighting: Weight of a timestep's error: 'mse', the same for all, or
      'min_snr' (0 where no signal is left).
    snr_cap: Signal-to-noise ratio that caps the weights of 'min_snr'.
  """
  schedule: Literal['linear', 'cosine'] = 'linear'
  zero_terminal_snr: bool = True
  prediction: Literal['v', 'eps', 'x0'] = 'v'
  self_condition_probability: ranges.Fraction = 0.9
  self_condition_group: ranges.Rows = 1
  frame_condition_probability: ranges.Fraction = 0.0
  frame_condition_lengths: tuple[ranges.Frames, ...] = (1, 2)
  drop_label: ranges.Fraction = 0.1
  drop_text: ranges.Fraction = 0.1
  drop_frames: ranges.Fraction = 0.1
  max_low_res_level: ranges.Fraction = 0.3
  weighting: Literal['mse', 'min_snr'] = 'mse'
  snr_cap: ranges.Positive = 5.0
