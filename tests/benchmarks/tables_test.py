"""The documents' tables are those of the results."""
from absl.testing import absltest

from benchmarks import tables


class TablesTest(absltest.TestCase):

  def test_documents_are_up_to_date(self):
    self.assertEqual(list(tables.outdated()), [], 'run `make tables`')

  def test_only_the_table_is_written(self):
    table = tables.Table('sums', 'x.md', 'decoding.json', ('case', 'frames'),
                         lambda result: [
                             (name, str(row['frames'])) for name, row in sorted(
                                 result['rows'].items())[:1]])
    text = 'Before.\n\n<!-- table sums -->\n{}<!-- end -->\n\nAfter.\n'
    wanted = text.format(
        '\n| case | frames |\n| --- | --- |\n| bird@prepared | 63 |\n\n')
    for old in ('', '\n| case |\n'):
      self.assertEqual(tables.updated(text.format(old), [table]), wanted)

  def test_a_table_without_its_place_is_told(self):
    name = tables.TABLES[0].name
    with self.assertRaisesRegex(ValueError, f'0 places for the table {name}'):
      tables.updated('no table here', tables.TABLES[:1])


if __name__ == '__main__':
  absltest.main()
