"""Checksums that add up over the parts of an array."""
import itertools

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np

from walt_jax.core import array_sums

_KINDS = (np.float32, np.int32, np.float64, np.uint8, np.bool_,
          ml_dtypes.bfloat16)


def mix(number: int) -> int:
  """SplitMix64's step and finaliser, in Python's whole numbers."""
  z = number * 0x9E3779B97F4A7C15 % 2**64
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
  z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
  return (z ^ z >> 31) | 1


def by_definition(values: np.ndarray) -> int:
  """The sum, element by element."""
  total, size = 0, values.dtype.itemsize
  for index in np.ndindex(values.shape):
    weight, index = 1, list(index)
    if size == 4 and index:
      weight = 2 ** (32 * (index[-1] % 2))
      index[-1] //= 2
    for axis, place in enumerate(index):
      weight *= mix((place + (axis + 1) * 0xD1342543DE82EF95) % 2**64)
    at = tuple(index)
    if size == 4 and at:
      at = (*at[:-1], 2 * at[-1] + (weight % 2 == 0))
    total += int.from_bytes(values[at].tobytes(), 'little') * weight
  return total % 2**64


def sample(kind, *shape) -> np.ndarray:
  return (100 * np.random.default_rng(0).normal(size=shape)).astype(kind)


class ArraySumsTest(parameterized.TestCase):

  @parameterized.product(
      kind=_KINDS, shape=((), (1,), (7,), (8,), (3, 5), (2, 3, 4), (0, 4)))
  def test_is_what_it_says(self, kind, shape):
    values = sample(kind, *shape)
    self.assertEqual(array_sums.of_part(values, (0,) * values.ndim),
                     by_definition(values))

  @parameterized.product(kind=_KINDS, cuts=(
      ((0, 6), (0, 3000)), ((0, 2, 6), (0, 1500, 3000)),
      ((0, 1, 5, 6), (0, 3000)), ((0, 6), (0, 1, 2, 999, 1000, 3000))))
  def test_parts_add_up_to_the_whole(self, kind, cuts):
    values = sample(kind, 6, 3000)
    parts = [(values[a:b, c:d], (a, c)) for (a, b), (c, d) in itertools.product(
        itertools.pairwise(cuts[0]), itertools.pairwise(cuts[1]))]
    self.assertEqual(sum(array_sums.of_parts(parts)) % 2**64,
                     array_sums.of_part(values, (0, 0)))

  @parameterized.parameters(*_KINDS)
  def test_one_changed_bit_is_seen(self, kind):
    values = sample(kind, 5, 64)
    before = array_sums.of_part(values, (0, 0))
    size = values.nbytes
    for bit in range(0, 8 * size, 37 if size > 400 else 8):
      changed = bytearray(values.tobytes())
      changed[bit // 8] ^= 1 << bit % 8
      after = np.frombuffer(changed, values.dtype).reshape(values.shape)
      self.assertNotEqual(array_sums.of_part(after, (0, 0)), before, bit)

  def test_what_is_moved_or_lost_is_seen(self):
    values = sample(np.float32, 4, 6, 8)
    sums = {array_sums.of_part(np.ascontiguousarray(one), (0, 0, 0))
            for one in (values, values[::-1], values[:, ::-1],
                        values[..., ::-1], np.roll(values, 1, 1), -values,
                        np.where(np.arange(8) < 4, values, 0))}
    self.assertLen(sums, 7)

  def test_large_parts_are_shared_by_threads(self):
    values = sample(np.float32, 100, 50_000)
    self.assertGreater(values.nbytes, array_sums._TASK_BYTES)
    self.assertEqual(array_sums.of_parts([(values, (3, 5)), (values, (0, 0))]),
                     [array_sums.of_part(values, (3, 5)),
                      array_sums.of_part(values, (0, 0))])


if __name__ == '__main__':
  absltest.main()
