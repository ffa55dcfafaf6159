"""Folders of frames are prepared as clips; other images stay images."""
import json
import pathlib
import tempfile

from absl.testing import absltest
from PIL import Image

from tests.data import video_files
from walt_jax.core import errors
from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import prepare
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib


class FrameFoldersTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.input = self.root / 'in'
    for number in range(1, 13):
      self._image(f'walk/a/{number}.png', number)
      if number not in (7, 8):
        self._image(f'walk/b/{number:03d}.png', number)
    for name in ('one', 'two'):  # Numbered, too, but of unlike names.
      self._image(f'other/{name}_1.png', 99)

  def _image(self, name, value):
    path = self.input / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (24, 16), (value,) * 3).save(path)

  def _prepare(self, name='out', **settings):
    self.manifest = prepare.prepare(
        self.input, self.root / name, prepare.Settings(
            size=16, codec='png', heldout=0, clip_frames=6, **settings))
    lines = (self.root / name / 'inputs.jsonl').read_text().splitlines()
    self.accounts = {line['file']: line for line in map(json.loads, lines)}
    dataset = dataset_lib.PreparedDataset(self.root / name)
    return {
        example['key']: (
            dataset.classes[example['label']], example['fps'],
            codecs.decode_frames(example['encoded']).mean((1, 2, 3)).tolist())
        for example in (dataset[row] for row in range(len(dataset)))}

  def test_clips(self):
    for fps, rate in ((None, 25.0), (10.0, 10.0)):
      clips = self._prepare(f'out{fps}', min_frames=3, fps=fps)
      self.assertEqual(clips, {
          'walk/a#0': ('walk', rate, [1, 2, 3, 4, 5, 6]),
          'walk/a#1': ('walk', rate, [7, 8, 9, 10, 11, 12]),
          'walk/b#0': ('walk', rate, [1, 2, 3, 4, 5, 6]),
          'walk/b#1': ('walk', rate, [9, 10, 11, 12])})
      counts = self.manifest['counts']
      self.assertEqual((counts['files'], counts['used'], counts['rejected'],
                        counts['with_cuts']), (4, 2, 2, 1))
      self.assertEqual(self.manifest['frame_folders'],
                       dict(count=2, images=22, fps=rate))
      cut, = self.manifest['cuts']
      self.assertEqual(cut, dict(file='walk/b', places=[dict(
          time=6 / rate, frame=6,
          reason='2 frames missing between 006.png and 009.png')]))
      self.assertEqual(self.accounts['walk/b']['images'], 10)
      self.assertRegex(self.accounts['other/one_1.png']['reason'],
                       'shorter than 3 frames .--num_frames 1 takes still')

  def test_images(self):
    images = self._prepare(min_frames=1)
    self.assertLen(images, 24)
    self.assertEqual(images['walk/a/7.png#0'], ('walk/a', 1, [7]))
    self.assertEqual(self.manifest['frame_folders'],
                     dict(count=0, images=0, fps=None))

  def test_the_input_itself_may_be_a_clip(self):
    self.input = self.input / 'walk' / 'a'
    self.assertEqual(self._prepare(min_frames=3), {
        '.#0': ('unlabelled', 25, [1, 2, 3, 4, 5, 6]),
        '.#1': ('unlabelled', 25, [7, 8, 9, 10, 11, 12])})

  def test_captions_of_folders(self):
    video_files.write_video(self.input / 'v.avi', 6)
    (self.input / 'captions.csv').write_text(
        'file,caption,start,end\nwalk/b,a grey wall,0.32,\nv.avi,a video,,\n')
    clips = self._prepare(min_frames=3)
    self.assertEqual(list(clips), ['v.avi#0', 'walk/b@0.32-#0'])
    self.assertEqual(clips['walk/b@0.32-#0'][2], [9, 10, 11, 12])
    self.assertEqual(self.accounts['walk/a']['reason'],
                     'not named in captions.csv')

  def test_ucf101_lists_name_folders_by_their_videos(self):
    (self.input / 'walk' / 'a').rename(self.input / 'v_Biking_g08_c01')
    (self.input / 'walk' / 'b').rename(self.input / 'v_Archery_g01_c01')
    lists = self.root / 'ucfTrainTestlist'
    lists.mkdir()
    (lists / 'classInd.txt').write_text('1 Archery\n2 Biking\n')
    (lists / 'trainlist01.txt').write_text('Biking/v_Biking_g08_c01.avi 2\n')
    (lists / 'testlist01.txt').write_text('Archery/v_Archery_g01_c01.avi\n')
    prepare.prepare(
        self.input, self.root / 'out', prepare.Settings(
            size=16, codec='png', min_frames=3),
        annotations=annotations.read([lists]))
    for split, found in (('train', ('v_Biking_g08_c01#0', 1)),
                         ('heldout', ('v_Archery_g01_c01#0', 0))):
      example = dataset_lib.PreparedDataset(self.root / 'out', split)[0]
      self.assertEqual((example['key'], example['label']), found)

  def test_a_folder_of_which_nothing_can_be_read(self):
    for path in (self.input / 'walk').rglob('*.png'):
      path.write_bytes(b'x')
    with self.assertRaisesRegex(errors.UserError, 'walk/a.*1.png: .*format'):
      self._prepare(min_frames=3)


if __name__ == '__main__':
  absltest.main()
