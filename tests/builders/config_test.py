"""Config files: overrides keep types, unknown keys are named."""
import contextlib
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.core import errors

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'
_FILE = '''
from ml_collections import config_dict

def get_config(variant='a'):
  if variant not in ('a', 'b'):
    raise ValueError(f'unknown variant {variant!r}; known: a, b')
  config = config_dict.ConfigDict()
  config.name = variant
  config.seed = 0
  config.train = dict(rate=1e-3, steps=10, shuffle=True, path='')
  config.model = dict(window=(1, 4, 4), inner=dict(width=8))
  return config
'''


class ConfigTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.folder = pathlib.Path(folder)
    cls.file = cls.write('good.py', _FILE)

  @classmethod
  def write(cls, name: str, text: str) -> str:
    path = cls.folder / name
    path.write_text(text)
    return str(path)

  def test_variants(self):
    self.assertEqual(config_lib.load(self.file).name, 'a')
    self.assertEqual(config_lib.load(f'{self.file}:b').name, 'b')

  @parameterized.parameters(
      ('seed', '3', 3), ('seed', '-1', -1),
      ('train.rate', '2e-4', 2e-4), ('train.rate', '1', 1.0),
      ('train.shuffle', 'False', False), ('train.shuffle', 'true', True),
      ('train.path', '/data/a=b c', '/data/a=b c'), ('train.path', '7', '7'),
      ('train.path', '', ''), ('name', 'None', 'None'),
      ('model.window', '(5, 2, 2)', (5, 2, 2)),
      ('model.window', '[5,2,2]', (5, 2, 2)), ('model.window', '()', ()),
      ('model.inner.width', '16', 16))
  def test_overrides_keep_the_type(self, key, text, value):
    config = config_lib.load(self.file, [(key, text)])
    for name in key.split('.'):
      config = config[name]
    self.assertEqual(config, value)
    self.assertIs(type(config), type(value))

  def test_a_config_is_found_by_its_name_from_any_folder(self):
    with contextlib.chdir(self.folder):
      self.assertEqual(config_lib.load('ucf101:l'),
                       config_lib.load(f'{_CONFIGS}/ucf101.py:l'))
      self.assertEqual(config_lib.load('k600').data.batch_size, 512)
      pathlib.Path('k600').write_text('A file of that name is no config.')
      self.assertEqual(config_lib.load('k600').data.batch_size, 512)
      with self.assertRaisesRegex(
          errors.UserError, "'ucf102' is neither .* digits_rollout, .*ucf101"):
        config_lib.load('ucf102:l')
    self.assertEqual(set(config_lib.installed()),
                     {file.stem for file in _CONFIGS.glob('*.py')})

  @parameterized.parameters(
      ('a/b.py:c', 'a/b.py', 'c'), ('b', 'b', ''), ('b:', 'b', ''),
      ('gs://bucket/a.py', 'gs://bucket/a.py', ''),
      ('gs://bucket/a.py:c', 'gs://bucket/a.py', 'c'))
  def test_the_variant_is_split_off_from_the_right(self, spec, path, variant):
    self.assertEqual(config_lib.split(spec), (path, variant))

  def test_keys_that_a_config_leaves_out_can_be_set(self):
    config = config_lib.load('quickstart:base', [
        ('sampler.eta', '1'), ('sampler.clip', '2.5'),
        ('data.buckets', '((16, 16),)'), ('tokenizer.normalise', 'false')])
    self.assertEqual((config.sampler.eta, config.sampler.clip), (1.0, 2.5))
    self.assertEqual(config.data.buckets, ((16, 16),))
    self.assertIs(config.tokenizer.normalise, False)
    with self.assertRaisesRegex(errors.UserError, "'eta' here"):
      config_lib.load('quickstart:base', [('train.eta', '1')])

  def test_the_last_override_wins(self):
    config = config_lib.load(self.file, [('seed', '1'), ('seed', '2')])
    self.assertEqual(config.seed, 2)

  @parameterized.parameters(
      ('seed', '1.5', 'int'), ('seed', 'many', 'int'), ('seed', 'True', 'int'),
      ('seed', '', 'int'), ('train.rate', 'fast', 'float'),
      ('train.rate', 'True', 'float'), ('train.shuffle', '1', 'bool'),
      ('train.shuffle', 'yes', 'bool'), ('model.window', '5', 'tuple'),
      ('model.window', '(1, 2', 'tuple'))
  def test_a_wrong_type_is_refused(self, key, text, kind):
    with self.assertRaises(errors.UserError) as caught:
      config_lib.load(self.file, [(key, text)])
    message = str(caught.exception)
    for part in (repr(key), kind, repr(text)):
      self.assertIn(part, message)

  @parameterized.parameters(
      ('sede', "'sede'", 'seed'), ('train.stepz', "'train.stepz'", 'steps'),
      ('trane.steps', "'trane'", 'train'), ('seed.x', "'seed.x'", 'none'),
      ('model.inner.w', "'model.inner.w'", 'width'),
      ('model', 'section', 'model.window'), ('', "''", 'seed'))
  def test_an_unknown_key_is_named_with_the_known_ones(
      self, key, named, known):
    with self.assertRaises(errors.UserError) as caught:
      config_lib.load(self.file, [(key, '1')])
    self.assertIn(named, str(caught.exception))
    self.assertIn(known, str(caught.exception))

  def test_files_that_do_not_load(self):
    cases = {
        str(self.folder / 'none.py'): 'is neither a Python file',
        f'{self.file}:c': "unknown variant 'c'",
        self.write('syntax.py', 'def get_config(:'): 'does not load',
        self.write('imports.py', 'import no_such_module'): 'no_such_module',
        self.write('empty.py', ''): 'get_config',
        str(self.folder): 'is neither a Python file'}
    for spec, message in cases.items():
      with self.subTest(spec), self.assertRaisesRegex(
          errors.UserError, message):
        config_lib.load(spec)

  def test_work_directories_keep_configs(self):
    config = config_lib.load(f'{_CONFIGS}/quickstart.py:smoke', [
        ('model.spacetime_window', '(5, 2, 2)')])
    workdir = self.folder / 'run'
    workdir.mkdir()
    (workdir / 'config.json').write_text(json.dumps(
        config_lib.to_dict(config) | dict(derived=dict(classes=['a']))))
    experiment = config_lib.read_experiment(str(workdir))
    self.assertEqual(experiment, schema.of(config))
    self.assertEqual(experiment.model.spacetime_window, (5, 2, 2))
    with self.assertRaisesRegex(errors.UserError, 'no work directory'):
      config_lib.read_experiment(str(self.folder))


class ProjectConfigsTest(parameterized.TestCase):

  def test_every_variant_of_every_config_loads_and_survives_json(self):
    files = sorted(_CONFIGS.glob('*.py'))
    self.assertNotEmpty(files)
    for file in files:
      with self.assertRaisesRegex(errors.UserError, 'unknown variant'):
        config_lib.load(f'{file}:no_such_variant')
      for spec in (str(file), f'{file}:smoke'):
        with self.subTest(spec):
          config = config_lib.load(spec)
          again = config_lib.from_dict(config_lib.to_dict(config))
          self.assertEqual(again, config)


if __name__ == '__main__':
  absltest.main()
