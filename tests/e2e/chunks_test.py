"""`--stream` and `--tile` through the commands: equal to whole clips."""
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.e2e import tiny
from walt_jax.data.sources import moving_digits
from walt_jax.media import samples as samples_lib


class ChunksTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))

  def sample(self, name, *argv):
    out = self.folder / name
    result = tiny.walt(
        'sample', '--workdir', tiny.run('rollout'), '--out', out, '--prompt',
        'a seven moves left', '--num_frames', 12, '--steps', 2, *argv)
    self.assertEqual(result.code, 0, result.err)
    return samples_lib.read_samples(out)

  def test_samples_are_equal(self):
    whole = self.sample('whole')
    for name, argv, settings in (
        ('stream', ['--stream'], dict(stream=True, tile=None, tiles=None)),
        ('tiles', ['--stream', '--tile', 2],
         dict(stream=True, tile=2, tiles='exact'))):
      with self.subTest(name):
        chunked = self.sample(name, *argv)
        # A value may be rounded the other way.
        np.testing.assert_allclose(
            chunked.clips().astype(int), whole.clips(), atol=1)
        self.assertEqual(
            {key: chunked.settings[key] for key in settings}, settings)
        self.assertEqual(whole.settings['tile'], None)

  def reconstruct(self, workdir, *argv):
    source = moving_digits.MovingDigits(
        split='heldout', num_examples=3, size=32, num_frames=9)
    clips = self.folder / 'clips.npy'
    np.save(clips, np.stack([source[i]['video'] for i in range(3)]))
    out = self.folder / 'result.json'
    result = tiny.walt(
        'evaluate', 'reconstruction', '--workdir', workdir, '--real', clips,
        '--frames', 5, '--json', out, '--overwrite', *argv)
    self.assertEqual(result.code, 0, result.err)
    return json.loads(out.read_text())

  def test_reconstructions_are_equal(self):
    workdir = tiny.run('tokenizer')
    whole = self.reconstruct(workdir)
    self.assertEqual((whole['stream'], whole['tile']), (False, None))
    for argv in (['--stream'], ['--tile', 3], ['--stream', '--tile', 1]):
      with self.subTest(argv=argv):
        chunked = self.reconstruct(workdir, *argv)
        self.assertAlmostEqual(chunked['psnr'], whole['psnr'], delta=1e-3)
        self.assertEqual(chunked['tiles'],
                         'exact' if '--tile' in argv else None)

  def test_tiles_of_whole_frame_norms_are_blended(self):
    workdir = self.folder / 'group'
    tiny.train('tokenizer', workdir, 1, model__norm='group')
    whole = self.reconstruct(workdir)
    streamed = self.reconstruct(workdir, '--stream')
    self.assertAlmostEqual(streamed['psnr'], whole['psnr'], delta=1e-3)
    tiled = self.reconstruct(workdir, '--tile', 3)
    self.assertEqual(tiled['tiles'], 'blended')
    self.assertNotEqual(tiled['psnr'], whole['psnr'])
    self.assertAlmostEqual(tiled['psnr'], whole['psnr'], delta=3.0)

  @parameterized.parameters(
      (['--stream'], '--stream: the clips of --generated'),
      (['--tile', '4'], '--tile 4: the clips of --generated'),
      (['--tile', '0'], "'0' is not a whole number of 1"))
  def test_refusals(self, argv, said):
    clips = self.folder / 'clips.npy'
    np.save(clips, np.zeros((1, 5, 32, 32, 3), np.uint8))
    result = tiny.walt(
        'evaluate', 'reconstruction', '--real', clips, '--generated', clips,
        '--json', self.folder / 'result.json', *argv)
    self.assertEqual(result.code, 2)
    self.assertRegex(result.err, rf'\Awalt: error: [^\n]*{said}[^\n]*\n\Z')


if __name__ == '__main__':
  absltest.main()
