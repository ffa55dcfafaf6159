"""`walt evaluate` on folders and arrays: results, and one-line refusals."""
import argparse
import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from tests.metrics import feature_sets_test
from tests.pretrained import lpips_test
from walt_jax.commands import cli
from walt_jax.commands import evaluate
from walt_jax.core import errors
from walt_jax.data.sources import moving_digits
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import digit_reader
from walt_jax.evaluation import results
from walt_jax.media import samples
from walt_jax.media import video
from walt_jax.metrics import image_features


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

  def test_a_folder_is_no_result_file_and_is_refused_before_the_work(self):
    with (mock.patch.object(evaluate, '_evaluate') as work,
          contextlib.redirect_stderr(io.StringIO()) as told):
      self.assertEqual(cli.main([
          'evaluate', 'fvd', '--generated', 'x', '--json', str(self.folder)
      ]), 2)
    self.assertIn(f'--json {self.folder} is a folder', told.getvalue())
    work.assert_not_called()

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

  @pytest.mark.slow
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
    self.assertEqual(result['perceptual_lite2_network']['name'],
                     'efficientnet-lite2')

  def test_lpips_is_refused_before_any_network_runs(self):
    real = self.array('real', self.clips(frames=5, size=24))
    other, backbone = self.folder / 'x.npz', self.folder / 'alex.npz'
    np.savez(other, x=np.zeros(3))
    np.savez(backbone, **lpips_test.backbone_state('alex'))
    heads = self.folder / 'heads.npz'
    np.savez(heads, **lpips_test.head_state('alex'))
    for files, pattern in (
        ([str(other)], 'no AlexNet or VGG16'), (['/no/file'], 'no weight file'),
        ([str(backbone), str(heads)], '32 pixels or more, got 5x24x24')):
      self.refused('reconstruction', pattern, real=real, generated=real,
                   lpips=files)

  @pytest.mark.slow
  def test_control_of_samples(self):
    clips, digits, directions = digit_reader.held_out_clips(12)
    names = [f'{moving_digits.WORDS[digit]} {moving_digits.DIRECTIONS[way]}'
             for digit, way in zip(digits, directions, strict=True)]
    folder = self.folder / 'samples'
    samples.write_samples(folder, clips, [
        samples.Entry(stem=str(i), label=name)
        for i, name in enumerate(names)], 8.0)
    out = self.folder / 'control.json'
    with contextlib.redirect_stdout(io.StringIO()) as told:
      evaluate.run(_args('control', generated=str(folder), json=str(out)))
    self.assertRegex(
        told.getvalue(), r'digit \d+\.\d% of 12 \(95% interval .*, '
        r'direction 100\.0% of 12 \(95% interval 75\.8 to 100\.0')
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
    self.refused('fvd', '--frames', real=real,
                 generated=self.array('long', self.clips(frames=12)))
    self.refused('fvd', 'no folder', real=real, generated='/no/such/folder')
    self.refused('fvd', '--real', generated=real)
    self.refused('fvd', 'fewer', real=real, generated=real, frames=10)
    self.refused('fvd', 'protocol', real=real, generated=real,
                 protocol='mine')
    few = self.array('few', self.clips(frames=16))
    self.refused('fvd', 'whole videos', real=few, generated=few,
                 protocol='ucf101-magvit')
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
    (sizes / '1.npy').unlink()
    self.refused('control', 'samples.json', generated=str(sizes))

  def test_every_refusal_is_one_line_and_code_2(self):
    real = self.array('real', self.clips())
    empty, sizes = self.folder / 'empty', self.folder / 'sizes'
    empty.mkdir()
    sizes.mkdir()
    for i, size in enumerate((32, 40)):
      video.write_png(sizes / f'{i}.png', self.clips(size=size)[0, 0])
    other = self.folder / 'other.npz'
    feature_sets_test.collected().save(other)
    arrays = {
        name: self.array(name, array) for name, array in dict(
            few=self.clips(frames=16), short=self.clips(frames=5),
            floats=self.clips().astype(np.float32),
            grey=self.clips()[..., :1]).items()}
    for argv, pattern in (
        (['--generated', arrays['few'], '--real', arrays['few'],
          '--protocol', 'k600-magvit'], 'scores 50000 samples'),
        (['--generated', arrays['few'], '--real', arrays['few'],
          '--protocol', 'ucf101-magvit'], 'whole videos; give a set'),
        (['--generated', real, '--real', real, '--protocol',
          'ucf101-styleganv'], 'whole videos; give a set'),
        (['--generated', arrays['short'], '--real', arrays['short']],
         'at least 9'),
        (['--generated', real, '--real', real, '--frames', '10'], 'fewer'),
        (['--generated', arrays['floats'], '--real', real], 'float32'),
        (['--generated', arrays['grey'], '--real', real], 'grey'),
        (['--generated', real, '--real', str(other)], 'another network'),
        (['--generated', str(sizes), '--real', real, '--frames', '1'],
         '1.png .* is 40x40 where others are 32x32'),
        (['--generated', str(empty), '--real', real], 'holds no videos'),
        (['--generated', real, '--real', real, '--also', 'sfid'], 'sfid'),
        (['--generated', real, '--real', real, '--preprocessing', 'best'],
         'best'),
        (['--generated', real, '--real', real, '--network', '/no/file'],
         'no weight file')):
      out = self.folder / 'x.json'
      with (self.subTest(argv=argv),
            contextlib.redirect_stderr(io.StringIO()) as stderr):
        code = cli.main(['evaluate', 'fvd', '--json', str(out), *argv])
        error = stderr.getvalue().strip()
        self.assertEqual(code, 2, error)
        self.assertRegex(error, f'^walt: error: .*{pattern}')
        self.assertLen(error.splitlines(), 1)
        self.assertFalse(out.exists())

  def test_images_of_mixed_sizes_are_refused(self):
    sizes = self.folder / 'sizes'
    sizes.mkdir()
    for i, size in enumerate((12, 16)):
      video.write_png(sizes / f'{i}.png', self.clips(size=size)[0, 0])
    with mock.patch.object(image_features, 'load_efficientnet',
                           lambda **form: feature_sets_test.make_network(
                               kind='image', num_frames=1, min_frames=1)):
      self.refused('fid', '1.png', generated=str(sizes), real=str(sizes))

  @parameterized.parameters((None, 'lite0'), ('efficientnet-lite2', 'lite2'))
  def test_the_stand_in_of_images_is_called_so(self, flag, variant):
    name = f'efficientnet-{variant}'
    real = self.array('real', self.clips(count=8, frames=1, size=4)[:, 0])
    loaded = []

    def load(name=name, **form):
      loaded.append(name)
      return feature_sets_test.make_network(
          name=name, size=(1, 4), kind='image', num_frames=1, min_frames=1)

    out = self.folder / 'fid.json'
    with mock.patch.object(image_features, 'load_efficientnet', load):
      evaluate.run(_args('fid', real=real, generated=real, network=flag,
                         json=str(out)))
    result = json.loads(out.read_text())
    self.assertEqual(result['metric'], f'fid-{name}')
    self.assertEqual(loaded, [name])

  def test_reading_an_npz_maps_it(self):
    clips = self.clips()[:, 0]
    for save in (np.savez, np.savez_compressed):
      save(self.folder / 'images.npz', clips)
      found = clip_sets.open_clips(self.folder / 'images.npz')
      np.testing.assert_array_equal(found.stack()[:, 0], clips)

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
    self.assertEqual(results.compare(*paths[:2])['value'], 2.0)
    for path, pattern in zip(
        paths[2:], ('frames', 'network', 'num_generated', 'metric'),
        strict=True):
      with self.assertRaisesRegex(errors.UserError, pattern):
        results.compare(paths[0], path)
    for i, whats in enumerate(((), ('rate', 'size'), ('size', 'rate'))):
      (self.folder / f'unlike{i}.json').write_text(json.dumps(
          base | dict(differences=[dict(what=what) for what in whats])))
    none, *both = (str(self.folder / f'unlike{i}.json') for i in range(3))
    self.assertEqual(results.compare(*both)['value'], 0)
    results.compare(none, paths[0])  # One of an earlier version.
    with self.assertRaisesRegex(errors.UserError,
                                'in nothing and in rate, size'):
      results.compare(none, both[0])
    with self.assertRaisesRegex(errors.UserError, 'no such file.*absent'):
      results.compare(paths[0], str(self.folder / 'absent.json'))
    other = self.folder / 'other.json'
    other.write_text('[1, 2]')
    with self.assertRaisesRegex(errors.UserError, 'not a result'):
      results.compare(paths[0], str(other))


if __name__ == '__main__':
  absltest.main()
