"""Every input is accounted for, by name; no clip crosses a cut."""
import dataclasses
import io
import json
import os
import pathlib
import tarfile
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.data import video_files
from walt_jax.data.prepare import accounts
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import prepare
from walt_jax.data.prepare import work_items
from walt_jax.data.storage import codecs
from walt_jax.data.storage import examples
from walt_jax.media import decode
from walt_jax.media import video_info

_CUT = video_info.Place(0.9, 9, 'time jumps by 3600.0 s')
_BROKEN = tuple(video_info.Place(k / 10, k, f'concealed {k}')
                for k in range(5))


class CutFile:
  """A reader of segments of so many frames; frame k is filled with k."""

  def __init__(self, *lengths):
    self.info = video_info.VideoInfo(10.0, 16, 16)
    self._lengths = lengths

  def segments(self):
    start = 0
    for length in self._lengths:
      yield decode.Segment(start / 10, (
          np.full((16, 16, 3), k, np.uint8)
          for k in range(start, start + length)))
      start += length
    self.info = dataclasses.replace(
        self.info, cuts=(_CUT,) * (len(self._lengths) - 1))


class AccountsTest(parameterized.TestCase):

  @parameterized.parameters(
      ((9, 7), [(0, 9), (9, 16)]),
      ((4, 13, 2), [(4, 14)]),  # 14 to 17 are no clip of their own.
      ((25,), [(0, 10), (10, 20), (20, 25)]),
      ((4, 4), []))
  def test_no_clip_crosses_a_cut(self, lengths, wanted):
    file = listing.InputFile('a.ts', 'x', (), 'a.ts', 1)
    settings = work_items.Settings(
        size=16, min_frames=5, clip_frames=10, codec='png')
    found = []

    def run():
      for record, row in work_items.process_file(
          file, CutFile(*lengths), work_items.Schema(('x',)), settings):
        features = examples.decode(record)
        clip = codecs.decode_frames(features['video'])[:, 0, 0, 0]
        self.assertEqual(features['key'], [f'a.ts#{len(found)}'.encode()])
        self.assertEqual(row[0], len(clip))
        np.testing.assert_array_equal(np.diff(clip), 1)
        found.append((clip[0], clip[-1] + 1))

    if wanted:
      run()
    else:
      with self.assertRaisesRegex(
          decode.ClipError, 'in one piece; cut: time jumps .*, at 0.90 s'):
        run()
    self.assertEqual(found, wanted)

  @parameterized.parameters(
      (dict(clips=2, reason=''), {}, dict(used=1), ''),
      (dict(clips=0, reason='no video'), {}, dict(rejected=1), ''),
      (dict(clips=2, reason='damaged: ends'), {}, dict(used=1, damaged=1),
       'damaged: ends; kept 2 clips'),
      (dict(clips=2, reason=''), dict(damage=_BROKEN), dict(used=1, damaged=1),
       'concealed 0, at 0.00 s (frame 0); concealed 1, at 0.10 s (frame 1); '
       'concealed 2, at 0.20 s (frame 2); 2 more places; kept 2 clips'),
      (dict(clips=2, reason=''), dict(cuts=(_CUT,)),
       dict(used=1, with_cuts=1), ''),
      (dict(clips=2, reason=''), dict(deinterlaced=7),
       dict(used=1, deinterlaced=1), ''))
  def test_what_a_reader_tells_is_counted(self, said, info, wanted, damage):
    account = accounts.of_file('a.ts', frames=9, info=video_info.VideoInfo(
        10.0, 16, 16, **info), **said)
    self.assertEqual(json.loads(json.dumps(account)), account)
    summary = accounts.summary([account])
    zero = dict.fromkeys(('used', 'rejected', 'damaged', 'missing', 'hidden',
                          'with_cuts', 'deinterlaced'), 0)
    self.assertEqual(summary['counts'], zero | dict(files=1) | wanted)
    self.assertEqual([entry['reason'] for entry in summary['damaged']],
                     [damage] if damage else [])
    self.assertEqual([entry['reason'] for entry in summary['rejected']],
                     [said['reason']] if wanted.get('rejected') else [])
    self.assertEqual(summary['cuts'], [dict(
        file='a.ts', places=[dataclasses.asdict(_CUT)])]
                     if 'cuts' in info else [])
    self.assertEqual(summary['deinterlaced'], [dict(
        file='a.ts', frames=7)] if 'deinterlaced' in info else [])

  def test_every_name_in_the_folder_is_in_the_list(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    folder = root / 'in'
    video_files.write_video(folder / 'a' / 'good.avi', 12)
    video_files.write_video(folder / 'a' / 'short.avi', 3)
    (folder / 'a' / '.DS_Store').write_bytes(b'x')
    (folder / '.git').mkdir()
    (folder / 'notes.txt').write_text('words')
    (folder / 'a' / os.fsdecode(b'\xff.avi')).write_bytes(b'')
    (folder / 'captions.csv').write_text(
        'file,caption\na/good.avi,x\na/short.avi,x\na/gone.avi,x\n')
    manifest = prepare.prepare(folder, root / 'out', work_items.Settings(
        size=16, min_frames=5))
    lines = [json.loads(line) for line in
             (root / 'out' / manifest['inputs']['file']).read_bytes(
             ).splitlines()]
    self.assertEqual([(line['file'], line['outcome']) for line in lines], [
        ('.git', 'hidden'), ('a/.DS_Store', 'hidden'),
        ('a/gone.avi', 'missing'), ('a/good.avi', 'used'),
        ('a/short.avi', 'rejected'), ('a/\udcff.avi', 'rejected'),
        ('captions.csv', 'annotations'), ('notes.txt', 'rejected')])
    self.assertEqual((lines[3]['clips'], lines[3]['frames']), (1, 12))
    for line in lines:
      if line['outcome'] in ('rejected', 'missing'):
        self.assertNotEmpty(line['reason'])

  def test_every_member_of_a_tar_shard_is_in_the_list(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (root / 'in').mkdir()
    video_files.write_video(root / 'v.mp4', 12)
    video = (root / 'v.mp4').read_bytes()
    with tarfile.open(root / 'in' / 'a.tar', 'w') as tar:
      def add(name, data=b'', **fields):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for field, value in fields.items():
          setattr(info, field, value)
        tar.addfile(info, io.BytesIO(data))
      add('./0.mp4', video)
      add('./0.txt', b'a wall')
      add('./0.mp4', video)
      add('._0.mp4', b'what a Mac leaves beside')
      add('.git/1.mp4', video)
      add('d', type=tarfile.DIRTYPE)
      add('2.mp4', type=tarfile.SYMTYPE, linkname='0.mp4')
      add('3.jpg', b'no image')
    tarfile.open(root / 'in' / 'empty.tar', 'w').close()
    manifest = prepare.prepare(root / 'in', root / 'out', work_items.Settings(
        size=16, min_frames=5))
    counts = manifest['counts']
    self.assertEqual(
        (counts['files'], counts['used'], counts['rejected'],
         counts['hidden'], counts['clips']), (5, 1, 4, 2, 1))
    lines = [json.loads(line) for line in
             (root / 'out' / 'inputs.jsonl').read_bytes().splitlines()]
    self.assertEqual(
        [(line['file'].removeprefix('a.tar/'), line['outcome'])
         for line in lines],
        [('./0.mp4', 'used'), ('./0.mp4', 'rejected'),
         ('./0.txt', 'annotations'), ('._0.mp4', 'hidden'),
         ('.git/1.mp4', 'hidden'), ('2.mp4', 'rejected'),
         ('3.jpg', 'rejected'), ('empty.tar', 'rejected')])
    reasons = [line['reason'] for line in lines if 'reason' in line]
    for reason, wanted in zip(reasons, (
        'a second member', 'not a regular', 'as HEIC is not', 'holds no'),
                              strict=True):
      self.assertIn(wanted, reason)
    self.assertNotIn('object at', ' '.join(reasons))


if __name__ == '__main__':
  absltest.main()
