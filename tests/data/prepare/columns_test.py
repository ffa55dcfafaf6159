"""Cells of tables: names of columns, captions, classes of any number type."""
import decimal
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow
from pyarrow import parquet

from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import columns
from walt_jax.data.prepare import listing


class LabelsTest(parameterized.TestCase):

  @parameterized.parameters(
      3, 3.0, '3', ' 3 ', '3.0', '3.', '+3', decimal.Decimal('3'),
      decimal.Decimal('3.00'), np.int8(3), np.uint64(3), np.int64(3),
      np.float16(3), np.float32(3), np.float64(3))
  def test_three_is_one_class(self, value):
    self.assertEqual(columns.class_name(value), '3')

  @parameterized.parameters(True, np.True_, 1, 1.0, '1', 'true', 'True', 'TRUE')
  def test_true_is_class_one(self, value):
    self.assertEqual(columns.class_name(value), '1')

  @parameterized.parameters(False, np.False_, 0, -0.0, '0', '0.0', 'False')
  def test_false_is_class_zero(self, value):
    self.assertEqual(columns.class_name(value), '0')

  @parameterized.parameters(
      None, '', '  ', float('nan'), np.float32('nan'), decimal.Decimal('nan'))
  def test_nothing_is_no_class(self, value):
    self.assertIsNone(columns.class_name(value))

  @parameterized.parameters('cat', 'n01440764', '007', '1e3', '3a', '-', 'nan')
  def test_names_stay(self, value):
    self.assertEqual(columns.class_name(f' {value} '), value)

  @parameterized.parameters(2.5, np.float32(0.1), float('inf'), ([3],), b'3',
                            '2.5', '.5', '-0.25')
  def test_no_whole_number_and_no_name(self, value):
    with self.assertRaisesRegex(ValueError, 'the label is'):
      columns.class_name(value)

  def test_large_numbers_are_exact(self):
    self.assertEqual(columns.class_name(2**63 + 1), str(2**63 + 1))
    self.assertEqual(columns.class_name(f'{2**63 + 1}.0'), str(2**63 + 1))

  def test_the_same_class_from_every_kind_of_table(self):
    values = [1, 2, 10]
    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      names = [f'{value}.mp4' for value in values]
      found = []
      for kind, column in (
          ('int8', pyarrow.array(values, pyarrow.int8())),
          ('float', pyarrow.array([1.0, 2.0, 10.0])),
          ('decimal', pyarrow.array(map(decimal.Decimal, values))),
          ('text', pyarrow.array(map(str, values)))):
        path = folder / f'{kind}.parquet'
        parquet.write_table(pyarrow.table({'file': names, 'label': column}),
                            path)
        found.append(annotations.read([path]))
      for kind in ('{}', '{}.0', '"{}"'):
        path = folder / 'lines.jsonl'
        path.write_text('\n'.join(
            f'{{"file": "{name}", "label": {kind.format(value)}}}'
            for name, value in zip(names, values, strict=True)))
        found.append(annotations.read([path]))
        path = folder / 'lines.csv'
        path.write_text('file,label\n' + '\n'.join(
            f'{name},{kind.format(value)}'
            for name, value in zip(names, values, strict=True)))
        found.append(annotations.read([path]))
    for one in found:
      labels = [line.label for line in one.lines]
      self.assertEqual(labels, ['1', '2', '10'])
      self.assertEqual(listing.class_names(set(labels), None),
                       ('1', '2', '10'))


class NamesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('file', 'file'), (' File Name ', 'file'), ('FILE_NAME', 'file'),
      ('Video-Path', 'file'), ('video', 'file'), ('Caption', 'caption'),
      ('TEXT', 'caption'), ('prompt', 'caption'), ('caption 2', 'caption'),
      ('caption_10', 'caption'), ('Class', 'label'), ('time_start', 'start'),
      ('Start Time', 'start'), ('label2', None), ('file3', None),
      ('aesthetic score', None), ('', None))
  def test_roles(self, name, role):
    self.assertEqual(columns.role_of(columns.normalised(name)), role)

  @parameterized.parameters(
      (dict(caption='a'), ('a',)), (dict(text=' a '), ('a',)),
      (dict(prompt='a'), ('a',)), (dict(caption='', text='b'), ('b',)),
      (dict(caption='a', prompt='b'), ('a',)),
      (dict(caption=['a', 'b', 'a', '']), ('a', 'b')),
      (dict(caption_1='a', caption_2='b', caption3='c'), ('a', 'b', 'c')),
      (dict(captions=('a',)), ('a',)), (dict(caption=7), ('7',)),
      (dict(caption=None), ()), (dict(caption=float('nan')), ()), ({}, ()))
  def test_captions(self, row, wanted):
    self.assertEqual(columns.captions(row), wanted)

  @parameterized.parameters(({'a': 1},), (True,), (b'a',))
  def test_a_caption_is_a_text(self, value):
    with self.assertRaisesRegex(ValueError, 'not a text'):
      columns.captions(dict(caption=value))

  @parameterized.parameters(
      (dict(start=2, end=1), 'before it starts'), (dict(start=-1), 'no time'),
      (dict(end='x'), 'could not convert'), (dict(split='odd'), "split 'odd'"),
      (dict(file=None), 'names no file'), (dict(file=3), 'file is 3'))
  def test_lines_that_cannot_be_used(self, cells, said):
    with self.assertRaisesRegex(ValueError, said):
      columns.caption_line(dict(file='a.mp4') | cells, 't:1')

  def test_a_line(self):
    line = columns.caption_line(json.loads(
        '{"file": "a.mp4", "caption": "x", "label": 3.0, "split": "val", '
        '"start": NaN, "end": "2.5"}'), 't:1')
    self.assertEqual(
        (line.name, line.where, line.captions, line.label, line.split,
         line.segment), ('a.mp4', 't:1', ('x',), '3', 'heldout', (None, 2.5)))


if __name__ == '__main__':
  absltest.main()
