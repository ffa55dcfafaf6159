"""What a visitor of the demo may ask for, and what the demo tells."""
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from walt_jax.commands import demo
from walt_jax.commands import demo_limits
from walt_jax.core import errors
from walt_jax.media import samples


class LimitsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.limits = demo_limits.Limits(
        frames=72, prompt=20, upload=5000, pixels=1000)

  def test_prompts_have_a_bound(self):
    self.limits.check_prompt('x' * 20)
    with self.assertRaisesRegex(errors.UserError, '21 characters; it may have'):
      self.limits.check_prompt('x' * 21)

  def test_images_have_bounds(self):
    self.limits.check_image('')
    path = self.folder / 'image.png'
    Image.new('RGB', (25, 40)).save(path)
    self.limits.check_image(str(path))
    Image.new('1', (1001, 1)).save(path)
    with self.assertRaisesRegex(errors.UserError, '1001 x 1; it may have 1000'):
      self.limits.check_image(str(path))
    path.write_bytes(bytes(5001))
    with self.assertRaisesRegex(errors.UserError, '5001 bytes; it may have'):
      self.limits.check_image(str(path))
    path.write_bytes(b'no image')
    with self.assertRaisesRegex(errors.UserError, 'no image that can be read'):
      self.limits.check_image(str(path))

  @parameterized.parameters(0, 73, 1.5, None, float('nan'), float('inf'), -1)
  def test_numbers_have_bounds(self, value):
    with self.assertRaisesRegex(errors.UserError, 'Frames must be a whole '
                                'number from 1 to 72, not'):
      demo._whole(value, 'Frames', 1, 72)

  def test_the_oldest_clips_go(self):
    kept = demo_limits.Kept(250)
    folders = [self.folder / str(i) for i in range(5)]
    for folder, size in zip(folders, (100, 100, 100, 300, 10), strict=True):
      folder.mkdir()
      (folder / 'clip').write_bytes(bytes(size))
      kept.add(folder)
    self.assertEqual([folder.exists() for folder in folders],
                     [False] * 4 + [True])

  @parameterized.parameters(
      ("cannot read '/tmp/a b/x.png': no such file",
       "Cannot read 'a b/x.png': no such file."),
      ("cannot read '/tmp/gradio/0af/x.png'.", "Cannot read 'x.png'."),
      ('gs://bucket/run/base holds no run', 'Base holds no run.'),
      ('1/2 of 3 m/s', '1/2 of 3 m/s.'), ('', 'It failed.'),
      ('a red/green/blue kite', 'A red/green/blue kite.'),
      ('base:/srv/runs/base', 'Base:base.'))
  def test_errors_are_sentences_without_paths(self, text, said):
    self.assertEqual(demo_limits.sentence(ValueError(text)), said)

  def test_the_record_that_is_offered_tells_no_path(self):
    record = samples.StageRecord('base', '/home/user/runs/base', 1, 'x')
    samples.write_samples(
        self.folder, np.zeros((1, 2, 8, 8, 3), np.uint8),
        [samples.Entry('00000', caption='a seven')], 8, mp4=False,
        stages=[record])
    names = demo_limits.offered(self.folder)
    text = (self.folder / 'samples.json').read_text()
    self.assertNotIn('/home', text)
    self.assertEqual(json.loads(text)['stages'][0]['workdir'], 'base')
    self.assertIn(str(self.folder / '00000.npy'), names)
    self.assertEqual(
        samples.read_samples(self.folder).entries[0].caption, 'a seven')

  def test_who_has_left_is_not_drawn_for(self):
    visitors = demo_limits.Visitors()
    visitors.check('a')
    visitors.leave('a')
    visitors.leave(None)
    visitors.check(None)
    visitors.check('b')
    with self.assertRaises(demo_limits.AbandonedError):
      visitors.check('a')


if __name__ == '__main__':
  absltest.main()
