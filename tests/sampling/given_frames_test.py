"""What a clip begins with: images cut and resized, the end of videos."""
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import errors
from walt_jax.media import video
from walt_jax.sampling import given_frames
from walt_jax.sampling import requests


class GivenTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def test_an_image_of_the_right_size_stays_as_it_is(self):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    video.write_png(self.folder / 'a.png', image)
    request = requests.Request(image=str(self.folder / 'a.png'))
    read = given_frames.read(request, given_frames.Size(16, 24), 5, 8.0)
    np.testing.assert_array_equal(read, image[None])

  @parameterized.parameters((None, 8.0, [5, 6, 7, 8, 9]),
                            (8.0, None, [5, 6, 7, 8, 9]),
                            (16.0, 8.0, [0, 2, 4, 6, 8]))
  def test_the_end_of_a_video(self, rate, trained, kept):
    frames = np.zeros((10, 32, 32, 3), np.uint8)
    frames[:] = 20 * np.arange(10)[:, None, None, None]
    path = self.folder / ('v.npy' if rate is None else 'v.mp4')
    if rate is None:
      np.save(path, frames)
    else:
      video.write_mp4(path, frames, rate)
    request = requests.Request(video=str(path))
    read = given_frames.read(request, given_frames.Size(32, 32), 5, trained)
    self.assertEqual(read.shape, (5, 32, 32, 3))
    grey = read.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(grey, 20 * np.array(kept), atol=3)

  def test_refusals(self):
    np.save(self.folder / 'short.npy', np.zeros((4, 8, 8, 3), np.uint8))
    (self.folder / 'text.png').write_text('no image')
    for kind, name, said in (
        ('video', 'short.npy', '4 frames.*5'), ('image', 'text.png', 'image'),
        ('image', 'none.png', 'none.png'), ('video', 'none.mp4', 'none.mp4')):
      request = requests.Request(**{kind: str(self.folder / name)})
      with self.assertRaisesRegex(errors.UserError, said):
        given_frames.read(request, given_frames.Size(8, 8), 5, 8.0)

  def test_lower_stages_see_means_of_boxes(self):
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    low, none = given_frames.at_size([frames, None], given_frames.Size(4, 4))
    self.assertIsNone(none)
    want = frames.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    self.assertLessEqual(np.abs(low - want).max(), 0.51)


if __name__ == '__main__':
  absltest.main()
