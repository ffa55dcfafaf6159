"""Each different program of the configs, shrunk, takes one step."""
import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from tests import config_programs as programs
from walt_jax.builders import networks
from walt_jax.builders import schema


def shrunk(config):
  """The same program on as few tokens, channels and rows as will do."""
  data = dataclasses.replace(
      config.data, name='clips', batch_size=2,
      image_rows=int(config.data.image_rows > 0), buckets=())
  if isinstance(config, schema.TokenizerExperiment):
    return shrunk_tokenizer(config, data)
  model, latents, text = config.model, config.latents, config.text
  grid = (latents.frames, latents.height // model.patch,
          latents.width // model.patch)
  # One window or two along each axis, as many as there were or fewer.
  counts = [[min(cells // extent, 2) for cells, extent in zip(
      grid, window, strict=True)] for window in (
          model.spatial_window, model.spacetime_window)]
  # Wide frames take the program of square ones.
  counts = [[time, max(sides), max(sides)] for time, *sides in counts]
  patch = min(model.patch, 2)
  cells = [max(axis) for axis in zip(*counts, strict=True)]
  if latents.frames > 1:  # Up to two are given; a window has one, or all.
    cells[0] = 3
    counts = [(3 if extent[0] == 1 else 1, *kind[1:]) for extent, kind in zip(
        (model.spatial_window, model.spacetime_window), counts, strict=True)]
  if model.low_res_factor and patch < model.low_res_factor:
    cells[1:] = [model.low_res_factor * size for size in cells[1:]]
  windows = [tuple(size // count for size, count in zip(
      cells, kind, strict=True)) for kind in counts]
  width = 16 if config.optimizer.name == 'muon' else 8  # Its least matrix.
  return dataclasses.replace(
      config, data=dataclasses.replace(data, height=8, width=8, num_frames=5),
      latents=schema.Latents(
          frames=cells[0], height=cells[1] * patch, width=cells[2] * patch,
          channels=2),
      text=dataclasses.replace(
          text, name='minilm', max_tokens=2, width=4) if text.name else text,
      model=dataclasses.replace(
          model, width=width, depth=2, num_heads=2, mlp_width=width,
          patch=patch, num_classes=min(model.num_classes, 3),
          lora_rank=min(model.lora_rank, 2), spatial_window=windows[0],
          spacetime_window=windows[1]))


def shrunk_tokenizer(config, data):
  model, judge = config.model, config.discriminator
  if isinstance(judge, schema.Discriminator):
    judge = dataclasses.replace(
        judge, base_channels=2, channel_multipliers=(1,),
        time_downsample=(any(judge.time_downsample),))
  elif judge:
    judge = dataclasses.replace(judge, base_channels=4, feature_maps=1)
  model = dataclasses.replace(
      model, base_channels=2, num_groups=2, latent_channels=2,
      channel_multipliers=model.channel_multipliers[:2],
      time_downsample=model.time_downsample[-1:],
      blocks_per_level=min(model.blocks_per_level, 1),
      middle_blocks=0 if model.blocks_per_level else 1)
  network = networks.autoencoder(model, 'cpu')
  side = max(2 * network.f_s, 32 if isinstance(
      judge, schema.FeatureDiscriminator) else 4)
  return dataclasses.replace(
      config, model=model, discriminator=judge,
      losses=dataclasses.replace(
          # Of EfficientNet, the first map alone is quick to compile.
          config.losses, perceptual_weight=0.0, adversarial_start=0),
      data=dataclasses.replace(
          data, height=side, width=side,
          num_frames=1 + network.f_t * (data.num_frames > 1)))


def random_like(shape):
  """Random values of a shape; small, since some are weights."""
  if np.dtype(shape.dtype).kind != 'f':
    return np.zeros(shape.shape, shape.dtype)
  rng = np.random.default_rng(0)
  return (0.1 * rng.standard_normal(shape.shape)).astype(shape.dtype)


def kind_of(config):
  """What a shrunk program does, whatever the types, what is kept for the
  gradient and how the learning rate, one number, comes about."""
  plain = dict(remat=False)
  if isinstance(config, schema.DenoiserExperiment):
    plain = dict(remat_policy='none')
    config = dataclasses.replace(
        config, text=dataclasses.replace(config.text, dtype='float32'),
        diffusion=dataclasses.replace(
            config.diffusion, zero_terminal_snr=True))
  else:
    if isinstance(config.discriminator, schema.Discriminator):
      config = dataclasses.replace(config, discriminator=dataclasses.replace(
          config.discriminator, dtype='float32'))
    config = dataclasses.replace(
        config, discriminator_optimizer=dataclasses.replace(
            config.discriminator_optimizer, schedule='constant'))
  return programs.program_of(dataclasses.replace(
      config, model=dataclasses.replace(
          config.model, dtype='float32', **plain),
      optimizer=dataclasses.replace(config.optimizer, schedule='constant')))


def different_programs():
  """One spec for each kind of program; not the smoke test if there is another.
  """
  specs = sorted(programs.SPECS, key=lambda spec: not spec.endswith(':smoke'))
  return tuple({
      kind_of(shrunk(programs.load(spec))): spec for spec in specs}.values())


@pytest.mark.slow  # Together.
class StepTest(parameterized.TestCase):

  @parameterized.parameters(*different_programs())
  def test_a_shrunk_program_takes_a_step(self, spec):
    config = programs.program_of(shrunk(programs.load(spec)))
    run = programs.run_of(config)
    state, batch, frozen = jax.tree.map(
        random_like, (run.state, run.batch, run.stage.frozen))
    arguments = (state, batch, jax.random.key(0), frozen)
    after, metrics = jax.device_get(
        jax.jit(run.stage.train_step)(*arguments))
    self.assertEqual(int(after.step), int(state.step) + 1)
    self.assertTrue(np.isfinite(metrics['loss']))
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after.params, state.params)
    self.assertTrue(any(jax.tree.leaves(moved)))


if __name__ == '__main__':
  absltest.main()
