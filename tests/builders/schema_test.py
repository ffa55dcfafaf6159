"""The schema: one wrong key gives one line, the same from every command."""
import contextlib
import dataclasses
import io
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.core import exit_codes

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'
_DENOISER = f'{_CONFIGS}/quickstart.py:base'
_TOKENIZER = f'{_CONFIGS}/tokenizer_video.py:smoke'
_NO_GAN = f'{_CONFIGS}/quickstart.py:tokenizer'

# Config, dotted key, value, and what the line says.
BAD = (
    (_DENOISER, 'sede', 1, "unknown config key 'sede'; known: data, "),
    (_DENOISER, 'statistics', {}, "unknown config key 'statistics'"),
    (_DENOISER, 'stage', 'painter', "stage is 'painter'; choose one of"),
    *((_DENOISER, f'{section}.bad', 1,
       f"unknown config key '{section}.bad'; known in {section}: ")
      for section in ('mesh', 'data', 'tokenizer', 'latents', 'text', 'model',
                      'diffusion', 'optimizer', 'sampler', 'train')),
    *((_TOKENIZER, f'{section}.bad', 1,
       f"unknown config key '{section}.bad'; known in {section}: ")
      for section in ('mesh', 'data', 'model', 'losses', 'perceptual',
                      'discriminator', 'optimizer', 'discriminator_optimizer',
                      'statistics', 'train')),
    (_DENOISER, 'tokenizer.random', dict(seed=0, model=dict(bad=1)),
     "unknown config key 'tokenizer.random.model.bad'; known in"),
    (_DENOISER, 'tokenizer.random', dict(seed=0),
     "the config lacks the key 'tokenizer.random.model'"),
    (_DENOISER, 'latents', None, 'latents is None; it is a section with'),
    (_DENOISER, 'seed', 0.5, 'seed is 0.5; give a whole number'),
    (_DENOISER, 'seed', 10**20, 'seed is 100000000000000000000; give a whole '
     'number from 0 to 2^64 - 1'),
    (_DENOISER, 'seed', -1, 'seed is -1; give a whole number from 0'),
    (_DENOISER, 'model.low_res_factor', 2, 'use_noise_level is False'),
    (_TOKENIZER, 'model.channel_multipliers', (), 'one entry fewer'),
    (_TOKENIZER, 'model.stem_patch', (1, 4, 8), 'square in space'),
    (_DENOISER, 'tokenizer.workdir', 's3://b/x',
     "tokenizer.workdir is 's3://b/x'; give a text that names local paths or"),
    (_DENOISER, 'data.path', 'a,gs:/b/x', "data: 'gs:/b/x' is neither a local"),
    (_DENOISER, 'data.path', 'tfds:x@gs://bucket/x', 'TFDS sets are read from'),
    (_DENOISER, 'seed', True, 'seed is True; give a whole number'),
    (_DENOISER, 'ema', 0.9, 'ema is 0.9; give a tuple'),
    (_DENOISER, 'ema', (1.5,), 'ema is (1.5,); give a tuple'),
    (_DENOISER, 'ema', (1,), 'numbers from 0 to below 1'),
    (_DENOISER, 'mesh.data', 0, 'mesh.data is 0; give a whole number from 1 to '
     '1,000,000, or -1'),
    (_DENOISER, 'mesh.fsdp', -1, 'only one axis may be -1'),
    (_DENOISER, 'data.name', 'films', "choose one of 'moving_digits'"),
    (_DENOISER, 'data.batch_size', 0, 'data.batch_size is 0; give a whole '
     'number from 1 to 10,000,000'),
    (_DENOISER, 'data.image_rows', 99, 'image_rows=99'),
    (_DENOISER, 'data.flip', 1, 'data.flip is 1; give True or False'),
    (_DENOISER, 'data.buckets', ((1, 2, 3),), 'data.buckets is'),
    (_DENOISER, 'latents.frames', 0, 'latents.frames is 0; give'),
    (_DENOISER, 'text.width', 0, 'config section text'),
    (_DENOISER, 'model.width', '128', "model.width is '128'; give"),
    (_DENOISER, 'model.dtype', 'float8', "one of 'float32', 'bfloat16'"),
    (_DENOISER, 'model.spatial_window', (4, 4), '3 whole numbers'),
    (_DENOISER, 'diffusion.drop_text', 1.1, 'a number from 0 to 1'),
    (_DENOISER, 'optimizer.name', 'sgd', "choose one of 'adamw'"),
    (_DENOISER, 'sampler.clip', 'no', 'sampler.clip is'),
    (_DENOISER, 'train.log_every', 0, 'train.log_every is 0; give'),
    (_DENOISER, 'train.keep_best', 1, "best_metric=''; give both"),
    (_DENOISER, 'train.best_metric', 'eval/x', 'keep_best=0, but best_metric'),
    (_DENOISER, 'train.best_mode', 'least', "one of 'min', 'max'"),
    (_DENOISER, 'train.keep_newest', 0, 'from 1 to'),
    (_DENOISER, 'train.keep_every', 7, 'keep_every=7 is no multiple of save'),
    (_TOKENIZER, 'losses.reconstruction', 'l3', 'l3'),
    (_TOKENIZER, 'discriminator.feature_maps', 0, 'feature_maps'),
    (_TOKENIZER, 'discriminator_optimizer.decay_steps', 0,
     'config section discriminator_optimizer'),
    (_NO_GAN, 'discriminator', dict(bad=1), "'discriminator.bad'"),
    (_NO_GAN, 'statistics.num_batches', 0, 'statistics.num_batches is 0'),
)


def with_value(spec, key, value):
  """A config as plain JSON values, with one of them changed."""
  config = config_lib.to_dict(config_lib.load(spec))
  *parents, leaf = key.split('.')
  section = config
  for name in parents:
    section = section[name]
  section[leaf] = value
  return config


def commands(folder, config):
  """Each command with a config, as a file or in a work directory."""
  file = folder / 'config.py'
  file.write_text(
      'from ml_collections import config_dict\n'
      f'get_config = lambda: config_dict.ConfigDict({config!r})\n')
  workdir = folder / 'run'
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(
      json.loads(json.dumps(config)) | dict(derived=dict(classes=[]))))
  return (
      ('train', '--config', file, '--workdir', folder / 'new'),
      ('plan', '--config', file),
      ('config', file),
      ('sample', '--workdir', workdir, '--out', folder / 'new'),
      *(('evaluate', metric, '--workdir', workdir, '--real', folder / 'none',
         '--json', folder / 'new') for metric in ('fvd', 'reconstruction')),
      ('export', '--workdir', workdir, '--out', folder / 'new'),
      ('demo', '--workdir', workdir))


def run(*argv):
  """The exit code of a command, and what it wrote to standard error."""
  with contextlib.redirect_stderr(io.StringIO()) as err:
    return cli.main([str(argument) for argument in argv]), err.getvalue()


class BadConfigTest(parameterized.TestCase):

  @parameterized.parameters(*BAD)
  def test_every_command_says_the_same_line(self, spec, key, value, named):
    folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    lines = set()
    for argv in commands(folder, with_value(spec, key, value)):
      code, line = run(*argv)
      self.assertEqual(code, exit_codes.USER_ERROR, argv)
      lines.add(line)
    self.assertLen(lines, 1)
    line, = lines
    self.assertRegex(line, r'\Awalt: error: [^\n]+\n\Z')
    self.assertIn(named, line)
    self.assertFalse((folder / 'new').exists())

  def test_the_table_has_every_section(self):
    tried = {key.split('.')[0] for _, key, _, _ in BAD if '.' in key}
    for experiment in schema.STAGES.values():
      wanted = {name for name, annotation in sections.annotations(
          experiment).items() if sections.subsections(annotation)}
      self.assertContainsSubset(wanted, tried)


class SchemaTest(parameterized.TestCase):

  def test_a_key_left_out_has_its_default(self):
    config = config_lib.to_dict(config_lib.load(_DENOISER))
    for name in ('image_path', 'weights', 'buckets', 'strides'):
      config['data'].pop(name, None)
    del config['model']['linear_skip']
    experiment = schema.of(config)
    self.assertEqual(experiment.data.strides, (1,))
    self.assertFalse(experiment.model.linear_skip)
    del config['model']['width']
    with self.assertRaisesRegex(errors.UserError, "lacks .* 'model.width'"):
      schema.of(config)
    del config['latents']
    with self.assertRaisesRegex(errors.UserError, "lacks .* 'latents'"):
      schema.of(config)

  def test_json_and_config_files_give_the_same_experiment(self):
    for spec in (_DENOISER, _TOKENIZER, _NO_GAN):
      config = config_lib.load(spec)
      experiment = schema.of(config)
      self.assertEqual(schema.of(config_lib.to_dict(config)), experiment)
      self.assertIs(schema.of(experiment), experiment)
      self.assertEqual(hash(experiment), hash(schema.of(config)))

  def test_a_discriminator_is_chosen_by_its_keys(self):
    pixels = schema.of(config_lib.load(_TOKENIZER)).discriminator
    self.assertIsInstance(pixels, schema.Discriminator)
    maps = schema.of(config_lib.load(
        f'{_CONFIGS}/tokenizer_video.py:ucf101_small')).discriminator
    self.assertIsInstance(maps, schema.FeatureDiscriminator)
    self.assertIsNone(schema.of(config_lib.load(_NO_GAN)).discriminator)

  def test_whole_numbers_are_numbers(self):
    experiment = schema.of(with_value(_DENOISER, 'data.frame_rate', 8))
    self.assertIs(type(experiment.data.frame_rate), float)

  @parameterized.parameters(
      schema.Autoencoder, schema.Discriminator, schema.FeatureDiscriminator,
      schema.Denoiser)
  def test_networks_have_the_same_keys_and_defaults(self, section):
    network = {field.name: field.default
               for field in dataclasses.fields(section.configures)}
    for name, field in sections.fields(section).items():
      self.assertIn(name, network)
      # Configs name a type by a text, the platform's form by 'auto'.
      if name not in ('dtype', 'attention_form', 'passes_form') and (
          not sections.is_required(field)):
        self.assertEqual(field.default, network[name], name)


if __name__ == '__main__':
  absltest.main()
