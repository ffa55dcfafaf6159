"""Tables of captions on disk: encodings, places, duplicates, what is wrong."""
import codecs
import csv
import io
import json
import os

from absl.testing import absltest
from absl.testing import parameterized
import pyarrow
from pyarrow import parquet

from tests.data.prepare import input_folder
from walt_jax.core import errors
from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import video_folders

_ROWS = [{'File Name': 'a/x.mkv', 'Prompt': 'a caf\u00e9, "open"'},
         {'File Name': 'y.mkv', 'Prompt': '\u96ea'}]


def _csv(rows, delimiter=','):
  out = io.StringIO(newline='')
  writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()


def _jsonl(rows):
  return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


class TablesTest(input_folder.InputTest, parameterized.TestCase):

  def _write(self, name, text):
    (self.input / name).parent.mkdir(parents=True, exist_ok=True)
    (self.input / name).write_text(text, newline='')

  def _captions(self, *paths):
    found = self.list_input(*paths)
    self.assertEmpty(found.missing)
    return {file.key: file.captions for file in found.files}

  @parameterized.product(
      name=('captions.csv', 'captions.tsv', 'captions.jsonl', 'metadata.csv',
            'Metadata.JSONL'),
      encoding=('utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be',
                'utf-32'))
  def test_encodings_with_their_marks(self, name, encoding):
    self.touch('a/x.mkv', 'y.mkv')
    text = _jsonl(_ROWS) if name.lower().endswith('jsonl') else _csv(
        _ROWS, '\t' if name.endswith('tsv') else ',')
    mark = {'utf-16-le': codecs.BOM_UTF16_LE,
            'utf-16-be': codecs.BOM_UTF16_BE}.get(encoding, b'')
    (self.input / name).write_bytes(mark + text.encode(encoding))
    self.assertEqual(self._captions(), {
        'a/x.mkv': ('a caf\u00e9, "open"',), 'y.mkv': ('\u96ea',)})

  @parameterized.parameters('metadata.csv', 'metadata.jsonl',
                            'metadata.parquet', 'captions.csv')
  def test_tables_of_folders_name_files_beside_them(self, name):
    self.touch('train/1.mkv', 'train/more/2.mkv', 'test/1.mkv')
    for split, rows in (
        ('train', [dict(file_name='1.mkv', text='one'),
                   dict(file_name='more/2.mkv', text='two')]),
        ('test', [dict(file_name='1.mkv', text='three')])):
      if name.endswith('parquet'):
        parquet.write_table(pyarrow.Table.from_pylist(rows),
                            self.input / split / name)
      else:
        self._write(f'{split}/{name}',
                    _csv(rows) if name.endswith('csv') else _jsonl(rows))
    self.assertEqual(self._captions(), {
        'train/1.mkv': ('one',), 'train/more/2.mkv': ('two',),
        'test/1.mkv': ('three',)})
    found = video_folders.list_folder(self.input, split_folders=True)
    self.assertEqual({file.path: file.split for file in found.files}, {
        'train/1.mkv': 'train', 'train/more/2.mkv': 'train',
        'test/1.mkv': 'heldout'})
    self.assertCountEqual(found.annotations,
                          [f'train/{name}', f'test/{name}'])

  def test_spellings_of_names(self):
    self.touch('a/x.mkv', 'a/y.mkv', 'a/z.mkv')
    table = self.root / 'words.csv'
    table.write_text('\n'.join((
        'path,text', f'{self.input}/a/x.mkv,one', 'a\\y.mkv,two',
        'D:\\elsewhere\\z.mkv,three')))
    self.assertEqual(self._captions(table), {
        'a/x.mkv': ('one',), 'a/y.mkv': ('two',), 'a/z.mkv': ('three',)})
    os.symlink(self.input, self.root / 'link')
    found = video_folders.list_folder(
        self.root / 'link', annotations=annotations.read([table]))
    self.assertEmpty(found.missing)

  def test_duplicates(self):
    self.touch('x.mkv', 'y.mkv', 'z.mkv')
    self._write('captions.jsonl', _jsonl([
        dict(file='x.mkv', caption='one'), dict(file='./x.mkv', caption='two'),
        dict(file='x.mkv', caption=' one '),
        dict(file='x.mkv', caption='late', start=3),
        dict(file='y.mkv', caption='one', split='train'),
        dict(file='y.mkv', caption='two', split='test'),
        dict(file='z.mkv', caption='one', label=1),
        dict(file='z.mkv', caption='two', label='1.0'),
        dict(file='z.mkv', caption='three', label=2)]))
    found = self.list_input()
    self.assertEqual(
        {file.key: (file.captions, file.label, file.split)
         for file in found.files}, {
             'x.mkv': (('one', 'two'), 'unlabelled', None),
             'x.mkv@3-': (('late',), 'unlabelled', None),
             'y.mkv': (('one',), 'unlabelled', 'train'),
             'z.mkv': (('one', 'two'), '1', None),
             'z.mkv~1': (('three',), '2', None)})
    contradiction, = found.missing
    self.assertEqual(contradiction.file, 'captions.jsonl:6')
    self.assertRegex(contradiction.reason, 'heldout, but captions.jsonl:5')

  def test_lines_that_cannot_be_used_are_named(self):
    self.touch('x.mkv', 'y.mkv')
    self._write('captions.csv', 'file,caption,label,start\nx.mkv,a, b,c,d,1\n'
                'x.mkv,a,c,1\ny.mkv,"b,c,\n,a,c,1\ny.mkv,a,2.5,\n'
                'y.mkv,b,c,x\ny.mkv,b,c,2,\ny.mkv,a,c\n')
    found = self.list_input()
    self.assertEqual([file.key for file in found.files],
                     ['x.mkv@1-', 'y.mkv'])
    reasons = {entry.file: entry.reason for entry in found.missing}
    for line, reason in (
        (2, '6 fields for 4 columns'), (4, 'a quote is never closed'),
        (5, 'names no file'), (6, 'label is 2.5'), (7, 'could not convert'),
        (8, '5 fields for 4 columns')):
      self.assertRegex(reasons.pop(f'captions.csv:{line}'), reason)
    self.assertEmpty(reasons)

  @parameterized.named_parameters(
      ('no_file_column', 'captions.csv', 'name,caption\nx.mkv,a\n',
       "captions.csv has no column of file names.*'name', 'caption'.*file_nam"),
      ('no_file_key', 'captions.jsonl', '{"name": "x.mkv"}\n',
       "captions.jsonl has no column of file names.*'name'"),
      ('nothing_said', 'metadata.csv', 'file_name,description\nx.mkv,a\n',
       "metadata.csv says nothing.*'description'.*caption, captions, text"),
      ('no_line', 'captions.csv', 'file,caption\n',
       'no line of captions.csv can be used: it has none'),
      ('no_usable_line', 'captions.jsonl', 'words\n',
       'no line of captions.jsonl can be used .captions.jsonl:1: cannot use'),
      ('empty', 'captions.jsonl', '', 'captions.jsonl can be used: it has no'),
      ('other_files', 'captions.csv', 'file,caption\np.mkv,a\nq.mkv,b\n',
       "none of the 2 lines of captions.csv.*names 'p.mkv'.*such as 'x.mkv'"),
      ('latin', 'captions.csv', 'file,caption\nx.mkv,caf\udce9\n',
       "cannot read '.*captions.csv': .*0xe9.*save it as UTF-8"))
  def test_a_table_of_which_nothing_is_used_is_an_error(self, name, text, said):
    self.touch('x.mkv')
    (self.input / name).write_bytes(text.encode('utf-8', 'surrogateescape'))
    with self.assertRaisesRegex(errors.UserError, said) as caught:
      self.list_input()
    self.assertNotIn('\n', str(caught.exception))

  def test_each_table_must_be_of_use(self):
    self.touch('x.mkv')
    self._write('captions.csv', 'file,caption\nx.mkv,a\n')
    self._write('metadata.csv', 'file_name,text\ny.mkv,a\n')
    with self.assertRaisesRegex(errors.UserError, '1 lines of metadata.csv'):
      self.list_input()
    (self.input / 'metadata.csv').unlink()
    self.assertEqual(self._captions(), {'x.mkv': ('a',)})

  def test_an_error_of_a_table_that_was_found_says_so(self):
    self.touch('x.mkv')
    self._write('more/metadata.csv', 'id,price\n1,2\n')
    with self.assertRaisesRegex(
        errors.UserError, "more/metadata.csv has no .*'id', 'price'.*rename"):
      self.list_input()

  def test_tables_in_the_input_give_way_to_those_that_are_named(self):
    self.touch('x.mkv', 'y.mkv')
    self._write('captions.csv', 'file,caption\nx.mkv,a\n')
    self._write('a.tsv', 'file\tcaption\ny.mkv\tb\n')
    found = self.list_input(self.input / 'a.tsv')
    self.assertEqual([file.captions for file in found.files], [('b',)])
    self.assertEqual(
        [(r.file, r.reason) for r in found.rejected],
        [('captions.csv', 'not read: a.tsv describes the files'),
         ('x.mkv', 'not named in a.tsv')])

  def test_parquet_of_lists_beside_columns_that_are_not_read(self):
    self.touch('x.mkv', 'y.mkv')
    parquet.write_table(pyarrow.table({
        'Video': ['x.mkv', 'y.mkv'], 'captions': [['one', 'two'], ['three']],
        'bytes': [b'1' * 9, b'2' * 9],
        'label': pyarrow.array([1.0, None])}), self.input / 'captions.parquet')
    found = self.list_input()
    self.assertEqual({file.path: (file.captions, file.label)
                      for file in found.files}, {
                          'x.mkv': (('one', 'two'), '1'),
                          'y.mkv': (('three',), 'unlabelled')})
    (self.input / 'captions.parquet').write_bytes(b'words')
    with self.assertRaisesRegex(errors.UserError, 'cannot read .*parquet'):
      self.list_input()

  def test_part_of_ucf101_may_be_there(self):
    self.touch('v_Biking_g08_c01.avi')
    lists = self.root / 'lists'
    lists.mkdir()
    (lists / 'classInd.txt').write_bytes(b'\xef\xbb\xbf1 Biking\r\n')
    (lists / 'trainlist01.txt').write_text('Biking\\v_Biking_g08_c01.avi 1\n')
    (lists / 'testlist01.txt').write_text('Biking/v_Biking_g01_c01.avi\n')
    found = self.list_input(lists)
    self.assertEqual([(file.label, file.split) for file in found.files],
                     [('Biking', 'train')])
    self.assertLen(found.missing, 1)
    (self.input / 'v_Biking_g08_c01.avi').rename(self.input / 'other.avi')
    with self.assertRaisesRegex(errors.UserError, '2 lines of lists'):
      self.list_input(lists)

  def test_a_list_of_files_alone_chooses_them(self):
    self.touch('x.mkv', 'y.mkv')
    self._write('captions.csv', 'file\nx.mkv\n')
    found = self.list_input()
    self.assertEqual([file.key for file in found.files], ['x.mkv'])
    self.assertEqual([entry.file for entry in found.rejected], ['y.mkv'])
    self.assertEqual(found.files[0].label, listing.UNLABELLED)


if __name__ == '__main__':
  absltest.main()
