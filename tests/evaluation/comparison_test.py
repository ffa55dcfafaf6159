"""Scores compare like with like: what is recorded, warned of and refused.

Rates, durations and sizes that are expected are those that the files here
are written with; a duration is the number of frames over the rate.
"""
import dataclasses
import json
import pathlib
import shutil
import tempfile
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from tests.data import video_files
from tests.e2e import tiny
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import set_info
from walt_jax.media import rgb
from walt_jax.media import samples
from walt_jax.media import video
from walt_jax.metrics import feature_network
from walt_jax.metrics import protocols
from walt_jax.metrics import video_features
from walt_jax.pretrained import networks

# Scores 8 frames of 2 clips, for which a published score might be looked up.
_PROTOCOL = protocols.Protocol('named', 'fvd', num_generated=2, frames=8)
_CONTINUED = dataclasses.replace(_PROTOCOL, name='continued', given_frames=5)


def _network(path, **form):
  """Stands for I3D: mean and spread of the colours, of any size."""
  del path

  def apply(params, clips):
    pixels = clips.astype(jnp.float32) / 255
    return dict(features=params * jnp.concatenate(
        [pixels.mean((1, 2, 3)), pixels.std((1, 2, 3))], -1))

  return feature_network.FeatureNetwork(
      np.float32(1), networks.NetworkInfo('colours', 'test', 'c' * 64),
      form['preprocessing'], apply, dict(features=6),
      devices=form['devices'])


class _Sets:
  """Makes sets of two clips in a folder."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder

  def path(self, name: str) -> pathlib.Path:
    path = self._folder / name
    path.mkdir()
    return path

  def clips(self, frames=8, side=32, count=2):
    return np.random.default_rng(frames).integers(
        0, 256, (count, frames, side, side, 3), np.uint8)

  def mp4(self, name, rate=25, frames=8, side=32):
    path = self.path(name)
    for i in range(2):
      video_files.write_video(path / f'{i}.mp4', frames, (side, side), rate)
    return path

  def ffv1(self, name, rate=25, frames=8, side=32):
    path = self.path(name)
    for i in range(2):
      video_files.write_video(
          path / f'{i}.mkv', frames, (side, side), rate, codec='ffv1')
    return path

  def array(self, name, **shape):
    path = self._folder / f'{name}.npy'
    np.save(path, self.clips(**shape))
    return path

  def npy(self, name, **shape):
    path = self.path(name)
    for i, clip in enumerate(self.clips(**shape)):
      np.save(path / f'{i}.npy', clip)
    return path

  def samples(self, name, rate=25, given=0, source=None, origin='run',
              **shape):
    clips = self.clips(**shape)
    given = given if isinstance(given, tuple) else (given, given)
    samples.write_samples(
        self._folder / name, clips, [
            samples.Entry(f'{i}', source=source, given_frames=frames)
            for i, frames in enumerate(given)], rate, mp4=False,
        settings=dict(fps_origin=origin))
    return self._folder / name

  def prepared(self, name, rate=25, frames=8, side=32):
    videos = self.mp4(f'{name}_videos', rate, frames, side)
    prepare.prepare(videos, self._folder / name, prepare.Settings(
        size=side, min_frames=frames, heldout=0.0))
    return self._folder / name

  def make(self, name, kind, options):
    return getattr(self, kind)(name, **options)


class ComparisonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.sets = _Sets(self.folder)
    self.out = self.folder / 'result.json'
    self.enterContext(mock.patch.object(
        video_features, 'load_network', _network))
    self.enterContext(mock.patch.dict(protocols.PROTOCOLS, {
        p.name: p for p in (_PROTOCOL, _CONTINUED)}))
    self.runs = self.enterContext(mock.patch.object(
        feature_network.FeatureNetwork, '_compute', autospec=True,
        side_effect=feature_network.FeatureNetwork._compute))

  def evaluate(self, real, generated, *argv, said=None):
    """The result and the warnings; of refused ones the error."""
    found = tiny.walt('evaluate', 'fvd', '--real', real, '--generated',
                      generated, '--json', self.out, '--overwrite', *argv)
    if said is not None:
      self.assertEqual(found.code, 2, found.err)
      self.assertRegex(found.err, r'\A(walt: warning: [^\n]*\n)?'
                       rf'walt: error: [^\n]*{said}[^\n]*\n\Z')
      self.assertFalse(self.out.exists())
      self.runs.assert_not_called()  # Refused before any network ran.
      return None, found.err
    self.assertEqual(found.code, 0, found.err)
    return json.loads(self.out.read_text()), found.err

  @parameterized.parameters(
      # Real and generated sets, and in what they differ: [what, real, other].
      (('mp4', {}), ('mp4', {}), []),
      (('mp4', dict(rate=25)), ('mp4', dict(rate=24)), []),  # Within 5%.
      (('mp4', dict(rate=25)), ('mp4', dict(rate=8)),
       [['rate', 25, 8], ['duration', 8 / 25, 1]]),
      (('mp4', dict(rate=20)), ('mp4', dict(rate=22)),
       [['rate', 20, 22], ['duration', .4, 8 / 22]]),
      (('mp4', dict(side=64)), ('mp4', dict(side=48)),
       [['size', [64, 64], [48, 48]]]),
      (('mp4', dict(side=64)), ('mp4', dict(side=62)), []),
      (('mp4', dict(frames=40)), ('mp4', dict(frames=8)),
       [['length', 1.6, .32]]),
      (('mp4', dict(frames=9)), ('mp4', dict(frames=8)), []),  # 17 and 16.
      (('mp4', {}), ('ffv1', {}),
       [['compression', 'lossy (mpeg4)', 'lossless (ffv1)']]),
      (('ffv1', {}), ('npy', {}), []),  # An array has no rate.
      (('ffv1', {}), ('array', {}), []),
      (('ffv1', {}), ('array', dict(side=48)),
       [['size', [32, 32], [48, 48]]]),
      (('ffv1', dict(rate=25)), ('samples', dict(rate=8)),
       [['rate', 25, 8], ['duration', 8 / 25, 1]]),
      # Of a model that does not know the rate of what it was trained on.
      (('ffv1', dict(rate=25)), ('samples', dict(rate=8, origin='default')),
       []),
      (('prepared', dict(rate=25)), ('samples', dict(rate=25)),
       [['compression', 'lossy (jpeg)', 'lossless (raw)']]),
      (('prepared', dict(rate=10)), ('mp4', dict(rate=25)),
       [['rate', 10, 25], ['duration', .8, 8 / 25]]))
  def test_differences(self, real, generated, expected):
    real = self.sets.make('real', *real)
    generated = self.sets.make('generated', *generated)
    result, err = self.evaluate(real, generated, '--frames', 8)
    found = result['differences']
    self.assertEqual([d['what'] for d in found], [e[0] for e in expected])
    for difference, (_, *values) in zip(found, expected, strict=True):
      for value, side in zip(values, ('real', 'generated'), strict=True):
        if isinstance(value, float | int):
          self.assertAlmostEqual(difference[side], value, delta=0.01)
        else:
          self.assertEqual(difference[side], value)
      self.assertIn(difference['text'], err)
    self.assertEqual('walt: warning: the real and the generated clips differ'
                     in err, bool(expected))
    # A protocol with a name refuses rate, duration and size.
    self.out.unlink()
    self.runs.reset_mock()
    matter = [d['text'] for d in found
              if d['what'] in ('rate', 'duration', 'size')]
    self.evaluate(real, generated, '--protocol', 'named',
                  said='.*'.join(matter) if matter else None)

  @parameterized.parameters(
      (('mp4', dict(rate=16, frames=20, side=48)), dict(
          count=2, height=48, width=48, frames=20, rate=16, duration=1.25,
          container='mp4', codec='mpeg4', lossless=False)),
      (('ffv1', dict(rate=30)), dict(
          count=2, height=32, width=32, rate=30, duration=8 / 30,
          container='matroska', codec='ffv1', lossless=True)),
      (('samples', dict(rate=8)), dict(
          count=2, height=32, width=32, frames=8, rate=8, duration=1,
          container='npy', codec='raw', lossless=True)),
      (('npy', {}), dict(count=2, frames=8, rate=None, duration=None,
                         container='npy', codec='raw', lossless=True)),
      (('array', {}), dict(count=2, frames=8, rate=None, duration=None,
                           container='npy', codec='raw', lossless=True)),
      (('prepared', dict(rate=10)), dict(
          count=2, height=32, width=32, frames=8, rate=10, duration=.8,
          container='walt_dataset', codec='jpeg', lossless=False)))
  def test_what_is_recorded(self, made, expected):
    path = self.sets.make('real', *made)
    result, _ = self.evaluate(path, path, '--frames', 8)
    for side in ('real', 'generated'):
      found = result['sets'][side]
      self.assertEqual(found['path'], str(path))
      for name, value in expected.items():
        got = found[name]
        if isinstance(got, dict):
          self.assertLen(set(got.values()), 1)
          got = got['mean']
        if isinstance(value, float):
          self.assertAlmostEqual(got, value, places=2)
        else:
          self.assertEqual(got, value, name)

  def test_statistics_tell_of_their_clips(self):
    real, statistics = self.sets.mp4('real'), self.folder / 'real.npz'
    whole, _ = self.evaluate(real, real, '--save_statistics', statistics)
    slow = self.sets.mp4('slow', rate=8)
    result, err = self.evaluate(statistics, slow)
    self.assertEqual([d['what'] for d in result['differences']],
                     ['rate', 'duration'])
    self.assertIn('25 and 8 frames/s', err)
    self.assertEqual(result['sets']['real'] | dict(path=''),
                     whole['sets']['real'] | dict(path=''))

  def test_unfit_sets_are_refused_before_any_network_runs(self):
    good = self.sets.mp4('good', frames=40)
    damaged, twice = self.sets.mp4('damaged'), self.sets.mp4('twice')
    (damaged / '1.mp4').write_bytes(b'no video')
    video_files.write_video(twice / '1.avi', 8, (32, 32), 25)
    mixed = self.sets.npy('mixed')
    shutil.copy(good / '0.mp4', mixed)
    gap = self.sets.mp4('gap')
    times = [i / 25 + (3600 if i > 3 else 0) for i in range(8)]
    video_files.write_video(gap / '1.mp4', 8, (32, 32), 25, times=times)
    sizes, short = self.sets.mp4('sizes'), self.sets.mp4('short')
    video_files.write_video(sizes / '1.mp4', 8, (48, 32), 25)
    video_files.write_video(short / '1.mp4', 7, (32, 32), 25)
    images = self.sets.path('images')
    for name in ('a.png', 'b.png'):
      video.write_png(images / name, self.sets.clips()[0, 0])
    shutil.copy(images / 'a.png', images / 'a.bmp')
    frames = ['--frames', 8]
    for bad, argv, said in (
        (damaged, frames, r'damaged/1.mp4 as a clip'),
        (gap, frames, '1.mp4 .* cannot be scored: .*.frame 4'),
        (twice, frames, "'1.avi' and '1.mp4', the same clip twice"),
        (images, ['--frames', 1], "'a.bmp' and 'a.png', the same clip"),
        (mixed, frames, 'mixes 1 videos, 2 .npy files'),
        (sizes, frames, '1.mp4 .* is 32x48 where others are 32x32'),
        (short, frames, '1.mp4 .* has 7 frames, fewer than the 8'),
        (short, [], '1.mp4 .* is 7x32x32 where others are 8x32x32'),
        (self.sets.mp4('long', frames=9), [], 'clips of 9 and 40 frames')):
      with self.subTest(said):
        self.evaluate(good, bad, *argv, said=said)
        self.evaluate(bad, good, *argv, said=said)

  def test_headers_are_read_at_once_and_told_in_order(self):
    together = threading.Barrier(2, timeout=10)

    class Clips:

      def __len__(self):
        return 8

      def info(self, index):
        together.wait()
        return set_info.ClipInfo(32, 48 if index in (3, 6) else 32, 8)

    names = [f'{index}.mp4' for index in range(8)]
    clips = clip_sets.ClipSet(self.folder, names, Clips(), 8)
    with self.assertRaisesRegex(errors.UserError, 'clip 3.mp4 .*32x48'):
      clips.info()

  def test_no_more_is_read_than_is_scored(self):
    real, generated = (
        self.sets.mp4(name, frames=40) for name in ('real', 'generated'))
    with mock.patch.object(
        rgb.Converter, '__call__', autospec=True,
        side_effect=rgb.Converter.__call__) as convert:
      self.evaluate(real, generated, '--frames', 8)
    self.assertEqual(convert.call_count, 2 * 2 * 8)  # Sets, clips, frames.
    video_files.cut_video(real / '1.mp4', 0.8)  # Behind the eighth.
    result, err = self.evaluate(real, generated, '--frames', 8)
    self.assertEqual(
        [result['sets'][side]['flawed'] for side in ('real', 'generated')],
        [1, 0])
    self.assertIn('1 of 2 clips of', err)
    self.out.unlink()
    self.runs.reset_mock()
    for argv in ([], ['--frames', 39]):
      self.evaluate(real, generated, *argv, said=(
          '1.mp4 .* cannot be scored: the file ends after'))

  def test_flags_of_sampling_are_not_for_clips_on_disk(self):
    clips = self.sets.array('clips')
    for flag in (['--num_samples', 3], ['--repeats', 2], ['--step', 3],
                 ['--requests', clips], ['--save_samples', 'x.npz'],
                 ['--guidance', 'label=3'], ['--steps', 5],
                 ['--sampler', 'ddim'], ['--no-factorized']):
      with self.subTest(flag):
        name = flag[0].replace('no-', '')
        self.evaluate(clips, clips, *flag, said=f'{name} says how samples')

  @parameterized.parameters(
      ('is', ['--real'], '--real .*clips.npy: is scores generated'),
      ('control', ['--real'], '--real .*clips.npy: control scores'),
      ('control', ['--network'], 'control trains readers of its own'),
      ('control', ['--frames=4'], '--frames 4: control reads whole clips'),
      ('control', ['--protocol=ucf101-magvit'], 'protocol ucf101-magvit is for '
       'fvd, not control'),
      ('reconstruction', ['--real', '--network'], 'clips of at least 9 '
       'frames, and 8 are scored'))
  def test_files_that_a_metric_would_not_read(self, name, flags, said):
    clips = self.sets.array('clips')
    found = tiny.walt('evaluate', name, '--generated', clips, '--json',
                      self.out, *(v for flag in flags for v in (
                          (flag,) if '=' in flag else (flag, clips))))
    self.assertEqual(found.code, 2, found.err)
    self.assertRegex(found.err, rf'\Awalt: error: [^\n]*{said}[^\n]*\n\Z')

  @parameterized.parameters(
      # What the samples say, the flag, the number known and by what.
      (dict(given=5), None, 5, 'samples.json'),
      (dict(given=5), 5, 5, 'samples.json'),
      (dict(given=0), None, 0, 'samples.json'),
      # Folders of earlier versions.
      (dict(given=None), None, 0, 'samples.json'),
      (dict(given=None, source='a.png'), None, 1, 'samples.json'),
      (dict(given=None, source='a.mp4'), 5, 5, '--given_frames'),
      (dict(given=None, source='a.mp4'), None, None, 'samples.json'),
      (dict(given=(0, 5)), None, None, 'samples.json'))
  def test_given_frames_are_named(self, options, flag, frames, known_by):
    real = self.sets.array('real')
    generated = self.sets.samples('generated', **options)
    argv = [] if flag is None else ['--given_frames', flag]
    result, err = self.evaluate(real, generated, *argv)
    self.assertEqual((result['given_frames'], result['given_frames_known_by']),
                     (frames, known_by))
    if frames is None:
      self.assertIn('warning: the clips of', err)
      self.assertEqual(sum(result['given_frames_counts'].values()), 2)
    # A protocol takes what it says alone.
    self.out.unlink()
    self.runs.reset_mock()
    for name, wanted in (('named', 0), ('continued', 5)):
      self.evaluate(
          real, generated, '--protocol', name, *argv,
          said=None if frames == wanted else
          'of every clip' if frames is None else f'{wanted} frames')
      self.out.unlink(missing_ok=True)
      self.runs.reset_mock()

  def test_arrays_know_of_no_given_frames(self):
    clips = self.sets.array('clips')
    result, _ = self.evaluate(clips, clips)
    self.assertEqual((result['given_frames'], result['given_frames_known_by']),
                     (0, None))
    result, _ = self.evaluate(clips, clips, '--given_frames', 5)
    self.assertEqual((result['given_frames'], result['given_frames_known_by']),
                     (5, '--given_frames'))
    self.out.unlink()
    self.runs.reset_mock()
    self.evaluate(clips, clips, '--given_frames', 8,
                  said='8 frames are scored and 8 of them were given')
    told = self.sets.samples('told', given=5)
    for flag in (1, 0):
      self.evaluate(clips, told, '--given_frames', flag,
                    said=f'--given_frames {flag}, but by samples.json .* 5')

  def test_records_are_read_back(self):
    info = set_info.SetInfo.of('x', [
        set_info.ClipInfo(4, 6, 8, 25.0, .32, 'mp4', 'h264', False),
        set_info.ClipInfo(4, 6, 16, 8.0, 2.0, 'avi', 'ffv1', True)])
    self.assertEqual(info.rate, set_info.Span(8.0, 16.5, 25.0))
    self.assertEqual((info.container, info.codec, info.lossless),
                     ('avi,mp4', 'ffv1,h264', False))
    self.assertEqual(set_info.SetInfo.of_record(
        json.loads(json.dumps(info.record()))), info)


if __name__ == '__main__':
  absltest.main()
