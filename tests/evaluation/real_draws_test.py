"""Protocols draw real clips anew for each set; samples show their classes."""
import collections
import contextlib
import dataclasses
import io
import json
import pathlib
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.data import video_files
from tests.metrics import feature_sets_test
from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.evaluation import real_draws
from walt_jax.media import samples
from walt_jax.metrics import protocols
from walt_jax.metrics import video_features

_SEED, _FRAMES = 5, 9
_VIDEOS = (('ApplyLipstick', 12), ('Bowling', 20), ('ApplyLipstick', 14),
           ('CliffDiving', 30), ('Bowling', 11), ('CliffDiving', 8))


def small(name: str, **changes) -> protocols.Protocol:
  """A protocol for six videos: 7 samples of 16 pixels in a set."""
  protocol = protocols.get(name)
  draw = dataclasses.replace(
      protocol.draw, num_videos=4 if len(protocol.draw.splits) == 1 else 6)
  return dataclasses.replace(
      protocol, num_generated=4 if draw.order == 'names' else 7,
      repeats=min(protocol.repeats, 3), frames=_FRAMES, network=None,
      draw=draw, size=16 if protocol.size else None, **changes)


class RealDrawsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory()))
    for number, (label, frames) in enumerate(_VIDEOS):
      split = 'train' if number < 4 else 'test'
      video_files.write_video(
          cls.root / 'in' / split / label / f'v_{9 - number}.avi', frames,
          rate=25)
    cls.real = cls.root / 'set'
    cls.prepare(cls.real, 100)

  @classmethod
  def prepare(cls, path: pathlib.Path, clip_frames: int) -> None:
    prepare.prepare(cls.root / 'in', path, prepare.Settings(
        size=16, min_frames=5, clip_frames=clip_frames), split_folders=True)

  def open(self, protocol, path=None, repeat=0, **options):
    return real_draws.open_draws(
        str(path or self.real), protocol, seed=_SEED, repeat=repeat,
        frames=_FRAMES, **options)

  def test_sets_of_one_training_iterator(self):
    """7 + 7 + 7 clips are five epochs of four videos and one clip more."""
    sets = [self.open(small('ucf101-magvit'), repeat=i) for i in range(3)]
    labels = [label for each in sets for label in each.labels]
    for epoch in range(5):
      self.assertEqual(
          collections.Counter(labels[4 * epoch:4 * epoch + 4]),
          dict(ApplyLipstick=2, Bowling=1, CliffDiving=1))
    clips = [each.stack() for each in sets]
    self.assertEqual(clips[0].shape, (7, _FRAMES, 16, 16, 3))
    self.assertFalse(np.array_equal(clips[0], clips[1]))
    self.assertEqual((sets[0].split, sets[0].left_out), ('train', 0))
    info = sets[0].info()
    self.assertEqual((info.count, info.height, info.rate.mean), (7, 16, 25))
    np.testing.assert_array_equal(
        clips[0], self.open(small('ucf101-magvit')).stack())

  def test_the_first_videos_by_name(self):
    protocol = small('ucf101-styleganv')
    real = self.open(protocol)  # v_4.avi has 8 frames: too few.
    self.assertEqual([real.names[i].split()[-1] for i in range(4)],
                     ['4)', '3)', '0)', '2)'])  # v_5 .. v_8.
    self.assertEqual((real.split, real.left_out), ('train+test', 1))
    labels = [label for repeat in range(300)
              for label in self.open(protocol, repeat=repeat).labels]
    counts = collections.Counter(labels)  # Of all videos, a third each.
    for count in counts.values():
      self.assertAlmostEqual(count, 400, delta=80)
    self.assertLen(counts, 3)

  def test_frames_at_the_rate_of_the_samples(self):
    protocol = small('ucf101-zeroshot-fvd')
    real = self.open(protocol, rate=12.5, size=(8, 12))
    self.assertEqual(real[0].shape, (_FRAMES, 8, 12, 3))
    steps = np.diff(real.stack()[:, :, 0, 0, 0].astype(float), axis=1)
    self.assertAlmostEqual(np.median(steps), 20, delta=4)  # 10 a frame.
    self.assertEqual(real.left_out, 2)  # 17 frames are needed.
    self.assertEqual(real.info().rate.mean, 12.5)

  @parameterized.parameters(
      ('ucf101-magvit', '', dict(num_videos=9_537), 'has 4; prepare all'),
      ('ucf101-magvit', ':heldout', {}, 'videos of train, and .*:heldout'),
      ('ucf101-magvit', ':8x8', {}, '16x16, and .* asks for 8x8'),
      ('ucf101-styleganv', ':train', {}, r'train\+test, and .*:train'),
      ('ucf101-magvit', '/manifest.json', {}, 'whole videos; give a set'))
  def test_other_sets_are_refused(self, name, end, change, message):
    protocol = small(name)
    protocol = dataclasses.replace(
        protocol, draw=dataclasses.replace(protocol.draw, **change))
    with self.assertRaisesRegex(errors.UserError, message) as raised:
      self.open(protocol, f'{self.real}{end}')
    self.assertNotIn('\n', str(raised.exception))

  def test_sets_of_cut_videos_are_refused(self):
    cut = self.root / 'cut'
    self.prepare(cut, 30)
    with self.assertRaisesRegex(errors.UserError, 'cut into clips of 30'):
      self.open(small('ucf101-magvit'), cut)

  def test_samples_show_what_the_real_clips_show(self):
    model = lambda classes, text: types.SimpleNamespace(stages=[
        types.SimpleNamespace(classes=classes, uses_text=text,
                              workdir='runs/x')])
    label, prompt = small('ucf101-magvit'), small('ucf101-zeroshot-is')
    real = self.open(label)
    asked = real_draws.requests(label, real, model(('x',), False))
    self.assertEqual([r.label for r in asked], list(real.labels))
    self.assertEmpty(real_draws.requests(label, real, model((), True)))
    asked = real_draws.requests(prompt, real, model((), True))
    words = dict(ApplyLipstick='apply lipstick', Bowling='bowling',
                 CliffDiving='cliff diving')
    self.assertEqual([r.prompt for r in asked],
                     [words[name] for name in real.labels])
    with self.assertRaisesRegex(errors.UserError, 'trained without text'):
      real_draws.requests(prompt, real, model(('x',), False))

  def evaluate(self, protocol, generated, *flags):
    """The result of `walt evaluate` with a small network, or its error."""
    out = self.root / 'score.json'
    out.unlink(missing_ok=True)
    network = feature_sets_test.make_network(size=(_FRAMES, 16))
    stderr = self.enterContext(contextlib.redirect_stderr(
        tempfile.TemporaryFile('w+')))
    with (mock.patch.dict(protocols.PROTOCOLS, {protocol.name: protocol}),
          mock.patch.object(video_features, 'load_network',
                            lambda *args, **form: network),
          contextlib.redirect_stdout(io.StringIO())):
      code = cli.main([
          'evaluate', 'fvd', '--protocol', protocol.name, '--real',
          str(self.real), '--generated', str(generated), '--seed', str(_SEED),
          '--json', str(out), *flags])
    stderr.seek(0)
    told = stderr.read()
    return (json.loads(out.read_text()) if not code else None), told

  def write_samples(self, labels) -> pathlib.Path:
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (len(labels), _FRAMES, 16, 16, 3))
    samples.write_samples(
        folder / 'samples', clips.astype(np.uint8),
        [samples.Entry(stem=f'{i:03d}', label=label)
         for i, label in enumerate(labels)], 25.0)
    return folder / 'samples'

  def test_each_set_is_scored_against_its_own_real_clips(self):
    protocol = small('ucf101-magvit')
    sets = [self.open(protocol, repeat=i) for i in range(3)]
    labels = [label for each in sets for label in reversed(each.labels)]
    generated = self.write_samples(labels)
    result, told = self.evaluate(protocol, generated)
    self.assertIsNotNone(result, told)
    network = feature_sets_test.make_network(size=(_FRAMES, 16))
    made = network.features([
        np.load(generated / f'{i:03d}.npy') for i in range(21)])
    expected = [_frechet(network.features(list(each)), made[7 * i:7 * i + 7])
                for i, each in enumerate(sets)]
    np.testing.assert_allclose(result['values'], expected, rtol=1e-5)
    self.assertGreater(np.std(expected), 1e-4)
    self.assertEqual(result['labels_known_by'], 'samples.json')
    self.assertEqual((result['num_real'], result['real_split']), (7, 'train'))
    self.assertEqual(result['real_draws']['seed'], _SEED)

  def test_other_classes_are_refused_and_unknown_ones_told(self):
    protocol = small('ucf101-magvit')
    in_turn = ['ApplyLipstick', 'Bowling', 'CliffDiving'] * 7
    result, told = self.evaluate(protocol, self.write_samples(in_turn))
    self.assertIsNone(result)
    self.assertRegex(told, '(?m)^walt: error: .*these show others.*--workdir')
    result, told = self.evaluate(protocol, self.write_samples([None] * 21))
    self.assertIsNone(result['labels_known_by'])
    self.assertIn('nothing says what the samples', told)
    result, told = self.evaluate(
        protocol, self.write_samples([None] * 21), '--save_statistics',
        str(self.root / 'x.npz'))
    self.assertIsNone(result)
    self.assertIn('--save_statistics: protocol ucf101-magvit draws', told)


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
  """Of covariances divided by N - 1; the root's trace by eigenvalues."""
  gap = a.mean(0) - b.mean(0)
  covariances = [np.cov(x.astype(np.float64), rowvar=False) for x in (a, b)]
  roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]) + 0j)
  return float(gap @ gap + np.trace(sum(covariances)) - 2 * roots.real.sum())


if __name__ == '__main__':
  absltest.main()
