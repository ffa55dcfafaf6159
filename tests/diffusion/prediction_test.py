from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from walt_jax.diffusion import prediction
from walt_jax.diffusion import schedules


class PredictionTest(parameterized.TestCase):

  @parameterized.parameters(*((kind,) for kind in prediction.KINDS))
  def test_perfect_output_recovers_both_parts(self, kind):
    x_0, eps = jax.random.normal(jax.random.key(0), (2, 3, 8))
    alpha, sigma = schedules.linear().alpha_sigma(
        np.asarray([[0.2], [0.5], [0.9]]))
    x_t = alpha * x_0 + sigma * eps
    kind = prediction.Prediction(kind)
    output = kind.target(x_0, eps, alpha, sigma)
    np.testing.assert_allclose(
        kind.x_0(output, x_t, alpha, sigma), x_0, atol=1e-4)
    np.testing.assert_allclose(
        kind.eps(output, x_t, alpha, sigma), eps, atol=1e-4)

  def test_v_is_minus_x_0_at_zero_snr(self):
    x_0, eps = jax.random.normal(jax.random.key(0), (2, 4))
    target = prediction.Prediction('v').target(x_0, eps, 0., 1.)
    np.testing.assert_array_equal(target, -x_0)

  def test_eps_with_zero_terminal_snr_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'zero terminal SNR'):
      prediction.Prediction('eps').check(schedules.linear())
    prediction.Prediction('eps').check(
        schedules.linear(zero_terminal_snr=False))

  def test_min_snr_weight_is_the_same_loss_on_x_0(self):
    gamma = np.asarray([0.999, 0.9, 0.5, 0.1, 1e-3])
    snr = gamma / (1 - gamma)
    expected = np.minimum(snr, 5)
    # How much larger a squared error of the output is than one of x_0.
    factor = dict(x0=np.ones(5), eps=snr, v=snr + 1)
    for kind in prediction.KINDS:
      weight = prediction.Prediction(kind).min_snr_weight(
          gamma, 1 - gamma, 5.)
      np.testing.assert_allclose(weight * factor[kind], expected, rtol=1e-5)

  def test_min_snr_never_trains_a_zero_snr_step(self):
    self.assertEqual(
        float(prediction.Prediction('v').min_snr_weight(0., 1., 5.)), 0)


if __name__ == '__main__':
  absltest.main()
