"""The run of a tokenizer config."""
from collections.abc import Callable
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

import jax
from ml_collections import config_dict
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import datasets
from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import tokenizers
from walt_jax.builders import training_run
from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import progress
from walt_jax.core import types
from walt_jax.media import contact_sheet
from walt_jax.metrics import gathering
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.pretrained import efficientnet
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import losses as losses_lib
from walt_jax.tokenizer import statistics
from walt_jax.training import optimizers
from walt_jax.training import stage as stage_lib
from walt_jax.training import state as train_state
from walt_jax.training import tokenizer_step

SECTIONS = {
    'seed', 'stage', 'init_from', 'mesh', 'data', 'model', 'losses',
    'perceptual', 'discriminator', 'optimizer', 'discriminator_optimizer',
    'ema', 'statistics', 'train'}


def tokenizer_run(config: config_dict.ConfigDict, workdir: str,
                  mesh: jax.sharding.Mesh) -> training_run.Run:
  """Builds the run of a `tokenizer` config.

  Raises:
    UserError: On anything in the config that does not fit.
  """
  training_run.check_sections(config, SECTIONS)
  _refuse_denoiser_keys(config)
  config_lib.check_keys(config.statistics, {'num_batches'}, 'statistics')
  module, bare = bare_stage(config, mesh_lib.platform(mesh))
  train = datasets.source(config, datasets.TRAIN)
  held_out = datasets.source(config, datasets.HELD_OUT)
  stage = dataclasses.replace(bare, evaluate=TokenizerEvaluation(
      module, [multihost.global_batch(batch, mesh) for batch in
               datasets.held_out_batches(config, mesh, held_out, None)],
      config.train.eval_samples))
  batches = datasets.train_batches(config, mesh, train, None)
  return training_run.Run(
      stage, batches, dict(classes=list(train.classes)),
      finish=functools.partial(
          _export, config, workdir, module, batches, mesh))


def bare_stage(config: config_dict.ConfigDict, platform: str
               ) -> tuple[autoencoder_lib.Autoencoder, stage_lib.Stage]:
  """Builds the network and its stage, without data and evaluation.

  Raises:
    UserError: On anything in the config that does not fit.
  """
  module = networks.autoencoder(config.model, platform)
  data = config.data
  try:
    for height, width in (
        (data.height, data.width), *datasets.shapes(config)):
      module.latent_shape((1, data.num_frames, height, width, 3))
    options = config_lib.typed(
        config.losses, tokenizer_step.TokenizerLosses, 'losses')
  except ValueError as e:
    raise errors.UserError(f'config: {e}') from e
  discriminators = make_discriminators(config, platform)
  features, feature_params = _features(config, options, discriminators)
  make = lambda section: optimizers.make_optimizer(
      objectives.optimizer_options(section), rules.TOKENIZER_RULES)
  optimizer = make(config.optimizer)
  players = dict(
      discriminators=discriminators,
      discriminator_optimizer=(make(config.discriminator_optimizer)
                               if discriminators else None))
  init = lambda key, size=(data.height, data.width): (
      tokenizer_step.create_state(
          key, module, optimizer, ema_decays=tuple(config.ema),
          clip_shape=(data.num_frames, *size),
          map_shapes=efficientnet.map_shapes, **players))
  training_run.check_shapes(init)
  if any(judge.feature_maps for judge in discriminators.values()):
    for size in datasets.shapes(config):  # Maps fit some sizes only.
      training_run.check_shapes(functools.partial(init, size=size))
  train_step = functools.partial(
      tokenizer_step.make_tokenizer_step, module, options, optimizer,
      features=features)
  opening = None
  if discriminators and options.adversarial_start > 0:
    opening = stage_lib.Opening(options.adversarial_start, train_step())
  return module, stage_lib.Stage(
      name='tokenizer', init=init, train_step=train_step(**players),
      opening=opening, frozen=feature_params, step_uses_frozen=True,
      rules=rules.TOKENIZER_RULES)


def _refuse_denoiser_keys(config) -> None:
  """Keys that every config has, but that only denoisers act on."""
  if config.init_from:
    raise errors.UserError(
        f'config key init_from is {config.init_from!r}, but a tokenizer '
        'begins anew; leave it empty')
  if config.optimizer.get('accumulation_steps', 1) != 1:
    raise errors.UserError(
        'config key optimizer.accumulation_steps is '
        f'{config.optimizer.accumulation_steps}, but a tokenizer is trained '
        'on whole batches (its discriminator compares them); set it to 1')


def make_discriminators(config, platform: str
                        ) -> dict[str, tokenizer_step.Discriminator]:
  """By kind of rows; none when the section is empty."""
  section = config.discriminator
  if not section:
    return {}
  kinds = {'videos': 'video'} if config.data.image_rows < (
      config.data.batch_size) else {}
  if config.data.image_rows:
    kinds['images'] = 'image'
  return {
      rows: networks.discriminator(section, kind, platform)
      for rows, kind in kinds.items()}


def _features(config, options: tokenizer_step.TokenizerLosses,
              discriminators: dict[str, tokenizer_step.Discriminator]
              ) -> tuple[Any, Any]:
  """The frozen network and its parameters; (None, {}) where none is used."""
  if not options.perceptual_weight and not any(
      module.feature_maps for module in discriminators.values()):
    return None, {}
  config_lib.check_keys(config.perceptual, {'path'}, 'perceptual')
  params, _ = efficientnet.load(config.perceptual.path or None)
  return efficientnet.features, params


class TokenizerEvaluation:
  """Held-out PSNR and perceptual picture of an EMA tokenizer."""

  def __init__(self, module: autoencoder_lib.Autoencoder,
               batches: list[types.Batch], num_samples: int):
    self._batches = batches
    self._num_samples = num_samples

    def reconstruct(params, batch):
      clips = tokenizer_step.clips_of(batch)
      decoded = {
          kind: module.apply({'params': params}, pixels)[0]
          for kind, pixels in clips.items()}
      psnr = {kind: losses_lib.psnr(decoded[kind], pixels)
              for kind, pixels in clips.items()}
      return psnr, {k: pixels_lib.to_uint8(v) for k, v in decoded.items()}

    self._reconstruct = jax.jit(reconstruct)

  def __call__(self, state, frozen, key):
    del frozen, key
    params = best_params(state)
    scores: dict[str, list[np.ndarray]] = {}
    images: dict[str, np.ndarray] = {}
    for batch in self._batches:
      psnr, decoded = self._reconstruct(params, batch)
      for kind, values in psnr.items():
        scores.setdefault(kind, []).append(float(values.mean()))
      if not images and self._num_samples and batch.videos is not None and (
          jax.process_count() == 1):
        images = {'reconstructions': self._sheet(batch, decoded['videos'])}
    names = {'videos': 'psnr', 'images': 'image_psnr'}
    return {names[k]: float(np.mean(v)) for k, v in scores.items()}, images

  def _sheet(self, batch, decoded) -> np.ndarray:
    """Real clips, each above its reconstruction."""
    real = np.asarray(batch.videos.pixels[:self._num_samples])
    decoded = np.asarray(decoded[:self._num_samples])
    clips = [clip for pair in zip(real, decoded, strict=True) for clip in pair]
    names = ['real', 'reconstruction'] * len(real)
    return contact_sheet.contact_sheet(clips, names)


def best_params(state: train_state.TrainState) -> Any:
  """The autoencoder's average of the longest memory, or its parameters."""
  if state.ema:
    return state.ema[max(state.ema, key=float)]
  return state.params['autoencoder']


def _export(config, workdir: str, module, batches: Callable,
            mesh: jax.sharding.Mesh, state: train_state.TrainState) -> None:
  """Measures the latents of training clips and writes the export."""
  params = best_params(state)
  rows = mesh_lib.batch_sharding(mesh)
  encode = jax.jit(lambda p, x: inference.encode_posterior(module, p, x),
                   out_shardings=rows)
  moments = statistics.empty_moments(module.latent_channels)
  count = config.statistics.num_batches
  with progress.bar(count, 'latent statistics', 'batch') as bar:
    for batch in itertools.islice(batches(0), count):
      for part, is_video in ((batch.videos, True), (batch.images, False)):
        if part is not None:
          pixels = part.pixels if is_video else (
              part.pixels.reshape(-1, 1, *part.pixels.shape[2:]))
          posterior = encode(params, multihost.global_batch(pixels, mesh))
          moments = statistics.merge(moments, statistics.moments_of(
              multihost.local_rows(posterior)))
      bar.update(1)
  moments = _of_all_processes(moments)
  params = multihost.fetch(params)
  if multihost.is_main():
    inference.save_tokenizer(
        pathlib.Path(workdir) / tokenizers.EXPORT_DIR, params,
        statistics.finalise(moments),
        dict(model=config_lib.to_dict(config.model)))


def _of_all_processes(moments: statistics.Moments) -> statistics.Moments:
  """Merges what each process has seen of the global batches."""
  if jax.process_count() == 1:
    return moments
  counts, means, squares = (
      gathering.gather(np.asarray(value, np.float64)) for value in (
          moments.count, moments.mean, moments.squares))
  total = statistics.empty_moments(means.shape[1])
  for count, mean, square in zip(counts, means, squares, strict=True):
    total = statistics.merge(
        total, statistics.Moments(int(count), mean, square))
  return total
