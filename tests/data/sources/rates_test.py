"""Rates of clips; the right values are worked out by hand."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.data.sources import mixture
from walt_jax.data.sources import moving_digits
from walt_jax.data.sources import rates
from walt_jax.data.sources import source as source_lib
from walt_jax.data.storage import example_index

NTSC = 30000 / 1001


class Rated:
  """Examples that are nothing but their rate; None for none.

  Attributes:
    read: Places that were read.
  """
  classes = ('a',)

  def __init__(self, values, table=False):
    self.values, self.read = values, []
    if table:
      self.index = np.array([(9, 8, 8, value, 0) for value in values],
                            example_index.DTYPE)

  def __len__(self):
    return len(self.values)

  def __getitem__(self, index):
    self.read.append(index)
    value = self.values[index]
    return dict(label=0) | ({} if value is None else {'fps': value})


class RatesTest(parameterized.TestCase):

  @parameterized.product(
      case=(
          # Rates of the examples, strides; median, lowest, highest.
          ([25.0] * 5, (1,), (25, 25, 25)),
          ([8.0, 25.0, 30.0], (1,), (25, 8, 30)),
          ([8.0, 25.0, 30.0, 50.0], (1,), (25, 8, 50)),
          ([25.0], (2,), (12.5, 12.5, 12.5)),
          ([24.0] * 3, (1, 2, 4), (12, 6, 24)),
          ([float(np.float32(NTSC))] * 3, (1,), (NTSC, NTSC, NTSC)),
          ([0.0, 10.0, float('nan')], (1,), (10, 10, 10))),
      table=(True, False))
  def test_sources(self, case, table):
    values, strides, expected = case
    found = rates.of_source(Rated(values, table), strides)
    self.assertEqual((found.median, found.lowest, found.highest), expected)
    self.assertEqual(found.is_one, expected[1] == expected[2])

  @parameterized.parameters(True, False)
  def test_a_mixture_counts_by_its_weights(self, table):
    """Nine of ten clips of a batch play at 8 frames/s."""
    small, large = Rated([8.0] * 3, table), Rated([25.0] * 40, table)
    mixed = mixture.Mixture([small, large], [9, 1])
    for source in (mixed, mixture.Relabelled(mixed, ('a', 'b'))):
      self.assertEqual(
          rates.of_source(source), rates.ClipRates(8.0, 8.0, 25.0))
    plain = source_lib.Concatenation([small, large])
    self.assertEqual(rates.of_source(plain).median, 25.0)

  def test_without_a_table_few_examples_are_read(self):
    source = Rated([10.0] * 999 + [20.0])
    self.assertEqual(rates.of_source(source).highest, 20.0)
    self.assertLessEqual(len(source.read), 16)

  def test_sources_without_any_rate(self):
    self.assertIsNone(rates.of_source(Rated([None, None])))
    self.assertIsNone(rates.of_source(Rated([])))

  @parameterized.parameters(
      (8.0, (1,), 8.0, 8.0, 8.0), (8.0, (1, 2), 4.0, 4.0, 8.0),
      (24.0, (1, 2, 3), 12.0, 8.0, 24.0))
  def test_one_rate(self, rate, strides, *expected):
    self.assertEqual(
        rates.of_rate(rate, strides), rates.ClipRates(*expected))

  def test_moving_digits(self):
    digits = moving_digits.MovingDigits(
        split='train', num_examples=4, size=32, num_frames=2,
        difficulty='quick')
    self.assertEqual(rates.of_source(digits), rates.ClipRates(8.0, 8.0, 8.0))


if __name__ == '__main__':
  absltest.main()
