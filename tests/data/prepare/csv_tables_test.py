"""CSV tables: as Python's csv module reads them, and as people write them."""
import csv
import io
import random

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.data.prepare import csv_tables

_NAMES = ('file', 'caption')


def _read(text, names=_NAMES):
  """Rows as tuples of some columns, by line number; and bad lines."""
  bad = []
  rows = {number: tuple(row.get(name) for name in names)
          for number, row in csv_tables.read(
              io.StringIO(text, newline=''), 't.csv', bad)}
  return rows, {entry.file: entry.reason for entry in bad}


class CsvTablesTest(parameterized.TestCase):

  @parameterized.product(
      delimiter=(',', ';', '\t', '|'), end=('\n', '\r\n', '\r'),
      quoting=(csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
  def test_what_the_csv_module_writes_is_read(self, delimiter, end, quoting):
    rng = random.Random(7)
    written = [
        (f'{row}.mp4', ''.join(rng.choices('ab ,;|"\t\u00e9', k=9)).strip())
        for row in range(40)]
    out = io.StringIO(newline='')
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end,
                        quoting=quoting)
    writer.writerows([('File', 'Caption'), *written])
    rows, bad = _read(out.getvalue())
    self.assertEqual(list(rows.values()), written)
    self.assertEmpty(bad)

  @parameterized.named_parameters(
      ('blanks_around_names', ' File , CAPTION\na.mp4,a dog\n',
       {2: ('a.mp4', 'a dog')}),
      ('blank_lines', '\nfile,caption\n\na.mp4,a dog\n\n',
       {4: ('a.mp4', 'a dog')}),
      ('a_blank_before_a_quote', 'file,caption\na.mp4, "a dog, running"\n',
       {2: ('a.mp4', 'a dog, running')}),
      ('inches', 'file,caption\na.mp4,a 5" screen\n',
       {2: ('a.mp4', 'a 5" screen')}),
      ('lines_in_quotes', 'file,caption\na.mp4,"a\ndog"\nb.mp4,cat\n',
       {2: ('a.mp4', 'a\ndog'), 4: ('b.mp4', 'cat')}),
      ('a_comma_at_the_end', 'file,caption\na.mp4,a dog, running, fast\n',
       {2: ('a.mp4', 'a dog, running, fast')}),
      ('a_comma_before_numbers',
       'file,caption,start\na.mp4,a dog, running,1.5\nb.mp4,cat,2\n',
       {2: ('a.mp4', 'a dog, running'), 3: ('b.mp4', 'cat')}),
      ('a_comma_before_a_known_class',
       'file,caption,label\nb.mp4,cat,pet\na.mp4,a dog,running,pet\n',
       {3: ('a.mp4', 'a dog,running'), 2: ('b.mp4', 'cat')}),
      ('a_comma_before_a_known_split',
       'file,caption,split\na.mp4,a dog, running,test\n',
       {2: ('a.mp4', 'a dog, running')}),
      ('a_comma_before_another_number',
       'file,caption,score\nb.mp4,cat,0.5\na.mp4,a dog, running,0.25\n',
       {2: ('b.mp4', 'cat'), 3: ('a.mp4', 'a dog, running')}),
      ('a_comma_in_a_file_name', 'file,label\na.mp4,x\na, b.mp4,x\n',
       {2: ('a.mp4', None), 3: ('a, b.mp4', None)}),
      ('a_version_number_is_no_suffix',
       'file,caption\na.mp4,model 2.5\na.mp4,a, model 2.5\n',
       {2: ('a.mp4', 'model 2.5'), 3: ('a.mp4', 'a, model 2.5')}),
      ('a_file_in_a_text', 'file,caption\na.mp4,like b.mp4, but red\n',
       {2: ('a.mp4', 'like b.mp4, but red')}),
      ('columns_of_one_name', 'file,caption,caption\na.mp4,one,two\n',
       {2: ('a.mp4', ['one', 'two'])}),
      ('optional_columns_left_out', 'file,caption,start\na.mp4,a dog\n',
       {2: ('a.mp4', 'a dog')}))
  def test_read_in_the_one_way_there_is(self, text, wanted):
    rows, bad = _read(text)
    self.assertEqual(rows, wanted)
    self.assertEmpty(bad)

  @parameterized.named_parameters(
      ('two_texts', 'file,caption,notes\na.mp4,a dog, running,x\n',
       {'t.csv:2': "4 fields for 3 columns.*','.*quotes.*caption or notes"},
       {}),
      ('an_unknown_class', 'file,caption,label\nb.mp4,cat,pet\n'
       'a.mp4,a dog,running,wild\n', {'t.csv:3': 'no column can hold it'},
       {2: ('b.mp4', 'cat')}),
      ('too_few', 'file,caption\na.mp4\nb.mp4,cat\n',
       {'t.csv:2': '1 fields for 2 columns'}, {3: ('b.mp4', 'cat')}),
      ('an_open_quote', 'file,caption\na.mp4,"a dog\nb.mp4,cat\nc.mp4,"x"\n',
       {'t.csv:2': 'text follows a closing quote|never closed'},
       {3: ('b.mp4', 'cat'), 4: ('c.mp4', 'x')}),
      ('an_open_quote_at_the_end', 'file,caption\nb.mp4,cat\na.mp4,"a dog\n',
       {'t.csv:3': 'a quote is never closed'}, {2: ('b.mp4', 'cat')}),
      ('text_behind_a_quote', 'file,caption\na.mp4,"a" dog\nb.mp4,cat\n',
       {'t.csv:2': 'inside a quoted text twice'}, {3: ('b.mp4', 'cat')}),
      ('an_endless_field', f'file,caption\na.mp4,{"x" * 140_000}\nb.mp4,cat\n',
       {'t.csv:2': 'larger than field limit'}, {3: ('b.mp4', 'cat')}))
  def test_refused_by_line_and_the_rest_is_read(self, text, reasons, wanted):
    rows, bad = _read(text)
    self.assertEqual(rows, wanted)
    self.assertEqual(bad.keys(), reasons.keys())
    for line, reason in reasons.items():
      self.assertRegex(bad[line], reason)

  def test_an_open_quote_loses_no_line_of_a_long_table(self):
    lines = [f'{row}.mp4,caption {row}\n' for row in range(1000)]
    lines[500] = '500.mp4,"left open\n'
    rows, bad = _read('file,caption\n' + ''.join(lines))
    self.assertLen(rows, 999)
    self.assertEqual(list(bad), ['t.csv:502'])

  @parameterized.parameters(
      ('', 'is empty.*file_name'), ('\n \n', 'is empty'),
      ('a.mp4,a dog\n', "no column of file names.*'a.mp4', 'a_dog'.*file_name"),
      ('name;words\n', "'name', 'words'"))
  def test_a_header_must_name_the_files(self, text, said):
    with self.assertRaisesRegex(errors.UserError, said):
      _read(text)


if __name__ == '__main__':
  absltest.main()
