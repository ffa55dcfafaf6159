"""The Example codec against TensorFlow's own."""
from absl.testing import absltest
import numpy as np

from walt_jax.data.storage import examples


def _features():
  return dict(
      video=[b'', b'\x00\xff' * 300, b'abc'],
      label=np.array([-1, 0, 127, 128, 2**40, -2**63], np.int64),
      fps=np.array([29.97, -0.0, np.inf], np.float32), none=[])


class ExamplesTest(absltest.TestCase):

  def _check(self, got):
    want = _features()
    self.assertEqual(sorted(got), sorted(want))
    self.assertEqual(got['video'], want['video'])
    self.assertEqual(got['none'], [])
    for name in ('label', 'fps'):
      self.assertEqual(got[name].dtype, want[name].dtype)
      np.testing.assert_array_equal(got[name], want[name])

  def test_round_trip(self):
    self._check(examples.decode(examples.encode(_features())))

  def test_order_of_features_does_not_matter(self):
    features = _features()
    reverse = dict(reversed(features.items()))
    self.assertEqual(examples.encode(features), examples.encode(reverse))

  def test_agrees_with_tensorflow(self):
    try:
      import tensorflow as tf
    except ImportError:
      self.skipTest('TensorFlow is not installed.')
    parsed = tf.train.Example.FromString(examples.encode(_features()))
    feature = parsed.features.feature
    self.assertEqual(list(feature['video'].bytes_list.value),
                     _features()['video'])
    self.assertEqual(list(feature['label'].int64_list.value),
                     _features()['label'].tolist())
    np.testing.assert_array_equal(
        np.float32(feature['fps'].float_list.value), _features()['fps'])
    self._check(examples.decode(parsed.SerializeToString()))

  def test_refuses_truncated_records_and_other_types(self):
    record = examples.encode(_features())
    with self.assertRaises((ValueError, IndexError)):
      examples.decode(record[:-3])
    with self.assertRaisesRegex(ValueError, 'float64'):
      examples.encode(dict(x=np.zeros(2)))


if __name__ == '__main__':
  absltest.main()
