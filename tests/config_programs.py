"""The configs of the project as programs, at full size."""
import dataclasses

import jax

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.parallel import mesh as mesh_lib

SPECS = tuple(f'{name}:{variant}' for name, file in
              config_lib.installed().items()
              for variant in config_lib.variants(str(file)))


def load(spec):
  return schema.of(config_lib.load(spec))


def program_of(config):
  """A config without all that changes at most numbers of its train step."""
  data = config.data
  config = dataclasses.replace(
      config, seed=0, init_from='', train=schema.Train(), mesh=schema.Mesh(),
      ema=(0.9,) * len(config.ema), optimizer=update_of(config.optimizer),
      data=schema.Data(
          num_frames=data.num_frames, height=data.height, width=data.width,
          batch_size=data.batch_size, image_rows=data.image_rows))
  if isinstance(config, schema.TokenizerExperiment):
    return dataclasses.replace(
        config, losses=switches(config.losses, adversarial_start=0),
        discriminator_optimizer=update_of(config.discriminator_optimizer),
        statistics=schema.Statistics())
  return dataclasses.replace(
      config, diffusion=switches(config.diffusion),
      tokenizer=schema.Tokenizer(),
      sampler=schema.Sampler())


def update_of(options):
  return switches(options, peak_lr=1e-3, warmup_steps=1, decay_steps=10,
                  min_factored=options.min_factored)


def switches(section, **given):
  """A section whose numbers only say whether something is done at all."""
  numbers = {
      field.name: 0.5 for field in dataclasses.fields(section)
      if isinstance(getattr(section, field.name), float)
      and getattr(section, field.name)}
  return dataclasses.replace(section, **numbers | given)


def run_of(config):
  """The programs of a config on one device."""
  return absent_runs.absent_run(
      config, mesh_lib.make_mesh(devices=jax.devices()[:1]))
