"""The run of a tokenizer config."""
import dataclasses
import functools
from typing import Any

import jax

from walt_jax.builders import datasets
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.builders import training_run
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.parallel import rules
from walt_jax.pretrained import efficientnet
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.training import optimizers
from walt_jax.training import stage as stage_lib
from walt_jax.training import tokenizer_eval
from walt_jax.training import tokenizer_export
from walt_jax.training import tokenizer_step


def tokenizer_run(config: schema.TokenizerExperiment, workdir: str,
                  mesh: jax.sharding.Mesh) -> training_run.Run:
  """Builds the run of a `tokenizer` config.

  Raises:
    UserError: On anything in the config that does not fit.
  """
  module, bare = bare_stage(config, mesh_lib.platform(mesh))
  train = datasets.source(config, datasets.TRAIN)
  held_out = datasets.source(config, datasets.HELD_OUT)
  stage = dataclasses.replace(bare, evaluate=tokenizer_eval.TokenizerEvaluation(
      module, [multihost.global_batch(batch, mesh) for batch in
               datasets.held_out_batches(config, mesh, held_out, None)],
      config.train.eval_samples))
  batches = datasets.train_batches(config, mesh, train, None)
  return training_run.Run(
      stage, batches, dict(classes=list(train.classes)),
      finish=tokenizer_export.TokenizerExport(
          paths.path(workdir) / run_files.EXPORT, module, batches, mesh,
          num_batches=config.statistics.num_batches,
          config=dict(model=sections.plain(config.model))))


def bare_stage(config: schema.TokenizerExperiment, platform: str
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
  except ValueError as e:
    raise errors.UserError(f'config: {e}') from e
  discriminators = make_discriminators(config, platform)
  features, feature_params = _features(config, discriminators)
  make = lambda options: optimizers.make_optimizer(
      options, rules.TOKENIZER_RULES)
  optimizer = make(config.optimizer)
  players = dict(
      discriminators=discriminators,
      discriminator_optimizer=(make(config.discriminator_optimizer)
                               if discriminators else None))
  init = lambda key, size=(data.height, data.width): (
      tokenizer_step.create_state(
          key, module, optimizer, ema_decays=config.ema,
          clip_shape=(data.num_frames, *size),
          map_shapes=efficientnet.map_shapes, **players))
  training_run.check_shapes(init)
  if any(judge.feature_maps for judge in discriminators.values()):
    for size in datasets.shapes(config):  # Maps fit some sizes only.
      training_run.check_shapes(functools.partial(init, size=size))
  train_step = functools.partial(
      tokenizer_step.make_tokenizer_step, module, config.losses, optimizer,
      features=features)
  opening = None
  if discriminators and config.losses.adversarial_start > 0:
    opening = stage_lib.Opening(
        config.losses.adversarial_start, train_step())
  return module, stage_lib.Stage(
      name='tokenizer', init=init, train_step=train_step(**players),
      opening=opening, frozen=feature_params,
      rules=rules.TOKENIZER_RULES)


def make_discriminators(config: schema.TokenizerExperiment, platform: str
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


def _features(config: schema.TokenizerExperiment,
              discriminators: dict[str, tokenizer_step.Discriminator]
              ) -> tuple[Any, Any]:
  """The frozen network and its parameters; (None, {}) where none is used."""
  if not config.losses.perceptual_weight and not any(
      module.feature_maps for module in discriminators.values()):
    return None, {}
  params, _ = efficientnet.load(config.perceptual.path or None)
  return efficientnet.features, params
