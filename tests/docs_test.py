"""Links of the documents lead somewhere; messages they quote are the code's."""
import ast
import pathlib
import re

from absl.testing import absltest

_ROOT = pathlib.Path(__file__).parents[1]
_DOCUMENTS = (*_ROOT.glob('*.md'), *_ROOT.glob('docs/**/*.md'),
              *_ROOT.glob('launch/*.md'))
_LINK = re.compile(r'\]\(([^)#\s]+)(#[^)]*)?\)')
_FILE = re.compile(r'```python\n# (my_\w+\.py)\n(.*?)```', re.DOTALL)
_LONGEST_EXAMPLE = 30  # Lines.
_README_WORDS = 700
_FEWEST_WORDS = 4  # Of a quoted message; shorter spans are names.


def messages() -> list[str]:
  """All texts of the package; what is filled in reads '\\0'."""
  found = []
  for path in (_ROOT / 'walt_jax').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.JoinedStr):
        found.append(''.join(
            part.value if isinstance(part, ast.Constant) else '\0'
            for part in node.values))
      elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        found.append(node.value)
  return found


def quoted(text: str) -> list[str]:
  """Messages in the first column of tables: several words of code."""
  rows = [line.split(' | ')[0] for line in text.splitlines()
          if line.startswith('| ')]
  spans = [span for row in rows for span in re.findall(r'`([^`]+)`', row)]
  return [span for span in spans if len(span.split()) >= _FEWEST_WORDS
          and not span.startswith('RESOURCE_EXHAUSTED')]


class DocsTest(absltest.TestCase):

  def test_links_lead_to_files(self):
    for document in _DOCUMENTS:
      for target, _ in _LINK.findall(document.read_text()):
        if not target.startswith(('http://', 'https://')):
          with self.subTest(document=document.name, target=target):
            self.assertTrue((document.parent / target).exists())

  def test_messages_of_troubleshooting_are_the_programs_own(self):
    known = messages()
    found = quoted((_ROOT / 'docs' / 'troubleshooting.md').read_text())
    self.assertGreater(len(found), 15)
    for message in found:
      pattern = re.compile('.*'.join(
          re.escape(part.strip()) for part in re.split(r'\.\.', message)),
          re.DOTALL)
      with self.subTest(message):
        self.assertTrue(any(pattern.search(text) for text in known))

  def test_examples_of_own_classes_are_files_that_tests_run(self):
    text = (_ROOT / 'docs' / 'architecture.md').read_text()
    own = _ROOT / 'tests' / 'extensions' / 'own'
    shown = dict(_FILE.findall(text))
    self.assertEqual(set(shown), {path.name for path in own.glob('my_*.py')})
    for name, code in shown.items():
      self.assertEqual(code, (own / name).read_text(), name)
      self.assertLess(len(code.splitlines()), _LONGEST_EXAMPLE, name)

  def test_readme_is_short(self):
    text = re.sub(r'```.*?```', '', (_ROOT / 'README.md').read_text(),
                  flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith('|')]
    self.assertLessEqual(len(' '.join(prose).split()), _README_WORDS)


if __name__ == '__main__':
  absltest.main()
