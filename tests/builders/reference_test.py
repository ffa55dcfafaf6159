"""`walt config` and docs/config.md: every key, and nothing out of date."""
import contextlib
import io
import pathlib

from absl.testing import absltest

from walt_jax.builders import config as config_lib
from walt_jax.builders import reference
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.commands import cli

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def keys_of(values, where=''):
  """The dotted keys of a plain config, sections left out."""
  for name, value in values.items():
    if isinstance(value, dict):
      yield from keys_of(value, sections.dotted(where, name))
    else:
      yield sections.dotted(where, name)


def sections_of(section):
  """A section and all in it."""
  yield section
  for annotation in sections.annotations(section).values():
    for inner in sections.subsections(annotation):
      yield from sections_of(inner)


def all_configs():
  """Every variant of every config."""
  for file in sorted((_ROOT / 'configs').glob('*.py')):
    for variant in config_lib.variants(str(file)):
      yield config_lib.load(f'{file}:{variant}')


class ReferenceTest(absltest.TestCase):

  def test_docs_are_up_to_date(self):
    self.assertEqual(
        (_ROOT / 'docs' / 'config.md').read_text(), reference.markdown(),
        'run: walt config --markdown > docs/config.md')

  def test_every_key_of_every_variant_is_in_the_docs(self):
    text = reference.markdown()
    keys = {key for config in all_configs()
            for key in keys_of(config.to_dict())}
    self.assertGreater(len(keys), 100)
    for key in keys:
      self.assertIn(f'| `{key}` |', text)

  def test_every_key_has_a_meaning(self):
    for experiment in schema.STAGES.values():
      for section in sections_of(experiment):
        self.assertTrue(section.__doc__)
        for name, meaning in sections.meanings(section).items():
          if not sections.subsections(sections.annotations(section)[name]):
            self.assertRegex(meaning, r'^.{8,}\.$', f'{section} {name}')

  def test_a_config_is_shown_with_its_defaults(self):
    with contextlib.redirect_stdout(io.StringIO()) as out:
      self.assertEqual(cli.main(
          ['config', 'quickstart:base', '--config.seed=3',
           '--config.sampler.eta=0.0']), 0)
    lines = out.getvalue().splitlines()
    self.assertTrue(lines[0].startswith('seed = 3  '))
    # The file says nothing of buckets.
    self.assertTrue(any(line.startswith('  buckets = ()') for line in lines))
    self.assertTrue(any(line.startswith('  lora_rank = 2') for line in lines))
    self.assertLessEqual(max(map(len, lines)), 120)

  def test_installed_configs_are_listed(self):
    with contextlib.redirect_stdout(io.StringIO()) as out:
      self.assertEqual(cli.main(['config']), 0)
    self.assertIn('k600: k600, smoke\n', out.getvalue())
    self.assertLen(out.getvalue().splitlines(),
                   len(list((_ROOT / 'configs').glob('*.py'))))


if __name__ == '__main__':
  absltest.main()
