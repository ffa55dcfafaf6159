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
      protocol.given_frames, protocol.network,
      real_is_reference=name == 'imagenet-adm')


class ProtocolsTest(parameterized.TestCase):

  @parameterized.parameters('ucf101-magvit', 'ucf101-styleganv',
                            'k600-magvit', 'imagenet-adm')
  def test_its_own_conditions_pass_and_name_published_numbers(self, name):
    protocol = protocols.get(name)
    protocols.check(protocol, conditions(name))
    self.assertNotEmpty(protocol.comparable_to)

  @parameterized.parameters(
      ('ucf101-magvit', dict(num_generated=9_999), '10000 samples in each'),
      ('ucf101-magvit', dict(repeats=1), '4 sets'),
      ('ucf101-magvit', dict(num_real=9_536), '9537 real'),
      ('ucf101-magvit', dict(real_split='test'), 'train'),
      ('ucf101-magvit', dict(real_split=None), 'unknown'),
      ('ucf101-magvit', dict(frames=17), '16 frames'),
      ('ucf101-magvit', dict(given_frames=5), '--given_frames 0'),
      ('ucf101-magvit', dict(network='i3d-unknown'), 'i3d-kinetics-400'),
      ('ucf101-styleganv', dict(num_generated=10_000), '2048'),
      ('ucf101-styleganv', dict(real_split='train'), r'train\+test'),
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

  def test_quick_is_comparable_to_nothing(self):
    self.assertEmpty(protocols.get('quick').comparable_to)
    with self.assertRaisesRegex(errors.UserError, 'no protocol'):
      protocols.get('fast')


if __name__ == '__main__':
  absltest.main()
