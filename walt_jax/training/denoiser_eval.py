"""Held-out scores of a denoiser: v-loss by quartile of time; samples.

A denoiser that mostly trains to continue given frames is scored so too, beside
the scores without: what is monitored is what is trained.
"""
from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import conditions
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.diffusion import noise
from walt_jax.media import contact_sheet
from walt_jax.parallel import compiler_options
from walt_jax.parallel import multihost
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.training import denoiser_step
from walt_jax.training import state as train_state

NUM_QUARTILES = 4
NUM_TIMESTEPS = 1000

GIVEN = '_given'  # Ends the names of scores with frames given.

# `(params, latent_batch, timestep [B], key) -> loss [B]`, no dropout.
PerExampleLoss = Callable[..., jax.Array]


def quartile_sums(
    per_example_loss: PerExampleLoss, params: Any, batch: types.LatentBatch,
    key: jax.Array, counted: jax.Array | None = None) -> jax.Array:
  """Summed loss [4] of a batch with timesteps of each quarter of (0, 1].

  The timesteps of a quarter are spread evenly over the examples and the noise
  is a function of `key` alone, so that two models, or two steps of a run, meet
  the same noise.

  Args:
    per_example_loss: Pure function of the parameters.
    params: Parameters, usually an EMA.
    batch: Held-out latents.
    key: Draws the noise.
    counted: bool [B], the rows to sum over; None for all.
  """
  size = batch.latents.shape[0]
  # Stratified: example b of B sits at (b + 1/2) / B within the quarter.
  row = jnp.arange(size) if batch.row is None else batch.row
  within = (row + 0.5) / size

  def total(quartile):
    timestep = (quartile + within) / NUM_QUARTILES
    timestep = jnp.ceil(timestep * NUM_TIMESTEPS) / NUM_TIMESTEPS
    losses = per_example_loss(
        params, batch, timestep, jax.random.fold_in(key, quartile))
    return (losses if counted is None else losses * counted).sum()

  return jax.lax.map(total, jnp.arange(NUM_QUARTILES))


def metrics(losses: np.ndarray, ending: str = '') -> dict[str, float]:
  """Names the quartiles for the log: q1 is nearly clean, q4 nearly noise."""
  named = {f'v_loss{ending}_q{i + 1}': float(x) for i, x in enumerate(losses)}
  return named | {f'v_loss{ending}': float(np.mean(losses))}


def names(predicts_frames: bool) -> set[str]:
  """Names of all scores that evaluations may give."""
  losses = np.zeros(NUM_QUARTILES)
  given = metrics(losses, GIVEN) if predicts_frames else {}
  return set(metrics(losses) | given)


class DenoiserEvaluation:
  """Held-out loss by quartile of time, and a grid of EMA samples.

  Of a denoiser that predicts frames both come twice: without frames given, and
  with the first ones of the held-out clips (`v_loss_given`, `samples_given`).
  """

  def __init__(
      self, objective: denoiser_step.DenoiserObjective, encode: Callable,
      tokenizer: autoencoder.Autoencoder, draw: Callable,
      batches: Sequence[types.Batch], everywhere: jax.sharding.Sharding,
      *, classes: Sequence[str] = (), num_samples: int = 0):
    """Compiles nothing yet.

    Args:
      objective: The denoiser and its loss.
      encode: `encode(frozen, batch, key) -> LatentBatch`.
      tokenizer: Decodes the samples, with parameters from `frozen`.
      draw: `draw(params, keys, conditioning, noise_level) -> latents`.
      batches: Held-out rows of all processes.
      everywhere: Sharding of what each process reads.
      classes: Names of the labels.
      num_samples: Samples in the grid.
    """
    self._num_samples = num_samples
    self._objective = objective
    self._classes = classes
    self._batches = batches
    device: Any = next(iter(everywhere.device_set))
    options = compiler_options.of(device.platform)
    compiled = functools.partial(jax.jit, compiler_options=options)
    self._encode = compiled(encode)
    self._losses = compiled(
        functools.partial(quartile_sums, objective.held_out_loss),
        out_shardings=everywhere)

    def given_losses(params, batch, key):
      loss = functools.partial(
          objective.held_out_loss, frame_mask=objective.given_mask(batch))
      videos = ~batch.is_image
      return quartile_sums(loss, params, batch, key, videos), videos.sum()

    self._given_losses = compiled(given_losses, out_shardings=everywhere)

    def clips(params, frozen, conditioning, keys):
      latents = draw(params, keys, conditioning, jnp.float32(0))
      pixels = inference.decode_pixels(
          tokenizer, frozen['tokenizer']['params'],
          frozen['tokenizer']['statistics'], latents)
      return pixels_lib.to_uint8(pixels)

    self._clips = compiled(clips, out_shardings=everywhere)
    # Rows that lie on other hosts too: every process has them whole.
    self._rows = compiled(
        lambda batch, chosen: jax.tree.map(lambda x: x[chosen], batch),
        out_shardings=everywhere)

  def __call__(self, state, frozen, key):
    params = train_state.averaged(state.ema, state.params)
    sums, count, first = np.zeros(NUM_QUARTILES), 0, None
    given_sums, given_count = np.zeros(NUM_QUARTILES), 0
    for index, batch in enumerate(self._batches):
      batch_key = jax.random.fold_in(key, index)
      latents = self._encode(frozen, batch, batch_key)
      sums += np.asarray(self._losses(params, latents, batch_key))
      count += latents.latents.shape[0]
      first = latents if first is None else first
      if self._objective.predicts_frames:
        given, videos = self._given_losses(params, latents, batch_key)
        given_sums += np.asarray(given)
        given_count += int(videos)
    if first is None:
      return {}, {}
    scores = metrics(sums / count)
    if given_count:
      scores |= metrics(given_sums / given_count, GIVEN)
    return scores, self._samples(params, frozen, first, key)

  def _samples(self, params, frozen, batch, key) -> dict[str, np.ndarray]:
    """Sheets of clips with the conditions of the first held-out rows."""
    count = min(self._num_samples, batch.latents.shape[0])
    if count == 0:
      return {}
    chosen = np.argsort(multihost.fetch(batch.row))[:count]
    first = jax.device_get(self._rows(batch, chosen))
    conditioning = self._objective.conditioning(first)
    # All processes draw together, with what is the same in each of them.
    draw = lambda conditioning: np.asarray(self._clips(
        params, frozen, jax.device_get(conditioning),
        noise.row_keys(key, count)))
    captions = self._captions(first)
    if not self._objective.predicts_frames:
      return {'samples': contact_sheet.contact_sheet(
          draw(conditioning), captions)}
    # One program for both: nothing given is a mask of zeros.
    mask = self._objective.given_mask(first)
    give = lambda mask: conditions.give_frames(
        conditioning, first.latents, mask)
    counts = np.asarray(mask.sum(axis=1), int)
    return {
        'samples': contact_sheet.contact_sheet(
            draw(give(jnp.zeros_like(mask))), captions),
        f'samples{GIVEN}': contact_sheet.contact_sheet(
            draw(give(mask)), [
                f'{caption}; latent frames given: {number}' for caption, number
                in zip(captions, counts, strict=True)])}

  def _captions(self, batch) -> list[str]:
    if batch.label is None or not self._classes:
      return [str(i) for i in range(batch.latents.shape[0])]
    return [self._classes[int(i)] for i in np.asarray(batch.label)[:, 0]]
