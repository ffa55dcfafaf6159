"""Numbers and fields as the format's documentation shows them."""
from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import protobuf


class ProtobufTest(parameterized.TestCase):

  @parameterized.parameters(
      (0, b'\x00'), (1, b'\x01'), (150, b'\x96\x01'),
      (-1, b'\xff' * 9 + b'\x01'))
  def test_numbers(self, value, data):
    self.assertEqual(protobuf.varint(value), data)
    self.assertEqual(protobuf.read_varint(b'?' + data, 1),
                     (value % 2 ** 64, 1 + len(data)))

  def test_fields_of_every_kind(self):
    data = (b'\x08\x96\x01' + protobuf.field(2, b'testing')
            + b'\x1d\x01\x02\x03\x04' + b'\x21' + bytes(range(8)))
    want = [(1, 150), (2, b'testing'), (3, b'\x01\x02\x03\x04'),
            (4, bytes(range(8)))]
    self.assertEqual(list(protobuf.read_fields(data)), want)
    self.assertEqual([(number, value if isinstance(value, int)
                       else bytes(value)) for number, value in
                      protobuf.read_fields(memoryview(data))], want)

  @parameterized.parameters(
      (b'\x12\x07testin', 'cut short'), (b'\x1d\x01\x02', 'cut short'),
      (b'\x0b', 'field kind 3'))
  def test_damage_is_an_error(self, data, message):
    with self.assertRaisesRegex(ValueError, message):
      list(protobuf.read_fields(data))


if __name__ == '__main__':
  absltest.main()
