"""What may be chosen for each stage."""
from absl.testing import absltest

from walt_jax.core import errors
from walt_jax.sampling import settings


class SettingsTest(absltest.TestCase):

  def test_per_stage(self):
    spread = lambda values: settings.per_stage(values, 3, '--steps', 9)
    self.assertEqual(spread(None), [9, 9, 9])
    self.assertEqual(spread([5]), [5, 5, 5])
    self.assertEqual(spread([5, 6, 7]), [5, 6, 7])
    with self.assertRaisesRegex(errors.UserError, '--steps has 2 values'):
      spread([5, 6])


if __name__ == '__main__':
  absltest.main()
