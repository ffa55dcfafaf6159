"""Every protocol takes what it says and refuses all else in one line."""
import dataclasses

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.metrics import protocols


def conditions(name: str) -> protocols.Conditions:
  """What a protocol asks for, exactly."""
  protocol = protocols.get(name)
  return protocols.Conditions(
      protocol.metric, protocol.num_generated, protocol.repeats,
      protocol.num_real, protocol.real_split, protocol.frames or 1,
      protocol.given_frames, protocol.network, (protocol.size or 64,) * 2,
      real_is_reference=name == 'imagenet-adm')


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

  def test_quick_is_comparable_to_nothing(self):
    self.assertEmpty(protocols.get('quick').comparable_to)
    self.assertIsNone(protocols.get('quick').draw)
    with self.assertRaisesRegex(errors.UserError, 'no protocol'):
      protocols.get('fast')


if __name__ == '__main__':
  absltest.main()
