"""What the input may be: annotations of every kind, tar shards, splits."""
import io
import json
import pathlib
import tarfile
import tempfile

from absl.testing import absltest
import numpy as np
from PIL import Image
import pyarrow
from pyarrow import parquet

from tests.data import video_files
from tests.data.prepare import input_folder
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.data.prepare import video_folders
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import names as names_lib

write_video = video_files.write_video


class InputsTest(input_folder.InputTest):

  def test_captions_in_three_formats_say_the_same(self):
    self.touch('a/x.mkv', 'y.mkv', 'unnamed.mkv')
    rows = [dict(file='a/x.mkv', caption='a grey wall', label='wall',
                 split='train', start=None, end=None),
            dict(file='y.mkv', caption='a grey sky', label='sky', split='val',
                 start=1.5, end=4.0),
            dict(file='gone.mkv', caption='nothing', label='sky',
                 split='train', start=None, end=None),
            dict(file='y.mkv', caption='bad', label='sky', split='sometimes',
                 start=None, end=None)]
    lines = ''.join(json.dumps(row) + '\n' for row in rows) + 'no json\n'
    listings = []
    for name in ('captions.jsonl', 'captions.csv', 'captions.parquet'):
      path = self.input / name
      if name.endswith('jsonl'):
        path.write_text(lines)
      elif name.endswith('csv'):
        path.write_text('\ufeff' + ','.join(rows[0]) + '\n' + ''.join(
            ','.join('' if v is None else str(v) for v in row.values()) + '\n'
            for row in rows), encoding='utf-8')
      else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
      listings.append(self.list_input())
      path.unlink()
    for found in listings:
      self.assertEqual(
          [(f.key, f.label, *f.captions, f.split) for f in found.files],
          [('a/x.mkv', 'wall', 'a grey wall', 'train'),
           ('y.mkv@1.5-4', 'sky', 'a grey sky', 'heldout')])
      self.assertEqual([r.file for r in found.rejected], ['unnamed.mkv'])
      self.assertRegex(found.rejected[0].reason, 'not named in captions')
      missing = {r.file: r.reason for r in found.missing}
      self.assertRegex(missing.pop('gone.mkv'), r'captions\S*:\d.*no such')
      self.assertIn("unknown split 'sometimes'", ' '.join(missing.values()))
    self.assertIn('captions.jsonl:5', {r.file for r in listings[0].missing})

  def test_short_captions_serve_as_classes(self):
    self.touch('x.mkv', 'y.mkv')
    lines = [dict(path='x.mkv', text='book'), dict(path='x.mkv', text='book'),
             dict(path='y.mkv', text='read')]
    (self.input / 'captions.jsonl').write_text(
        '\n'.join(map(json.dumps, lines)))
    found = self.list_input()
    self.assertEqual([(f.key, f.label) for f in found.files],
                     [('x.mkv', 'book'), ('y.mkv', 'read')])

  def test_ucf101_official_lists(self):
    self.touch('Biking/v_Biking_g08_c01.avi', 'v_Archery_g01_c01.avi',
                'Biking/v_Biking_g09_c01.avi')
    lists = self.root / 'ucfTrainTestlist'
    lists.mkdir()
    (lists / 'classInd.txt').write_text('1 Archery\n2 Biking\n3 YoYo\n')
    (lists / 'trainlist02.txt').write_text('Biking/v_Biking_g08_c01.avi 2\n')
    (lists / 'testlist02.txt').write_text(
        'Archery/v_Archery_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi\nnonsense\n')
    found = self.list_input(lists, ucf_split=2)
    self.assertEqual([(f.label, f.split, *f.captions) for f in found.files],
                     [('Biking', 'train', 'biking'),
                      ('Archery', 'heldout', 'archery')])
    self.assertEqual(found.known_classes, ('Archery', 'Biking', 'YoYo'))
    self.assertEqual([r.file for r in found.rejected],
                     ['Biking/v_Biking_g09_c01.avi'])
    self.assertEqual({r.file for r in found.missing},
                     {'YoYo/v_YoYo_g01_c01.avi', 'testlist02.txt:3'})
    with self.assertRaisesRegex(errors.UserError, 'trainlist03'):
      self.list_input(lists, ucf_split=3)

  def test_kinetics_lists(self):
    self.touch('train/abc-_d_000010_000020.mp4', 'val/whole.mkv', 'else.mp4')
    train, val = self.root / 'train.csv', self.root / 'val.csv'
    head = 'label,youtube_id,time_start,time_end,split\n'
    train.write_text(head + 'arm wrestling,abc-_d,10,20,train\n'
                     'arm wrestling,gone,1,11,train\n')
    val.write_text(head + 'blowing leaves,whole,5,15,validate\n'
                   'blowing leaves,whole,20,30,validate\nx,y,9,3,validate\n')
    found = self.list_input(train, val)
    self.assertEqual(
        [(f.key, f.label, f.split) for f in found.files],
        [('train/abc-_d_000010_000020.mp4', 'arm wrestling', 'train'),
         ('val/whole.mkv@5-15', 'blowing leaves', 'heldout'),
         ('val/whole.mkv@20-30', 'blowing leaves', 'heldout')])
    self.assertEqual([r.file for r in found.rejected], ['else.mp4'])
    self.assertEqual([r.file for r in found.missing], ['gone', 'val.csv:4'])

  def test_unknown_annotations_are_refused(self):
    self.touch('a.avi')
    other = self.root / 'words.txt'
    other.write_text('a.avi sky')
    with self.assertRaisesRegex(errors.UserError, 'words.txt'):
      self.list_input(other)
    with self.assertRaisesRegex(errors.UserError, 'cannot read.*none.csv'):
      self.list_input(self.root / 'none.csv')
    kinetics, captions = self.root / 'k.csv', self.root / 'c.csv'
    kinetics.write_text('youtube_id,time_start,time_end\na,0,1\n')
    captions.write_text('file,caption\na.avi,sky\n')
    with self.assertRaisesRegex(errors.UserError, 'different kinds'):
      self.list_input(kinetics, captions)

  def test_split_folders_and_class_folders(self):
    self.touch('train/cat/a.jpg', 'val/dog/b.jpg', 'notes/c.jpg')
    found = video_folders.list_folder(self.input, split_folders=True)
    self.assertEqual([(f.label, f.split) for f in found.files],
                     [('cat', 'train'), ('dog', 'heldout')])
    self.assertEqual([r.file for r in found.rejected], ['notes/c.jpg'])

  def test_spaced(self):
    self.assertEqual(names_lib.spaced('ApplyEyeMakeup'), 'apply eye makeup')
    self.assertEqual(names_lib.spaced('tai_chi-2'), 'tai chi 2')


class TarShardsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.root / 'in').mkdir()

  def _write(self, name, members):
    with tarfile.open(self.root / 'in' / name, 'w') as tar:
      for member, data in members.items():
        info = tarfile.TarInfo(member)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))

  def _prepare(self, name='out', workers=1):
    return prepare.prepare(
        self.root / 'in', self.root / name,
        prepare.Settings(size=16, min_frames=1, clip_frames=12, heldout=0.5),
        on=prepare.Engine(workers=workers))

  def test_samples(self):
    write_video(self.root / 'v.mp4', value=70)
    video = (self.root / 'v.mp4').read_bytes()
    image = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(image, 'PNG')
    self._write('a.tar', {
        '000.mp4': video, '000.txt': b'a grey wall', '000.cls': b'10',
        '001.png': image.getvalue(),
        '001.json': b'{"caption": "a picture", "label": 2}',
        '002.mp4': b'', '003.txt': b'nothing to see',
        '004.mp4': b'no video', '004.cls': b'2',
        '005.mp4': video, '005.json': b'[1]', 'README': b'words'})
    self._write('b.tar', {'x/000.mp4': video, 'x/000.cls': b'2'})
    data = (self.root / 'in' / 'b.tar').read_bytes()
    (self.root / 'in' / 'cut.tar').write_bytes(data[:900])
    (self.root / 'in' / 'odd.tar').write_text('not a tar file at all')
    manifest = self._prepare()
    self.assertEqual(manifest['classes'], ['2', '10'])  # As numbers.
    reasons = {r['file']: r['reason'] for r in manifest['rejected']}
    for name, reason in (
        ('a.tar/002.mp4', 'empty'), ('a.tar/003.txt', 'without a video'),
        ('a.tar/004.mp4', 'Invalid'),
        ('a.tar/005.mp4', "cannot read '005.json'"),
        ('a.tar/README', 'without a suffix'), ('cut.tar', 'damaged after 0'),
        ('odd.tar', 'damaged after 0')):
      self.assertIn(reason, reasons.pop(name))
    self.assertEmpty(reasons)
    counts = manifest['counts']
    self.assertEqual((counts['files'], counts['used'], counts['clips']),
                     (10, 3, 3))
    found = {}
    for split in names_lib.SPLITS:
      dataset = dataset_lib.PreparedDataset(self.root / 'out', split)
      for row in range(len(dataset)):
        example = dataset[row]
        found[example['key']] = (dataset.classes[example['label']],
                                 example['caption'], len(example['encoded']))
    self.assertEqual(found, {
        'a.tar/000.mp4#0': ('10', 'a grey wall', 12),
        'a.tar/001.png#0': ('2', 'a picture', 1),
        'b.tar/x/000.mp4#0': ('2', '', 12)})
    self._prepare('again', workers=2)
    self.assertEqual(video_files.content(self.root / 'again'),
                     video_files.content(self.root / 'out'))


if __name__ == '__main__':
  absltest.main()
