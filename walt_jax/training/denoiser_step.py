"""The train step of every denoiser: base and super-resolution alike."""
from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from walt_jax.core import conditions
from walt_jax.core import types
from walt_jax.diffusion import loss as loss_lib
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import schedules
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.training import optimizers
from walt_jax.training import state as train_state

Params = Any


@dataclasses.dataclass(frozen=True)
class DenoiserObjective:
  """A denoiser with all that its loss needs.

  Attributes:
    denoiser: The network.
    schedule: Noise schedule.
    prediction: What the network predicts.
    options: Probabilities and weights of the loss.
    has_images: Whether rows of independent images can occur.
  """
  denoiser: denoiser_lib.Denoiser
  schedule: schedules.Schedule
  prediction: prediction_lib.Prediction
  options: loss_lib.LossOptions
  has_images: bool = False

  def apply(self, params: Params, x_t: jax.Array, timestep: jax.Array,
            conditioning: types.Conditioning) -> jax.Array:
    """The network's output [B, 1+t, h, w, c] for noisy latents of its shape."""
    output: Any = self.denoiser.apply(
        {'params': params}, x_t, timestep, conditioning)
    return output

  def conditioning(self, batch: types.LatentBatch) -> types.Conditioning:
    """The clean conditions of a batch that this denoiser was built for."""
    return conditions.from_batch(
        batch, use_label=self.denoiser.num_classes > 0,
        use_text=self.denoiser.text_width > 0,
        use_low_res=self.denoiser.low_res_factor > 0,
        use_images=self.has_images,
        own=[own.column for own in self.denoiser.conditions])

  def row_keys(self, batch: types.LatentBatch, key: jax.Array) -> jax.Array:
    """Keys [B]: a row's draws depend on its number, not on the mesh."""
    if batch.row is None:
      return noise.row_keys(key, batch.latents.shape[0])
    return noise.keys_of_rows(key, batch.row)

  def loss(self, params: Params, batch: types.LatentBatch, key: jax.Array
           ) -> tuple[jax.Array, loss_lib.LossParts]:
    """Mean training loss of the global batch, and its parts."""
    return loss_lib.diffusion_loss(
        self.apply, params, batch.latents, self.conditioning(batch),
        self.row_keys(batch, key),
        schedule=self.schedule, prediction=self.prediction,
        options=self.options)

  @property
  def predicts_frames(self) -> bool:
    """Whether most of what it trains on is the continuation of frames."""
    return self.options.frame_condition_probability >= 0.5

  def given_mask(self, batch: types.LatentBatch) -> jax.Array:
    """Frames that held-out rows are given, [B, 1+t], 1 where one is.

    Rows take the lengths that training draws from in turn, by their number;
    rows of images are given none.
    """
    lengths = jnp.asarray(self.options.frame_condition_lengths)
    num_rows, num_frames = batch.latents.shape[:2]
    row = jnp.arange(num_rows) if batch.row is None else batch.row
    length = jnp.where(batch.is_image, 0, lengths[row % len(lengths)])
    return (jnp.arange(num_frames) < length[:, None]).astype(jnp.float32)

  def held_out_loss(self, params: Params, batch: types.LatentBatch,
                    timestep: jax.Array, key: jax.Array,
                    frame_mask: jax.Array | None = None) -> jax.Array:
    """Squared error [B] at given times, over all frames; nothing is dropped.

    The network sees its conditions, no estimate of its own (zeros) and clean
    low-resolution latents.

    Args:
      params: Parameters.
      batch: Held-out latents.
      timestep: [B], one a row.
      key: Draws the noise, which nothing else changes.
      frame_mask: [B, 1+t], 1 where a clean latent frame is given; None for a
        loss without frames given.
    """
    keys = self.row_keys(batch, key)
    eps = noise.normal(keys, batch.latents.shape[1:])
    time = timestep[:, None]
    alpha, sigma = self.schedule.alpha_sigma(time[..., None, None, None])
    x_t = alpha * batch.latents + sigma * eps
    conditioning = self.conditioning(batch)
    if conditioning.low_res is not None:
      conditioning = dataclasses.replace(
        conditioning, low_res_level=jnp.zeros_like(time))
    if frame_mask is not None:
      conditioning = conditions.give_frames(
          conditioning, batch.latents, frame_mask)
    output = self.apply(params, x_t, time, conditioning).astype(jnp.float32)
    target = self.prediction.target(batch.latents, eps, alpha, sigma)
    return jnp.square(output - target).mean(axis=(1, 2, 3, 4))


def make_init(objective: DenoiserObjective, example: types.LatentBatch
              ) -> Callable[[jax.Array], Params]:
  """Builds the pure `init(key) -> parameters`.

  Args:
    objective: The denoiser.
    example: Shapes of one row (arrays or `jax.ShapeDtypeStruct`s).
  """

  def init(key: jax.Array) -> Params:
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
    timestep = jnp.ones((batch.latents.shape[0], 1))
    return objective.denoiser.init(
        key, batch.latents, timestep, objective.conditioning(batch))['params']

  return jax.jit(init)  # It is traced once for all who ask for shapes.


def make_train_step(
    objective: DenoiserObjective, optimizer: optax.GradientTransformation,
    accumulation_steps: int = 1, apart: str | None = None) -> Callable:
  """Builds the pure update `(state, batch, key, frozen) -> (state, metrics)`.

  Frozen parameters have done their work in `encode`: the step uses none.
  Metrics: the mean loss, the same without weights, the gradient's norm. The
  loss by quartile of time is measured on held-out rows, where it is not noise.

  Args:
    objective: The denoiser and its loss.
    optimizer: Turns gradients into updates.
    accumulation_steps: Parts in which a batch goes through the network.
    apart: Axis of the mesh over which the parts' gradients are not reduced,
      see `optimizers.value_and_grad`.
  """
  grad_fn = optimizers.value_and_grad(
      objective.loss, accumulation_steps, apart)

  def train_step(state: train_state.TrainState, batch: types.LatentBatch,
                 key: jax.Array, frozen: Any = None):
    del frozen
    if batch.row is None:  # A part of the batch must keep its noise.
      batch = dataclasses.replace(
        batch, row=jnp.arange(batch.latents.shape[0]))
    (loss, parts), grads = grad_fn(state.params, batch, key)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = dataclasses.replace(
        state, step=state.step + 1, params=params, opt_state=opt_state,
        ema=train_state.update_ema(state.ema, params))
    metrics = dict(loss=loss, mse=parts.mse.mean(),
                   grad_norm=optax.tree.norm(grads))
    return state, metrics

  return train_step
