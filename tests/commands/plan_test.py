"""`walt plan` without a topology: figures that belong together."""
import contextlib
import dataclasses
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.commands import plan
from walt_jax.core import errors
from walt_jax.planning import aot
from walt_jax.planning import cascade
from walt_jax.planning import ledger
from walt_jax.planning import places
from walt_jax.planning import summary
from walt_jax.planning import topology

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(config: str, **overrides):
  return schema.of(config_lib.load(
      str(ROOT / 'configs' / config),
      [(key.replace('__', '.'), str(value))
       for key, value in overrides.items()]))


def plan_of(config: str, **overrides):
  return summary.plan(load(config, **overrides))


class DenoiserPlanTest(parameterized.TestCase):

  def test_ucf101_l(self):
    figures = plan_of('ucf101.py:l')
    self.assertEqual(figures['stage'], 'denoiser')
    self.assertAlmostEqual(figures['parameters'] / 313e6, 1, delta=0.006)
    self.assertEqual(
        sum(figures['parameters_by_part'].values()), figures['parameters'])
    self.assertEqual(figures['token_grid'], [5, 16, 16])
    self.assertEqual(figures['tokens'], 1280)
    forward = figures['model_flops_per_pass']
    self.assertEqual(sum(figures['model_flops_by_part'].values()), forward)
    # Six operations a parameter and token, and attention on top.
    self.assertBetween(
        3 * forward / (6 * 1280 * figures['parameters']), 0.95, 1.1)
    self.assertEqual(figures['model_flops_per_step'], 3 * forward * 256)
    # 15 rows of each group of 16 go through the first pass.
    self.assertEqual(figures['self_condition_flops_per_step'], forward * 240)
    self.assertEqual(figures['model_flops_per_sample'], forward * 50)

  def test_nothing_is_allocated(self):
    before = sum(array.nbytes for array in jax.live_arrays())
    plan_of('ucf101.py:xl')
    after = sum(array.nbytes for array in jax.live_arrays())
    self.assertLess(after - before, 1e6)

  def test_overrides_count(self):
    small = plan_of('ucf101.py:l')
    large = plan_of('ucf101.py:l', data__batch_size=512,
                    diffusion__self_condition_probability=0.0)
    self.assertEqual(large['model_flops_per_step'],
                     2 * small['model_flops_per_step'])
    self.assertEqual(large['self_condition_flops_per_step'], 0)

  @parameterized.parameters('base', 'sr1', 'sr2', 'smoke')
  def test_quickstart(self, variant):
    figures = plan_of(f'quickstart.py:{variant}')
    self.assertEqual(
        sum(figures['parameters_by_part'].values()), figures['parameters'])
    parts = set(figures['model_flops_by_part'])
    config = load(f'quickstart.py:{variant}')
    self.assertEqual('cross_attention' in parts, bool(config.text.name))
    self.assertEqual('low_res_upscaler' in parts, variant.startswith('sr'))
    self.assertLessEqual(parts, set(figures['parameters_by_part']))

  def test_what_does_not_fit_is_refused(self):
    with self.assertRaisesRegex(errors.UserError, 'model and latents'):
      plan_of('ucf101.py:l', latents__height=12)
    with self.assertRaisesRegex(errors.UserError, 'stage'):
      plan_of('ucf101.py:l', stage='unknown')


class TokenizerPlanTest(absltest.TestCase):

  def test_quickstart(self):
    figures = plan_of('quickstart.py:tokenizer')
    self.assertEqual(figures['parameters'],
                     sum(figures['parameters_by_part'].values()))
    self.assertEqual((figures['f_s'], figures['f_t']), (4, 4))
    self.assertEqual(figures['latent_shape'], [5, 8, 8, 32])
    self.assertAlmostEqual(
        figures['compression'], 17 * 32 * 32 * 3 / (5 * 8 * 8 * 32))
    self.assertEqual(figures['discriminator_flops_per_step'], 0)
    # Two blocks of two 1x3x3 convolutions, in patches of 4x4x4.
    self.assertEqual(
        figures['receptive_field']['encoder_pixels'], [4, 36, 36])
    self.assertEqual(
        figures['model_flops_per_step'], 3 * 4 * (
            figures['encode_flops_per_clip'] +
            figures['decode_flops_per_clip']))

  def test_images_beside_videos_and_a_discriminator(self):
    config = dataclasses.replace(
        load('quickstart.py:tokenizer', data__image_rows=1),
        discriminator=schema.Discriminator(
            base_channels=8, channel_multipliers=(2,), time_downsample=(True,)))
    videos = plan_of('quickstart.py:tokenizer')
    figures = summary.plan(config)
    self.assertBetween(figures['model_flops_per_step'],
                       3 / 4 * videos['model_flops_per_step'] + 1,
                       videos['model_flops_per_step'] - 1)
    self.assertGreater(figures['discriminator_flops_per_step'], 0)
    # A 3D one for videos and a 2D one for images.
    self.assertGreater(figures['discriminator_parameters'], 0)
    images = summary.plan(dataclasses.replace(
        config, data=dataclasses.replace(config.data, image_rows=4)))
    self.assertEqual(images['clip_shape'], [1, 32, 32, 3])
    self.assertEqual(images['latent_shape'], [1, 8, 8, 32])
    self.assertLess(images['discriminator_parameters'],
                    figures['discriminator_parameters'])

  def test_a_discriminator_that_does_not_fit_is_named(self):
    spec = 'tokenizer_video.py:ucf101_small'
    self.assertGreater(plan_of(spec)['discriminator_parameters'], 0)
    with self.assertRaisesRegex(errors.UserError, 'discriminator: .*16x17'):
      plan_of(spec, data__width=68)


class CommandTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def test_writes_json(self):
    path = self.folder / 'plan.json'
    self.assertEqual(cli.main([
        'plan', '--config', f'{ROOT}/configs/quickstart.py:smoke',
        '--config.model.width=64', '--json', str(path)]), 0)
    figures = json.loads(path.read_text())
    for key in ('stage', 'parameters', 'parameters_by_part',
                'model_flops_per_step', 'global_batch'):
      self.assertIn(key, figures)

  def test_a_folder_that_is_not_there(self):
    self.assertEqual(cli.main([
        'plan', '--config', f'{ROOT}/configs/quickstart.py:smoke', '--json',
        str(self.folder / 'nowhere' / 'plan.json')]), 2)

  def test_files_that_cannot_be_written_are_refused_at_once(self):
    folder = str(self.folder)
    file = f'{folder}/plan'
    with mock.patch.object(summary, 'plan', side_effect=AssertionError):
      for flags in (['--html', folder], ['--json', folder],
                    ['--json', file, '--html', file], ['--html', '/proc/x']):
        self.assertEqual(cli.main([
            'plan', '--config', str(ROOT / 'configs/quickstart.py:smoke'),
            *flags]), 2)

  def test_table(self):
    text = plan.table(dict(
        stage='denoiser', parameters=1_234_567,
        parameters_by_part=dict(mlp=1_000_000, head=234_567),
        latent_shape=[5, 16, 16, 8], compression=12.3456))
    self.assertIn('1.235 M (1,234,567)', text)
    self.assertIn('5 x 16 x 16 x 8', text)
    self.assertIn('81.0%', text)
    self.assertIn('12.35', text)



class CascadeTest(parameterized.TestCase):

  @parameterized.parameters(
      ((), '--then needs a --topology'),
      (('--topology', 'gpu:4'), '--then compiles, which takes a --topology'),
      (('--topology', 'v5e:2x2', '--sweep'), 'leave out --sweep'),
      (('--topology', 'v5e:2x2', '--html', 'x.html'), 'leave out --html'))
  def test_what_does_not_go_with_it(self, flags, words):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
      self.assertEqual(cli.main([
          'plan', '--config', 't2v_base_9x16:smoke', '--then',
          't2v_sr1:smoke', *flags]), 2)
    self.assertIn(words, err.getvalue())

  def test_stages_that_do_not_follow_each_other(self):
    for then, words in (('t2v_sr2:smoke', 'takes latents of'),
                        ('t2v_base_9x16:smoke', 'only super-resolution'),
                        ('tokenizer_video', 'is of a tokenizer')):
      err = io.StringIO()
      with contextlib.redirect_stderr(err):
        self.assertEqual(cli.main([
            'plan', '--config', 't2v_base_9x16:smoke', '--then', then,
            '--topology', 'v5e:2x2']), 2)
      self.assertIn(words, err.getvalue())

  def test_parts_add_up(self):
    names = ['t2v_base_9x16:smoke', 't2v_sr1:smoke']
    chip = dataclasses.replace(topology.CHIPS['v5e'], hbm_bytes=2**34)
    compiled = []

    def compile_program(traced, effort):
      del effort
      compiled.append(traced)
      charge = ledger.Charge(
          'x', 'pass', ledger.REST, '', '', 1, float(len(compiled)), 0, 0, '')
      return aot.Compiled(1., len(compiled) * 2**30, 2**20, []), (
          ledger.Ledger((charge,)))

    place = places.Place('v5e:2x2', chip, 4, tuple(jax.devices()[:4]),
                         compile_program, ('a note',))
    with mock.patch.object(places, 'get', return_value=place):
      found = cascade.cascade_plan(
          names, [schema.of(config_lib.load(name)) for name in names],
          'v5e:2x2', 1, dict(data=2, context=2))
    drawn = found['drawing']
    self.assertEqual(
        [(part['name'], part['times']) for part in drawn['parts']],
        [('text encoder', 2), ('sampler of t2v_base_9x16:smoke', 1),
         ('sampler of t2v_sr1:smoke', 1), ('tokenizer, decode', 1)])
    # Compiled in the order of samplers, text and decoder.
    self.assertEqual(drawn['predicted_seconds'], 1 + 2 + 2 * 3 + 4)
    self.assertEqual(drawn['hbm_needed_bytes'], 4 * 2**30)
    self.assertTrue(drawn['fits'])
    self.assertEqual(found['mesh'], dict(data=2, fsdp=1, tensor=1, context=2))
    self.assertIn('height over 4 devices', drawn['decoding'])


if __name__ == '__main__':
  absltest.main()
