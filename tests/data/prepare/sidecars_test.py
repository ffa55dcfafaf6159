"""Texts beside clips: whose they are, what they say, in folders and tars."""
import io
import json
import pathlib
import tarfile
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.data.prepare import listing
from walt_jax.data.prepare import sidecars
from walt_jax.data.prepare import tar_shards
from walt_jax.data.prepare import video_folders

# Members -> (captions, label) by clip, and texts that describe none.
_CASES = (
    ('text', {'a.mp4': b'x', 'a.txt': b' a dog\n'},
     {'a.mp4': (('a dog',), None)}, ()),
    ('dots', {'a.b.mp4': b'x', 'a.b.txt': b'a dog', 'a.c.mp4': b'x',
              'a.c.json': b'{"Caption": "a cat"}'},
     {'a.b.mp4': (('a dog',), None), 'a.c.mp4': (('a cat',), None)}, ()),
    ('behind_the_suffix', {'a.mp4': b'x', 'a.mp4.txt': b'a dog'},
     {'a.mp4': (('a dog',), None)}, ()),
    ('folders', {'p/a.mp4': b'x', 'q/a.mp4': b'x', 'q/a.txt': b'a dog'},
     {'p/a.mp4': ((), None), 'q/a.mp4': (('a dog',), None)}, ()),
    ('class', {'a.mp4': b'x', 'a.cls': b'3.0\n'}, {'a.mp4': ((), '3')}, ()),
    ('class_words', {'a.mp4': b'x', 'a.cls': b'JumpHigh'},
     {'a.mp4': (('jump high',), 'JumpHigh')}, ()),
    ('object', {'a.mp4': b'x', 'a.json': b'{"Prompt": "a dog", "Class": 2.0}'},
     {'a.mp4': (('a dog',), '2')}, ()),
    ('several', {'a.mp4': b'x', 'a.json': b'{"captions": ["x", "y", "x"]}'},
     {'a.mp4': (('x', 'y'), None)}, ()),
    ('text_before_object', {
        'a.mp4': b'x', 'a.txt': b'one',
        'a.json': b'{"caption": "two", "label": "pet"}'},
     {'a.mp4': (('one',), 'pet')}, ()),
    ('marked', {'a.mp4': b'x', 'a.txt': b'\xef\xbb\xbfa dog', 'b.mp4': b'x',
                'b.json': '{"text": "caf\u00e9"}'.encode('utf-16')},
     {'a.mp4': (('a dog',), None), 'b.mp4': (('caf\u00e9',), None)}, ()),
    ('empty', {'a.mp4': b'x', 'a.txt': b''}, {'a.mp4': ((), None)}, ()),
    ('capitals', {'A.MP4': b'x', 'A.TXT': b'a dog'},
     {'A.MP4': (('a dog',), None)}, ()),
    ('alone', {'a.mp4': b'x', 'b.txt': b'a dog'}, {'a.mp4': ((), None)},
     ('b.txt',)))
_NAMED = [(case[0], *case[1:]) for case in _CASES]


def _write_tar(path, members):
  with tarfile.open(path, 'w') as tar:
    for name, data in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))


class SidecarsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _folder(self, members, **options):
    for name, data in members.items():
      path = self.root / 'in' / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data)
    return video_folders.list_folder(self.root / 'in', **options)

  def _tar(self, members):
    _write_tar(self.root / 'a.tar', members)
    found = tar_shards.scan(self.root, listing.TarFile('a.tar', 1))
    return ({file.path.removeprefix('a.tar/'): file for file in found.files},
            {entry.file.removeprefix('a.tar/'): entry.reason
             for entry in found.rejected})

  @parameterized.named_parameters(*_NAMED)
  def test_in_a_tar_shard(self, members, wanted, alone):
    files, rejected = self._tar(members)
    self.assertEqual(
        {name: (file.captions, file.label) for name, file in files.items()},
        {name: (captions, label or 'unlabelled')
         for name, (captions, label) in wanted.items()})
    self.assertEqual(tuple(rejected), alone)

  @parameterized.named_parameters(*_NAMED)
  def test_in_a_folder(self, members, wanted, alone):
    found = self._folder(members)
    # A class folder says what no text beside the clip does.
    folder = lambda name: name.rpartition('/')[0]
    self.assertEqual(
        {file.path: (file.captions, file.label) for file in found.files},
        {name: (captions or ((folder(name),) if folder(name) else ()),
                label or folder(name) or 'unlabelled')
         for name, (captions, label) in wanted.items()})
    self.assertEqual(tuple(r.file for r in found.rejected), alone)
    texts = {name for name in members if sidecars.is_one(name)}
    self.assertEqual(set(found.annotations), texts - set(alone))

  @parameterized.parameters(
      ('a.json', b'[1]', "'a.json': it is not an object"),
      ('a.json', b'{', "'a.json': Expecting property"),
      ('a.json', b'{"label": 2.5}', "'a.json': the label is 2.5"),
      ('a.txt', b'\xff\xfe\xfa', "'a.txt': .*utf-16"),
      ('a.txt', b'caf\xe9', "'a.txt': .*utf-8"),
      ('a.txt', b'a\0b\0', "'a.txt': it holds NUL"),
      ('a.txt', b'x' * (sidecars.MAX_BYTES + 1), "'a.txt': more than 1048576"))
  def test_a_clip_whose_text_cannot_be_read_is_refused(self, name, data, said):
    members = {'a.mp4': b'x', 'b.mp4': b'x', name: data}
    files, reasons = self._tar(members)
    self.assertEqual(list(files), ['b.mp4'])
    self.assertRegex(reasons['a.mp4'], f'cannot read {said}')
    found = self._folder(members)
    self.assertEqual([file.path for file in found.files], ['b.mp4'])
    self.assertRegex(found.rejected[0].reason, f'cannot read {said}')

  def test_webdataset_keys_serve_all_clips_of_a_sample(self):
    files, rejected = self._tar({
        'a.left.mp4': b'x', 'a.right.mp4': b'x', 'a.json': b'{"text": "both"}',
        'a.right.txt': b'right'})
    self.assertEqual({name: file.captions for name, file in files.items()},
                     {'a.left.mp4': ('both',), 'a.right.mp4': ('right',)})
    self.assertEmpty(rejected)

  def test_folders_of_frames_have_texts_beside_them(self):
    found = self._folder(
        {f'{clip}/{frame:05d}.png': b'x' for clip in ('a.1', 'b')
         for frame in range(1, 5)} | {
             'a.1.txt': b'a dog', 'b.json': b'{"text": "a cat"}'},
        frame_folders=True)
    self.assertEqual({file.path: file.captions for file in found.files},
                     {'a.1': ('a dog',), 'b': ('a cat',)})
    self.assertEmpty(found.rejected)

  def test_a_table_decides_alone(self):
    (self.root / 'in').mkdir()
    (self.root / 'in' / 'captions.jsonl').write_text(
        json.dumps(dict(file='a.mp4', caption='of the table')))
    found = self._folder({'a.mp4': b'x', 'a.txt': b'beside'})
    self.assertEqual(found.files[0].captions, ('of the table',))
    self.assertEqual([(r.file, r.reason) for r in found.rejected], [
        ('a.txt', 'not read: captions.jsonl describes the files')])


if __name__ == '__main__':
  absltest.main()
