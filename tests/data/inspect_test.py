"""`walt data inspect`: what it says is what is there."""
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
from PIL import Image

from tests.data import video_files
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.data import inspect
from walt_jax.data import latent_cache
from walt_jax.data.prepare import prepare
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.media import contact_sheet


def _encode(pixels):
  mean = pixels[:, ::4, ::8, ::8] / 128 - 1
  return types.Posterior(mean=mean, logvar=-mean)


class InspectTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for name, count in (('JumpHigh', 3), ('sit', 5)):
      for number in range(count):
        video_files.write_video(
            self.root / 'in' / name / f'{number}.avi', value=90,
            rate=10 if number else 20, num_frames=12 + 4 * number)
    (self.root / 'in' / 'sit' / 'bad.avi').write_text('x')
    self.data = self.root / 'data'
    prepare.prepare(self.root / 'in', self.data, prepare.Settings(
        size=16, min_frames=5, heldout=0.0))

  def test_dataset(self):
    lines = inspect.inspect(self.data, num_clips=4)
    text = '\n'.join(lines)
    for pattern in ('files 9, used 8, rejected 1',
                    r"rejected: 1 x InvalidDataError \(such as 'sit/bad.avi'\)",
                    r'train: 8 clips, \d+ frames, 8 shards',
                    r'16 x 21 +8  #{40}', r'10 +6  #{40}', r'20 +2  #{13}\n',
                    r'28 +1 ', 'classes: 2, 3 to 5 clips', r'sit +5  #{40}',
                    r'JumpHigh +3  #{24}\n', 'heldout: 0 clips',
                    'contact sheet: .*contact_sheet.png'):
      self.assertRegex(text, pattern)
    with Image.open(self.data / 'contact_sheet.png') as sheet:
      self.assertGreater(sheet.width, 9 * 96)
      self.assertGreater(sheet.height, 4 * 96)
      pixels = np.asarray(sheet)
    self.assertGreater((np.abs(pixels.astype(int) - 90) < 5).mean(), 0.3)
    with self.assertRaisesRegex(errors.UserError, '--out'):
      inspect.inspect(self.data, self.root / 'no' / 'folder.png')

  def test_frames_are_numbered_as_in_the_clip(self):
    with mock.patch.object(contact_sheet, 'contact_sheet',
                           wraps=contact_sheet.contact_sheet) as draw:
      inspect.inspect(self.data)
    clips, captions = draw.call_args.args
    for clip, caption, numbers in zip(
        clips, captions, draw.call_args.kwargs['numbers'], strict=True):
      frames = int(caption.split('(')[1].split()[0])
      self.assertEqual((numbers[0], numbers[-1]), (0, frames - 1))
      self.assertLen(numbers, len(clip))

  def test_what_was_not_plain_is_said(self):
    for number in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11):
      path = self.root / 'frames' / 'a' / f'{number}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.new('RGB', (20, 16)).save(path)
    prepare.prepare(self.root / 'frames', self.root / 'clips',
                    prepare.Settings(size=16, min_frames=5, fps=12.5))
    text = '\n'.join(inspect.inspect(self.root / 'clips'))
    for pattern in (r"cuts: in 1 files \(such as 'a'\)", 'with_cuts 1',
                    '1 files are folders of .*to have 12.5 frames/s'):
      self.assertRegex(text, pattern)

  def test_reasons_of_one_kind_are_counted_together(self):
    reasons = ['the file ends after 1.00 of 4.00 seconds, at 0.9 s (frame 9)',
               'the file ends after 2.50 of 3.00 seconds, at 1 s (frame 8)',
               '00001.png: OSError: cut', 'a1.png: ValueError']
    lines = inspect._reasons(dict(damaged=[
        dict(file=f'{k}.mkv', reason=reason)
        for k, reason in enumerate(reasons)]))
    self.assertEqual(list(lines)[0], (
        "  damaged: 2 x the file ends after N of N seconds (such as '0.mkv')"))

  def test_latent_cache(self):
    settings = latent_cache.CacheSettings(
        tokenizer_sha256='ab' * 32, num_frames=13, size=16)
    splits = dict(train=dataset_lib.PreparedDataset(self.data))
    with self.assertLogs('walt_jax', 'WARNING'):
      latent_cache.write_cache(splits, self.root / 'latents', settings,
                               encode=_encode)
    text = '\n'.join(inspect.inspect(self.root / 'latents'))
    for pattern in ('tokenizer: abab', 'train: 6 clips',
                    "left out as too short: 2, such as 'JumpHigh/0.avi#0'",
                    'mean: 4 x 2 x 2 x 3', 'logvar: 4 x 2 x 2 x 3',
                    r'mean by channel, of 6 clips: -0\.'):
      self.assertRegex(text, pattern)

  def test_anything_else_is_refused(self):
    with self.assertRaisesRegex(errors.UserError, 'not a prepared dataset'):
      inspect.inspect(self.root)


if __name__ == '__main__':
  absltest.main()
