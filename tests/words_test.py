"""The package's English: attribute docs are noun phrases, words are plain."""
import ast
import pathlib
import re

from absl.testing import absltest

_ROOT = pathlib.Path(__file__).parents[1]
# 'key: Of all steps.' says nothing without its neighbours.
_GENITIVE = re.compile(
    r'^ +[\w*, `]+: (Of|As(?! many)|By|From|In|On|With|To|Then|Before) ',
    re.MULTILINE)
_WORDS = re.compile(r'\b([Mm]end(s|ed|ing)?|goes on|go on|yardsticks?)\b')
_KEPT = ("'yardsticks'",)  # A key of files that were written before.


def sections(docstring: str) -> str:
  """The part of a docstring that describes arguments or attributes."""
  found = re.split(r'^ *(Args|Attributes|Returns|Yields|Raises):$', docstring,
                   flags=re.MULTILINE)
  return '\n'.join(text for name, text in zip(
      found[1::2], found[2::2], strict=True) if name in ('Args', 'Attributes'))


class WordsTest(absltest.TestCase):

  def test_attributes_and_arguments_are_noun_phrases(self):
    for path in sorted((_ROOT / 'walt_jax').rglob('*.py')):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
          text = sections(ast.get_docstring(node, clean=False) or '')
          for found in _GENITIVE.finditer(text):
            line = text[found.start():].splitlines()[0].strip()
            with self.subTest(path=path.relative_to(_ROOT), line=line):
              self.fail('say what it is, as in: Random seed of all draws.')

  def test_plain_words(self):
    for folder in ('walt_jax', 'configs', 'docs', 'launch'):
      for path in sorted((_ROOT / folder).rglob('*')):
        if path.suffix in ('.py', '.md', '.sh', '.yaml'):
          for line in path.read_text().splitlines():
            if _WORDS.search(line) and not any(k in line for k in _KEPT):
              with self.subTest(path=path.relative_to(_ROOT), line=line):
                self.fail('say fix, continue, baseline')


if __name__ == '__main__':
  absltest.main()
