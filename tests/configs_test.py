"""Every config and variant loads and has the paper's size."""
import dataclasses
import functools
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp

from tests import config_programs as programs
from walt_jax.builders import config as config_lib
from walt_jax.builders import datasets
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.planning import counting

FOLDER = pathlib.Path(__file__).resolve().parent.parent / 'configs'
UCF101 = (
    'xl', 'l', 'smoke',
    *(f'ablation_patch_{patch}' for patch in (1, 2, 4)),
    *(f'ablation_window_{window}'
      for window in ('5x4x4', '5x8x8', '5x16x16', 'full')),
    *(f'ablation_self_cond_{percent}' for percent in (0, 30, 60, 90)),
    *(f'ablation_lora_{rank}' for rank in (2, 4, 16, 64, 256)),
    'ablation_adaln_separate',
    *(f'ablation_no_{part}' for part in ('qk_norm', 'latent_norm', 'zero_snr')),
    *(f'ablation_latent_{channels}' for channels in (4, 8, 16, 32)))
T2V = ('t2v_base', 't2v_base_9x16', 't2v_sr1', 't2v_sr2')


def load(spec, *overrides):
  name, colon, variant = spec.partition(':')
  return schema.of(config_lib.load(
      f'{FOLDER / name}.py{colon}{variant}', overrides))


@functools.cache
def parameters(denoiser, latents):
  """Number of parameters; configs that share a network are counted once."""
  struct = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
  shapes = jax.eval_shape(
      denoiser.init, jax.random.key(0), struct((1, *latents)), struct((1, 1)),
      types.Conditioning())
  return counting.parameters(shapes)


def latents_of(config):
  latents = config.latents
  return latents.frames, latents.height, latents.width, latents.channels


class ConfigsTest(parameterized.TestCase):

  @parameterized.parameters(*programs.SPECS)
  def test_all_but_the_data_is_there(self, spec):
    config = programs.load(spec)
    if config.data.name == 'moving_digits':
      self.assertNotEmpty(datasets.source(config, datasets.TRAIN))
    else:  # Everything but the path is right.
      with self.assertRaisesRegex(errors.UserError, 'data.path is empty'):
        datasets.source(config, datasets.TRAIN)

  def test_variants_are_named(self):
    self.assertContainsSubset(
        {f'ucf101:{variant}' for variant in UCF101}, programs.SPECS)
    self.assertEqual({spec.partition(':')[0] for spec in programs.SPECS},
                     {file.stem for file in FOLDER.glob('*.py')})

  def test_tokenizers_have_a_discriminator(self):
    for spec in programs.SPECS:
      if spec.startswith('tokenizer') and not spec.endswith('no_gan'):
        self.assertNotEmpty(tokenizer_runs.make_discriminators(
            programs.load(spec), 'cpu'))

  def test_files_are_short(self):
    for file in FOLDER.glob('*.py'):
      self.assertLess(len(file.read_text().splitlines()), 150, file.name)

  @parameterized.parameters('ucf101', 'k600', 'tokenizer_video')
  def test_unknown_variants_are_refused(self, name):
    with self.assertRaisesRegex(errors.UserError, "'nothing'.*smoke"):
      load(f'{name}:nothing')

  @parameterized.parameters('', ':smoke')
  def test_stages_follow_each_other(self, variant):
    wide, sr1, sr2 = (load(name + variant) for name in T2V[1:])
    for before, config in ((wide, sr1), (sr1, sr2)):
      factor = config.model.low_res_factor
      frames, height, width, channels = latents_of(before)
      self.assertEqual(latents_of(config),
                       (frames, factor * height, factor * width, channels))
      self.assertEqual(config.stage, 'super_resolution')

  @parameterized.parameters('', ':smoke')
  def test_fine_tuning_keeps_all_but_the_grid(self, variant):
    square, wide = (
        dataclasses.asdict(load(name + variant).model) for name in T2V[:2])
    windows = ('spatial_window', 'spacetime_window')
    self.assertEqual({key for key in square if square[key] != wide[key]},
                     set(windows))


class PaperTest(parameterized.TestCase):
  """Table 8 and the counts of Table 3 and section 5, from the configs."""

  @parameterized.parameters(
      ('ucf101', 460, 0.006), ('ucf101:l', 313, 0.006),
      ('ucf101:ablation_lora_2', 313, 0.006),
      ('ucf101:ablation_lora_4', 314, 0.006),
      ('ucf101:ablation_lora_16', 316, 0.006),
      ('ucf101:ablation_lora_64', 324, 0.006),
      ('ucf101:ablation_lora_256', 357, 0.006),
      ('ucf101:ablation_adaln_separate', 458, 0.006),
      ('imagenet256', 460, 0.006), ('t2v_base', 3000, 0.035),
      ('t2v_base_9x16', 3000, 0.035), ('t2v_sr1', 1300, 0.02))
  def test_parameters(self, spec, millions, tolerance):
    config = load(spec)
    count = parameters(networks.denoiser(config, 'cpu'), latents_of(config))
    self.assertAlmostEqual(
        count / 1e6 / millions, 1, delta=tolerance, msg=f'{count:,}')

  def test_parameters_of_l_with_text(self):
    """The 419M of section 5.3 are L with T5-XL's states."""
    config = load(
        'ucf101:l', ('text.width', '2048'), ('model.num_classes', '0'),
        ('model.frame_condition', 'True'))
    count = parameters(networks.denoiser(config, 'cpu'), latents_of(config))
    self.assertAlmostEqual(count / 419e6, 1, delta=0.012, msg=f'{count:,}')

  @parameterized.parameters(
      ('ucf101', (5, 16, 16), 256, 60_000), ('k600', (5, 16, 16), 512, 275_000),
      ('imagenet256', (1, 32, 32), 1024, 438_000),
      ('t2v_base', (5, 16, 16), 512, 550_000),
      ('t2v_base_9x16', (5, 16, 28), 512, 250_000),
      ('t2v_sr1', (5, 16, 28), 512, 675_000),
      ('t2v_sr2', (5, 16, 28), 512, 275_000))
  def test_table_8(self, spec, grid, batch_size, num_steps):
    config = load(spec)
    latents, patch = config.latents, config.model.patch
    self.assertEqual((latents.frames, latents.height // patch,
                      latents.width // patch), grid)
    self.assertEqual(config.data.batch_size, batch_size)
    self.assertEqual(config.train.num_steps, num_steps)
    self.assertEqual(config.optimizer.decay_steps, num_steps)
    is_text = spec.startswith('t2v')
    self.assertEqual(config.text.max_tokens, 64 if is_text else 0)
    self.assertEqual(bool(config.ema), not is_text)

  def test_ablations_differ_from_l_as_named(self):
    plain = dataclasses.asdict(load('ucf101:l'))
    plain['train']['num_steps'] = plain['optimizer']['decay_steps'] = 35_000
    for variant in UCF101:
      if not variant.startswith('ablation_'):
        continue
      config = dataclasses.asdict(load(f'ucf101:{variant}'))
      changed = {
          f'{section}.{key}' for section, values in config.items()
          if isinstance(values, dict) for key, value in values.items()
          if plain[section].get(key) != value}
      same = variant.removeprefix('ablation_') in (
          'patch_1', 'window_5x8x8', 'self_cond_90', 'lora_2', 'latent_8')
      self.assertEqual(not changed, same, (variant, changed))


if __name__ == '__main__':
  absltest.main()
