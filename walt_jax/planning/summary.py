"""What a config asks for: parameters, arithmetic, shapes; nothing is made."""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.models import flops as flops_lib
from walt_jax.planning import counting
from walt_jax.planning import receptive_field as receptive_field_lib
from walt_jax.pretrained import efficientnet
from walt_jax.tokenizer import feature_discriminator

# Counts do not depend on the platform; this one's forms are plain products.
_PLATFORM = 'cpu'
_TOKENIZER_PARTS = (('encoder', r'^encoder/'), ('decoder', r'^decoder/'))
# Passes of a discriminator over one batch of clips, in forward passes: for the
# generator one forward and one backward to the pixels alone, then for its own
# loss real and decoded clips, forward and backward.
_DISCRIMINATOR_PASSES = 2 + 2 * (1 + flops_lib.BACKWARD_TO_FORWARD)


def plan(config: schema.Experiment) -> dict[str, Any]:
  """Counts what training and sampling a config takes, from shapes alone.

  FLOPs are those of matrix products and convolutions; the backward pass takes
  twice the forward pass; rematerialisation is not counted.

  Returns:
    Plain JSON values, named in the design's section 3.

  Raises:
    UserError: On anything in the config that does not fit.
  """
  if isinstance(config, schema.TokenizerExperiment):
    return _tokenizer_plan(config)
  assert isinstance(config, schema.DenoiserExperiment)
  return _denoiser_plan(config)


def step_flops(config: schema.Experiment) -> Callable[[int], int] | None:
  """FLOPs that the model needs for a step, by the step's number.

  Those of `plan`: without recomputation, and without the networks that do not
  train (a denoiser's tokenizer and text encoder). Batches of several shapes
  count as if all were of `data.height` x `data.width`.

  Returns:
    `flops(step)` on all chips together; None for a tokenizer of the user's
    own, whose layers are not known.

  Raises:
    UserError: As `plan`.
  """
  if isinstance(config, schema.DenoiserExperiment):
    counts = _denoiser_flops(config, objectives.objective(config, _PLATFORM))
    return lambda step: counts.step + counts.first_passes
  assert isinstance(config, schema.TokenizerExperiment)
  if isinstance(config.model, schema.OwnTokenizer):
    return None
  counted = _tokenizer_flops(config)
  first = config.losses.adversarial_start
  return lambda step: counted.step + (
      counted.discriminator_step if step >= first else 0)


class _DenoiserFlops(NamedTuple):
  """Of a step its passes that train, and those that make an estimate."""
  by_part: dict[str, int]
  forward: int
  step: int
  first_passes: int


def _denoiser_flops(config: schema.DenoiserExperiment,
                    objective: Any) -> _DenoiserFlops:
  section, batch = config.latents, config.data.batch_size
  by_part = flops_lib.forward_flops(
      objective.denoiser,
      (section.frames, section.height, section.width, section.channels),
      num_conditions=section.frames if config.data.image_rows else 1,
      text_tokens=config.text.max_tokens if config.text.name else 0)
  forward = sum(by_part.values())
  options = objective.options
  first_pass = 0  # Rows that make an estimate.
  if options.self_condition_probability:
    first_pass = round(batch * options.self_condition_groups.share_passed)
  return _DenoiserFlops(by_part, forward, _train_flops(forward) * batch,
                        forward * first_pass)


def _denoiser_plan(config: schema.DenoiserExperiment) -> dict[str, Any]:
  objective = objectives.objective(config, _PLATFORM)
  drawing = objectives.stage_settings(config)
  model, section, batch = objective.denoiser, config.latents, (
      config.data.batch_size)
  latents = (section.frames, section.height, section.width, section.channels)
  try:
    shapes = jax.eval_shape(
        model.init, jax.random.key(0),
        jax.ShapeDtypeStruct((1, *latents), jnp.float32),
        jax.ShapeDtypeStruct((1, 1), jnp.float32),
        types.Conditioning())['params']
  except ValueError as e:
    raise errors.UserError(
        f'config sections model and latents do not fit: {e}') from e
  grid = flops_lib.token_grid(model, latents)
  tokens = grid[0] * grid[1] * grid[2]
  counts = _denoiser_flops(config, objective)
  return dict(
      stage=config.stage, parameters=counting.parameters(shapes),
      parameters_by_part=counting.parameters_by_part(shapes, flops_lib.PARTS),
      latent_shape=list(latents), token_grid=list(grid), tokens=tokens,
      global_batch=batch, tokens_per_step=tokens * batch,
      model_flops_per_step=counts.step,
      self_condition_flops_per_step=counts.first_passes,
      model_flops_per_pass=counts.forward, model_flops_by_part=counts.by_part,
      sampler=drawing.options.sampler, sampler_steps=drawing.options.num_steps,
      sampler_guidance=drawing.guidance.scales,
      model_flops_per_sample=counts.forward * drawing.options.num_steps * (
          1 + len(drawing.guidance.scales)))


def _train_flops(forward: int) -> int:
  return forward * (1 + flops_lib.BACKWARD_TO_FORWARD)


class _TokenizerFlops(NamedTuple):
  """Counts of a tokenizer; `clip` and `latents` are of the first kind."""
  module: Any
  shapes: Any
  clip: tuple[int, ...]
  latents: tuple[int, ...]
  encode: int
  decode: int
  step: int
  discriminator_parameters: int
  discriminator_step: int


def _tokenizer_flops(config: schema.TokenizerExperiment) -> _TokenizerFlops:
  module = networks.autoencoder(config.model, _PLATFORM).clone(remat=False)
  data = config.data
  size = (data.height, data.width, 3)
  rows = {}  # Clips of a batch by kind, as in `tokenizer_step.clips_of`.
  if data.batch_size > data.image_rows:
    rows['videos'] = (data.batch_size - data.image_rows, data.num_frames, *size)
  if data.image_rows:
    rows['images'] = (data.image_rows, 1, *size)
  clip = (1, *next(iter(rows.values()))[1:])
  try:
    latents = module.latent_shape(clip)[1:]
    encode, decode, shapes = _autoencoder_counts(module, clip)
  except ValueError as e:
    raise errors.UserError(f'config section model or data: {e}') from e
  forward = 0
  for shape in rows.values():  # Of one clip; a batch costs its clips.
    one = (1, *shape[1:])
    forward += shape[0] * (
        encode + decode if one == clip else
        sum(_autoencoder_counts(module, one)[:2]))
  try:
    discriminators = [
        (rows[kind][0], *_discriminator(network, rows[kind]))
        for kind, network in tokenizer_runs.make_discriminators(
            config, _PLATFORM).items()]
  except ValueError as e:
    raise errors.UserError(f'config section discriminator: {e}') from e
  return _TokenizerFlops(
      module, shapes, clip, latents, encode, decode, _train_flops(forward),
      sum(count for _, count, _ in discriminators),
      _DISCRIMINATOR_PASSES * sum(
          clips * each for clips, _, each in discriminators))


def _tokenizer_plan(config: schema.TokenizerExperiment) -> dict[str, Any]:
  if isinstance(config.model, schema.OwnTokenizer):
    raise errors.UserError(
        f'config key model.name is {config.model.name!r}: walt plan counts the '
        'layers of the built-in tokenizer alone; leave the key out')
  counts = _tokenizer_flops(config)
  module, clip, latents = counts.module, counts.clip, counts.latents
  field = receptive_field_lib.receptive_field(module)
  return dict(
      stage=config.stage, parameters=counting.parameters(counts.shapes),
      parameters_by_part=counting.parameters_by_part(
          counts.shapes, _TOKENIZER_PARTS),
      discriminator_parameters=counts.discriminator_parameters,
      f_s=module.f_s, f_t=module.f_t, clip_shape=list(clip[1:]),
      latent_shape=list(latents),
      compression=_size(clip) / _size(latents),
      receptive_field=dict(
          encoder_pixels=list(field.encoder),
          decoder_latents=list(field.decoder)),
      norm=module.norm, global_batch=config.data.batch_size,
      tokens=_size(latents[:3]),
      model_flops_per_step=counts.step,
      discriminator_flops_per_step=counts.discriminator_step,
      encode_flops_per_clip=counts.encode, decode_flops_per_clip=counts.decode)


def _autoencoder_counts(module, clip: tuple[int, ...]
                        ) -> tuple[int, int, Any]:
  """FLOPs of encoding and of decoding clips of a shape; parameters' shapes.

  Initialisation, which is traced, draws numbers and multiplies no matrices.
  """
  (encode, encoder), (decode, decoder) = (counting.flops_and_shapes(
      lambda key, x, method=method: module.init(key, x, method=method),
      jax.eval_shape(lambda: jax.random.key(0)),
      jax.ShapeDtypeStruct(shape, jnp.float32))
          for method, shape in (('encode', clip),
                                ('decode', module.latent_shape(clip))))
  return encode, decode, encoder['params'] | decoder['params']


def _discriminator(network, shape: tuple[int, ...]) -> tuple[int, int]:
  """Parameters of a discriminator, and FLOPs of one pass over one clip.

  Without those of the frozen network whose feature maps it may judge.
  """
  maps = lambda x: feature_discriminator.zero_maps(
      network.feature_maps, x, efficientnet.map_shapes)
  clip = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
  shapes = jax.eval_shape(lambda x: network.init(
      jax.random.key(0), x, maps(x)), clip)['params']
  flops = counting.product_flops(
      lambda params, x: network.apply({'params': params}, x, maps(x)), shapes,
      clip)
  return counting.parameters(shapes), flops


def _size(shape: tuple[int, ...]) -> int:
  size = 1
  for extent in shape:
    size *= extent
  return size
