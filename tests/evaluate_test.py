"""`walt evaluate` on folders and arrays: results, and one-line refusals."""
import argparse
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax import cli
from walt_jax import errors
from walt_jax import evaluate
from walt_jax.data import moving_digits
from walt_jax.media import samples
from walt_jax.media import video
from walt_jax.metrics import control


def _args(metric: str, **given) -> argparse.Namespace:
  """The flags as the command line gives them, some of them changed."""
  args = cli.parse(['evaluate', metric, '--generated', 'x', '--json', 'x'])
  for name, value in (dict(generated=None, json=None) | given).items():
    setattr(args, name, value)
  return args


class EvaluateTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)

  def array(self, name: str, clips: np.ndarray) -> str:
    path = self.folder / f'{name}.npy'
    np.save(path, clips)
    return str(path)

  def clips(self, count=2, frames=9, size=32, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(
        0, 256, (count, frames, size, size, 3)).astype(np.uint8)

  def refused(self, metric: str, pattern: str, **given):
    with self.assertRaisesRegex(errors.UserError, pattern) as raised:
      evaluate.run(_args(metric, **given))
    self.assertNotIn('\n', str(raised.exception))

  def test_fvd_of_arrays_and_of_samples(self):
    clips = self.clips()
    real = self.array('real', clips)
    folder = self.folder / 'samples'
    samples.write_samples(
        folder, clips, [samples.Entry(stem=str(i)) for i in range(2)], 8.0)
    out = self.folder / 'fvd.json'
    evaluate.run(_args('fvd', real=real, generated=str(folder),
                       json=str(out)))
    result = json.loads(out.read_text())
    self.assertLess(abs(result['value']), 0.5)
    self.assertEqual(
        {name: result[name] for name in (
            'metric', 'num_real', 'num_generated', 'frames', 'preprocessing',
            'covariance', 'protocol', 'comparable_to')},
        dict(metric='fvd', num_real=2, num_generated=2, frames=9,
             preprocessing='tf1-bilinear-224', covariance='unbiased',
             protocol='quick', comparable_to=[]))
    self.assertEqual(result['values'], [result['value']])
    self.assertLen(result['network']['sha256'], 64)

  def test_reconstruction_of_pairs(self):
    clips = self.clips(frames=5)
    out = self.folder / 'pairs.json'
    evaluate.run(_args(
        'reconstruction', real=self.array('a', clips),
        generated=self.array('b', 255 - clips), json=str(out)))
    result = json.loads(out.read_text())
    expected = -10 * np.log10(np.mean(np.square(
        (2.0 * clips - 255) / 255), axis=(1, 2, 3, 4))).mean()
    self.assertAlmostEqual(result['psnr'], expected, places=3)
    self.assertIsNone(result['rfvd'])  # Too few frames for I3D.
    self.assertEqual(result['network']['name'], 'efficientnet-lite0')

  def test_control_of_samples(self):
    clips, digits, directions = control.held_out_clips(12)
    names = [f'{moving_digits.WORDS[digit]} {moving_digits.DIRECTIONS[way]}'
             for digit, way in zip(digits, directions, strict=True)]
    folder = self.folder / 'samples'
    samples.write_samples(folder, clips, [
        samples.Entry(stem=str(i), label=name)
        for i, name in enumerate(names)], 8.0)
    out = self.folder / 'control.json'
    evaluate.run(_args('control', generated=str(folder), json=str(out)))
    result = json.loads(out.read_text())
    self.assertEqual(result['direction']['accuracy'], 1.0)
    self.assertGreater(result['value'], 0.7)
    self.assertGreaterEqual(result['readers']['real']['digit']['low'], 0.9)
    self.assertIsNone(result['readers']['reconstruction'])

  @parameterized.parameters(
      (np.zeros((2, 16, 8, 8, 3), np.float32), 'float32'),
      (np.zeros((2, 16, 8, 8), np.uint8), 'grey'),
      (np.zeros((2, 16, 8, 8, 1), np.uint8), 'grey'),
      (np.zeros((0, 16, 8, 8, 3), np.uint8), 'shape'),
      (np.zeros((2, 5, 8, 8, 3), np.uint8), 'at least 9'))
  def test_unfit_arrays_are_refused(self, array, pattern):
    path = self.array('x', array)
    self.refused('fvd', pattern, real=path, generated=path)

  def test_unfit_sets_are_refused(self):
    real = self.array('real', self.clips())
    for name, array, pattern in (
        ('size', self.clips(size=40), 'one size'),
        ('long', self.clips(frames=12), '--frames')):
      self.refused('fvd', pattern, real=real, generated=self.array(name, array))
    self.refused('fvd', 'no folder', real=real, generated='/no/such/folder')
    self.refused('fvd', '--real', generated=real)
    self.refused('fvd', 'fewer', real=real, generated=real, frames=10)
    self.refused('fvd', 'protocol', real=real, generated=real,
                 protocol='mine')
    self.refused('fvd', '10000', real=real, generated=real,
                 protocol='ucf101-magvit')
    self.refused('fvd', '--json', real=real, generated=real,
                 json='/no/such/folder/x.json')
    self.refused('reconstruction', 'as many', real=real,
                 generated=self.array('more', self.clips(count=3)))

  def test_unfit_folders_are_refused(self):
    real = self.array('real', self.clips())
    empty = self.folder / 'empty'
    empty.mkdir()
    self.refused('fvd', 'holds no videos', real=real, generated=str(empty))
    mixed = self.folder / 'mixed'
    mixed.mkdir()
    video.write_png(mixed / 'a.png', self.clips()[0, 0])
    video.write_mp4(mixed / 'a.mp4', self.clips()[0], 8.0)
    self.refused('fvd', 'mixes', real=real, generated=str(mixed))
    damaged = self.folder / 'damaged'
    damaged.mkdir()
    (damaged / 'a.mp4').write_bytes(b'no video')
    self.refused('fvd', 'a.mp4', real=real, generated=str(damaged))
    sizes = self.folder / 'sizes'
    sizes.mkdir()
    for i, size in enumerate((32, 40)):
      np.save(sizes / f'{i}.npy', self.clips(size=size)[0])
    self.refused('fvd', '1.npy', real=real, generated=str(sizes), frames=9)
    self.refused('control', 'samples.json', generated=str(sizes))

  def test_compare_refuses_unlike_results(self):
    base = dict(metric='fvd', value=3.0, num_real=5, num_generated=5,
                frames=16, network=dict(name='a'), preprocessing='x',
                covariance='unbiased', protocol='quick')
    paths = []
    for i, change in enumerate((
        {}, dict(value=5.0), dict(frames=15), dict(network=dict(name='b')),
        dict(num_generated=4), dict(metric='fid'))):
      path = self.folder / f'{i}.json'
      path.write_text(json.dumps(base | change))
      paths.append(str(path))
    self.assertEqual(evaluate.compare(*paths[:2])['value'], 2.0)
    for path, pattern in zip(
        paths[2:], ('frames', 'network', 'num_generated', 'metric'),
        strict=True):
      with self.assertRaisesRegex(errors.UserError, pattern):
        evaluate.compare(paths[0], path)
    with self.assertRaisesRegex(errors.UserError, 'not a result'):
      evaluate.compare(paths[0], str(self.folder / 'absent.json'))


if __name__ == '__main__':
  absltest.main()
