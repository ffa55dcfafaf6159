"""Exit codes: one table, which the documents repeat."""
import pathlib
import re

from absl.testing import absltest

from walt_jax.core import exit_codes

_DOCS = pathlib.Path(__file__).resolve().parents[2] / 'docs'


class ExitCodesTest(absltest.TestCase):

  def test_the_table_of_the_documents(self):
    text = (_DOCS / 'troubleshooting.md').read_text()
    section = text.partition('## Exit codes')[2].partition('\n## ')[0]
    self.assertEqual(
        tuple(map(int, re.findall(r'^\| (\d+) \|', section, re.MULTILINE))),
        exit_codes.ALL)

  def test_the_issue_names_them(self):
    self.assertEqual(exit_codes.ALL, (0, 1, 2, 75, 76, 130, 141))
    self.assertEqual(exit_codes.FINAL, (0, 2, 75, 130))


if __name__ == '__main__':
  absltest.main()
