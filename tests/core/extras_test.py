"""Lines that tell how to install something name what can be installed."""
import builtins
from importlib import metadata
import pathlib
import re
import runpy
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import setuptools

from walt_jax.commands import demo
from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.data.prepare import beam
from walt_jax.data.prepare import tables
from walt_jax.data.sources import moving_digits
from walt_jax.data.sources import tfds
from walt_jax.evaluation import digit_reader
from walt_jax.text import tokenization

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TEXTS = [path for folder in ('walt_jax', 'docs', 'configs', 'examples',
                              'launch', 'benchmarks')
          for path in (_ROOT / folder).rglob('*')
          if path.suffix in ('.py', '.md', '.ipynb', '.sh')]
_EXTRAS = re.compile(r'\.\[([\w,]+)\]|'
                     r'extras\.(?:needed|command)\(\s*[\'"](\w+)')


def known_extras() -> set[str]:
  """The extras of `setup.py`, as it declares them."""
  with mock.patch.object(setuptools, 'setup') as setup:
    runpy.run_path(str(_ROOT / 'setup.py'))
  return set(setup.call_args.kwargs['extras_require'])


def without(package: str):
  """Makes the import of a package fail."""
  real = builtins.__import__

  def fake(name, *args, **kwargs):
    if name.partition('.')[0] == package:
      raise ModuleNotFoundError(f'No module named {name!r}')
    return real(name, *args, **kwargs)

  return mock.patch.object(builtins, '__import__', fake)


class ExtrasTest(parameterized.TestCase):

  @parameterized.parameters(
      ('gradio', 'demo', demo._import_gradio),
      ('pyarrow', 'data', lambda: next(
          tables._parquet(pathlib.Path('a.parquet'), 'a.parquet'))),
      ('apache_beam', 'data', lambda: beam._beam(1, '')),
      ('tensorflow_datasets', 'data',
       lambda: tfds.TfdsSource('mnist', 'train')),
      ('sklearn', 'digits', digit_reader.train_reader.__wrapped__),
      ('sentencepiece', 'text',
       lambda: tokenization.SentencePieceTokenizer('x', 4)))
  def test_a_missing_package_is_one_line_with_its_command(
      self, package, extra, use):
    with without(package), self.assertRaises(errors.UserError) as caught:
      use()
    line = str(caught.exception)
    self.assertNotIn('\n', line)
    self.assertIn(f"No module named '{package}", line)
    self.assertIn(f"pip install -e '.[{extra}]'", line)

  def test_data_of_a_missing_package_are_one_line(self):
    missing = metadata.PackageNotFoundError('scikit-learn')
    with (mock.patch.object(metadata, 'distribution', side_effect=missing),
          self.assertRaisesRegex(
              errors.UserError, 'needs scikit-learn, .*install it by pip')):
      moving_digits._digits.__wrapped__()

  def test_extras_that_are_named_are_declared(self):
    known, found = known_extras(), set()
    self.assertGreater(len(known), 5)
    for path in [*_TEXTS, _ROOT / 'README.md', _ROOT / 'Makefile']:
      for written, called in _EXTRAS.findall(path.read_text()):
        found.update((written or called).split(','))
    self.assertContainsSubset(
        ('digits', 'tensorboard', 'data', 'text', 'demo', 'tpu_plan'), found)
    self.assertLessEqual(found, known)

  def test_nobody_is_sent_to_an_index_that_does_not_have_the_package(self):
    for path in [*_TEXTS, *_ROOT.glob('*.md')]:
      with self.subTest(path.relative_to(_ROOT)):
        self.assertNotRegex(path.read_text(),
                            r'pip install[^\n]*walt_jax|walt_jax\[[a-z]')

  def test_what_is_there_is_imported(self):
    with extras.needed('demo', 'the demo', 'Gradio'):
      import json
    self.assertTrue(json)


if __name__ == '__main__':
  absltest.main()
