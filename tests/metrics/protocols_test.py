"""Every protocol takes what it says and refuses all else in one line."""
import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import errors
from walt_jax.core import moments
from walt_jax.metrics import feature_sets
from walt_jax.metrics import protocols
from walt_jax.metrics import scores


def conditions(name: str) -> protocols.Conditions:
  """What a protocol asks for, exactly."""
  protocol = protocols.get(name)
  return protocols.Conditions(
      protocol.metric, protocol.num_generated, protocol.repeats,
      protocol.num_real, protocol.real_split, protocol.frames or 1,
      protocol.given_frames, protocol.network, (protocol.size or 64,) * 2,
      real_is_reference=name == 'imagenet-adm')


# Of seeded features and logits, by the formulas that
# tests/parity/protocols_parity_test.py takes from the sources: TF-GAN's with a
# real set a repeat and with one for all, StyleGAN-V's, and TGAN-v2's score.
_OWN_REAL = (1.2033280760906047, 2.596925989902469, 2.8606917082061103,
             1.9876755229943843)
_ONE_REAL = (1.2033280760906047, 2.8314298042908455, 2.9479191408754137,
             2.0704555873216752)
_STYLEGANV = (1.1798891927054411,)
_INCEPTION = (2.3034441197984785, 2.65734218683047, 2.9129471046415025,
              2.665474570143068)


def _feature_set(features: np.ndarray, **kept: np.ndarray):
  return feature_sets.FeatureSet(
      moments.Moments.of(features), 16, dict(name='x'), 'y', content='1',
      kept=kept)


class ProtocolsTest(parameterized.TestCase):

  @parameterized.parameters(*(
      name for name in protocols.PROTOCOLS if protocols.get(name).is_strict))
  def test_its_own_conditions_pass_and_name_published_numbers(self, name):
    protocol = protocols.get(name)
    protocols.check(protocol, conditions(name))
    self.assertNotEmpty(protocol.comparable_to)

  @parameterized.parameters(
      ('ucf101-magvit', dict(num_generated=9_999), '10000 samples in each'),
      ('ucf101-magvit', dict(repeats=1), '4 sets'),
      ('ucf101-magvit', dict(size=(128, 127)), '128x128, got 128x127'),
      ('ucf101-magvit', dict(real_split='test'), 'train'),
      ('ucf101-magvit', dict(real_split=None), 'unknown'),
      ('ucf101-magvit', dict(frames=17), '16 frames'),
      ('ucf101-magvit', dict(given_frames=5), '--given_frames 0'),
      ('ucf101-magvit', dict(network='i3d-unknown'), 'i3d-kinetics-400'),
      ('ucf101-styleganv', dict(num_generated=10_000), '2048'),
      ('ucf101-styleganv', dict(real_split='train'), r'train\+test'),
      ('ucf101-styleganv', dict(size=(128, 128)), '256x256, got 128x128'),
      ('ucf101-is', dict(repeats=1), '10 sets'),
      ('ucf101-is', dict(network='inception-v3-2015-12-05'), 'c3d-ucf101'),
      ('ucf101-is-magvit', dict(num_generated=2_048), '10000 samples in each'),
      ('ucf101-rfvd', dict(real_split='heldout'), 'train'),
      ('ucf101-zeroshot-fvd', dict(num_generated=2_048), 'scores 10000'),
      ('ucf101-zeroshot-is', dict(frames=17), '16 frames'),
      ('k600-magvit', dict(repeats=1), '4 sets'),
      ('k600-magvit', dict(num_real=49_999), '50000 real'),
      ('k600-magvit', dict(given_frames=0), '5 frames of a real clip'),
      ('k600-magvit', dict(num_generated=2_048), '50000'),
      ('imagenet-adm', dict(network='efficientnet-lite0'), '--network'),
      ('imagenet-adm', dict(real_is_reference=False), 'reference'),
      ('imagenet-adm', dict(metric='is'), 'for fid'))
  def test_other_conditions_are_refused(self, name, change, message):
    found = dataclasses.replace(conditions(name), **change)
    with self.assertRaisesRegex(errors.UserError, message) as raised:
      protocols.check(protocols.get(name), found)
    self.assertNotIn('\n', str(raised.exception))

  def test_what_each_measures(self):
    """The differences that make one model's scores unlike."""
    fields = lambda name: (
        protocols.get(name).preprocessing, protocols.get(name).covariance,
        protocols.get(name).root)
    self.assertEqual(fields('ucf101-magvit'),
                     ('tf1-bilinear-224', 'unbiased', 'eigh'))
    self.assertEqual(fields('ucf101-styleganv'),
                     ('half-pixel-bilinear-224', 'biased', 'sqrtm'))
    self.assertEqual(fields('k600-magvit'),
                     ('tf1-bilinear-64-224', 'unbiased', 'eigh'))
    self.assertEqual(protocols.get('imagenet-adm').split_size, 5000)

  @parameterized.parameters(
      ('ucf101-magvit', ('train',), 9_537, 'epochs', True, 'label'),
      ('ucf101-is', ('train',), 9_537, 'epochs', True, 'label'),
      ('ucf101-is-magvit', ('train',), 9_537, 'epochs', True, 'label'),
      ('ucf101-rfvd', ('train',), 9_537, 'epochs', True, 'label'),
      ('ucf101-zeroshot-fvd', ('train',), 9_537, 'epochs', True, 'prompt'),
      ('ucf101-zeroshot-is', ('train',), 9_537, 'epochs', True, 'prompt'),
      ('ucf101-styleganv', ('train', 'heldout'), 13_320, 'names', False,
       'random label'))
  def test_where_real_clips_come_from(self, name, *wanted):
    """UCF-101 has 13,320 videos, 9,537 of them in its first training split."""
    draw = protocols.get(name).draw
    self.assertEqual((draw.splits, draw.num_videos, draw.order, draw.augment,
                      draw.asks), wanted)
    self.assertEqual(draw.at_sample_rate, 'zeroshot' in name)

  @parameterized.parameters(
      ('ucf101-magvit', _OWN_REAL), ('k600-magvit', _ONE_REAL),
      ('ucf101-styleganv', _STYLEGANV), ('ucf101-rfvd', _OWN_REAL[:1]),
      ('ucf101-zeroshot-fvd', _OWN_REAL[:1]))
  def test_golden_distances(self, name, expected):
    protocol = protocols.get(name)
    rng = np.random.default_rng(0)
    real = rng.normal(size=(4, 40, 5))
    made = (1.5 * rng.normal(size=(4, 40, 5)) + 0.2)[:protocol.repeats]
    if protocol.draw is None:
      real = real[:1]
    result = scores.frechet_result(
        'fvd', list(map(_feature_set, real[:len(made)])),
        list(map(_feature_set, made)), scores.Options(protocol))
    np.testing.assert_allclose(result['values'], expected, rtol=1e-7)
    self.assertAlmostEqual(result['value'], np.mean(expected))

  @parameterized.parameters('ucf101-is', 'ucf101-is-magvit',
                            'ucf101-zeroshot-is')
  def test_golden_inception_scores(self, name):
    """One split a set, as large as the set."""
    protocol = protocols.get(name)
    self.assertEqual(protocol.split_size, protocol.num_generated)
    logits = 3 * np.random.default_rng(1).normal(size=(4, 30, 6))
    result = scores.inception_result(
        'is', [_feature_set(each, logits=each) for each in logits],
        scores.Options(dataclasses.replace(protocol, split_size=30)))
    np.testing.assert_allclose(result['values'], _INCEPTION, rtol=1e-9)

  def test_quick_is_comparable_to_nothing(self):
    self.assertEmpty(protocols.get('quick').comparable_to)
    self.assertIsNone(protocols.get('quick').draw)
    with self.assertRaisesRegex(errors.UserError, 'no protocol'):
      protocols.get('fast')


if __name__ == '__main__':
  absltest.main()
