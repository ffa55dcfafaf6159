"""Values of the user's own conditions, from requests to a stage."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import errors
from walt_jax.sampling import own_conditions
from walt_jax.sampling import requests


class Speed:
  column, shape, null = 'speed', (), -1.0


class Wind:
  column, shape, null = 'wind', (2, 1), 0.5


class OwnConditionsTest(parameterized.TestCase):

  def test_values_and_what_is_given(self):
    asked = [requests.Request(conditions=(('wind', (3.0, 4.0)),)),
             requests.Request(conditions=(('speed', (2.0,)),))]
    fields = own_conditions.of([Speed, Wind], asked)
    np.testing.assert_array_equal(fields['own']['speed'], [[-1], [2]])
    np.testing.assert_array_equal(
        fields['own']['wind'], [[[[3], [4]]], [[[0.5], [0.5]]]])
    np.testing.assert_array_equal(
        fields['own_mask']['speed'], [[False], [True]])
    np.testing.assert_array_equal(
        fields['own_mask']['wind'], [[True], [False]])
    self.assertEqual(own_conditions.of([], asked), {})

  @parameterized.parameters(
      (('sped', (1.0,)), "'sped': no stage .* known: speed, wind"),
      (('wind', (1.0,)), "'wind' takes 2 numbers, not 1: 1"))
  def test_what_does_not_fit_is_refused(self, given, message):
    with self.assertRaisesRegex(errors.UserError, message):
      own_conditions.check(
          [Speed, Wind], [requests.Request(conditions=(given,))])


if __name__ == '__main__':
  absltest.main()
