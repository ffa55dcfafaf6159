"""The programs that are timed, built without a config.

Accelerator machines may lack `ml_collections` and all that reads data. So L and
XL are written out here; a test holds them equal to what the builders make of
`configs/ucf101.py`.
"""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import conditions
from walt_jax.core import types
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import loss as loss_lib
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import flops
from walt_jax.parallel import compiler_options
from walt_jax.parallel import rules
from walt_jax.sampling import stage_sampler
from walt_jax.training import denoiser_step
from walt_jax.training import guard
from walt_jax.training import optimizers
from walt_jax.training import state as train_state

_CLASSES = 101
_CHANNELS = 8
_FRAMES = 5


@dataclasses.dataclass(frozen=True)
class Size:
  """A denoiser of `configs/ucf101.py`, and the rows that one device takes.

  Attributes:
    depth: Number of layers.
    width: D.
    heads: K.
    side: Rows and columns of the latents.
    rows: Rows of a batch.
  """
  depth: int
  width: int
  heads: int
  side: int
  rows: int

  @property
  def latents(self) -> tuple[int, int, int, int]:
    """Shape of one row's latents."""
    return (_FRAMES, self.side, self.side, _CHANNELS)


SIZES = dict(
    l=Size(depth=24, width=1024, heads=16, side=16, rows=32),
    xl=Size(depth=28, width=1152, heads=16, side=16, rows=16),
    smoke=Size(depth=2, width=32, heads=2, side=4, rows=2))


@dataclasses.dataclass(frozen=True)
class Form:
  """How a denoiser is executed.

  Attributes:
    attention: Form of attention, see `Denoiser.attention_form`.
    passes: Form of what lies between products, see `Denoiser.passes_form`.
    remat: A name of `remat.POLICIES`.
    unroll: Pairs of layers that a step of the loop executes.
    self_conditioning: Share of rows that are given an estimate of x_0.
  """
  attention: str
  passes: str
  remat: str
  unroll: int
  self_conditioning: float = 0.0


def objective(size: Size, form: Form) -> denoiser_step.DenoiserObjective:
  """The denoiser of a size, in a form, with its loss."""
  side = size.side
  denoiser = denoiser_lib.Denoiser(
      width=size.width, depth=size.depth, num_heads=size.heads,
      mlp_width=4 * size.width, patch=1, spatial_window=(1, side, side),
      spacetime_window=(_FRAMES, side // 2, side // 2), num_classes=_CLASSES,
      frame_condition=False, attention_form=form.attention,
      passes_form=form.passes,
      scan_unroll=form.unroll, remat_policy=form.remat, dtype=jnp.bfloat16)
  whole = size.rows % 16 == 0  # One device has all rows of a group.
  return denoiser_step.DenoiserObjective(
      denoiser=denoiser, schedule=schedules.make_schedule('linear', True),
      prediction=prediction_lib.Prediction('v'),
      options=loss_lib.LossOptions(
          self_condition_probability=form.self_conditioning,
          self_condition_group=16 if whole else 1, groups_in_shards=whole,
          frame_condition_probability=0.0, frame_condition_lengths=(1, 2),
          drop=conditions.DropProbabilities(label=0.1, text=0.1, frames=0.1),
          max_low_res_level=0.0, weighting='mse', snr_cap=5.0,
          null_label=_CLASSES))


def optimizer() -> Any:
  """The optimizer of `configs/ucf101.py`."""
  return optimizers.make_optimizer(
      optimizers.OptimizerOptions(
          name='adamw', peak_lr=5e-4, schedule='cosine', warmup_steps=5_000,
          decay_steps=60_000, b1=0.9, b2=0.99, weight_decay=0.0,
          clip_norm=1.0), rules.DENOISER_RULES)


def batch_shapes(size: Size, rows: int) -> types.LatentBatch:
  """Shapes of `rows` rows of latents with labels."""
  struct = jax.ShapeDtypeStruct
  return types.LatentBatch(
      latents=struct((rows, *size.latents), jnp.float32),
      is_image=struct((rows,), jnp.bool_),
      label=struct((rows, 1), jnp.int32), row=struct((rows,), jnp.int32))


def random_batch(size: Size) -> types.LatentBatch:
  """A batch of noise, on the device."""
  batch = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype),
                       batch_shapes(size, size.rows))
  return dataclasses.replace(
      batch, row=jnp.arange(size.rows), latents=jax.random.normal(
          jax.random.key(1), batch.latents.shape))


@dataclasses.dataclass(frozen=True)
class TrainProgram:
  """The guarded, donating train step of one device.

  Attributes:
    step: `step(state, held, batch, key)`, jitted.
    init: Makes the state of a key, jitted.
    flops: Products of one step, forward and backward; without recomputation.
  """
  step: Any
  init: Any
  flops: int


def train_program(size: Size, form: Form) -> TrainProgram:
  """Builds the train step of a size in a form."""
  found, update = objective(size, form), optimizer()
  init = denoiser_step.make_init(found, batch_shapes(size, 1))
  step = denoiser_step.make_train_step(found, update)

  def take(state, batch, key):
    return step(state, batch, jax.random.fold_in(key, state.step))

  forward = sum(flops.forward_flops(
      found.denoiser, size.latents, num_conditions=1, text_tokens=0).values())
  passes = 1 + flops.BACKWARD_TO_FORWARD + (form.self_conditioning > 0)
  return TrainProgram(
      jax.jit(guard.guarded(take), donate_argnums=0,
              compiler_options=_options()),
      jax.jit(lambda key: train_state.create(init(key), update, (0.9999,))),
      forward * passes * size.rows)


def sampler(size: Size, form: Form, steps: int, guidance: float
            ) -> Callable[..., jax.Array]:
  """`draw(params, keys, labels) -> latents`, jitted; DDIM.

  Args:
    size: Size of the denoiser.
    form: Its form.
    steps: Sampling steps.
    guidance: Scale of guidance by label; 1: none, and one pass a step.
  """
  found = objective(size, form)
  draw = stage_sampler.StageSampler(
      found.denoiser, found.schedule, found.prediction, size.latents,
      self_condition=form.self_conditioning > 0).make(
          samplers.SamplerOptions(sampler='ddim', num_steps=steps),
          guidance_lib.Guidance(label=guidance))

  def call(params, keys, labels):
    return draw(params, keys, types.Conditioning(label=labels),
                jnp.zeros(()))

  return jax.jit(call, compiler_options=_options())


def _options() -> dict[str, Any]:
  """What a run compiles with on this device."""
  return compiler_options.of(jax.devices()[0].platform)
