"""What the network predicts (v, eps or x_0) and how the three convert.

With x_t = alpha x_0 + sigma eps, v = alpha eps - sigma x_0 (Salimans and Ho
2202.00512), so that v = -x_0 at a zero-SNR step. The paper prints v with its
coefficients swapped.
"""
import dataclasses

import jax
import jax.numpy as jnp

from walt_jax.diffusion import schedules

KINDS = ('v', 'eps', 'x0')


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The meaning of the network's output.

  Attributes:
    kind: 'v', 'eps' or 'x0'.
  """
  kind: str = 'v'

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(f'Unknown prediction {self.kind!r}; choose of {KINDS}.')

  def check(self, schedule: schedules.Schedule) -> None:
    """Refuses eps with a zero-SNR step, where x_0 cannot be recovered."""
    if self.kind == 'eps' and schedule.has_zero_terminal_snr:
      raise ValueError(
          "prediction 'eps' says nothing about x_0 at zero terminal SNR; use "
          "prediction 'v', or zero_terminal_snr=False.")

  def target(self, x_0, eps, alpha, sigma) -> jax.Array:
    """What the network should output; `alpha`, `sigma` broadcast to `x_0`."""
    if self.kind == 'v':
      return alpha * eps - sigma * x_0
    return eps if self.kind == 'eps' else x_0

  def x_0(self, output, x_t, alpha, sigma) -> jax.Array:
    """The estimate of the clean latents that `output` amounts to."""
    if self.kind == 'v':
      return alpha * x_t - sigma * output
    return (x_t - sigma * output) / alpha if self.kind == 'eps' else output

  def eps(self, output, x_t, alpha, sigma) -> jax.Array:
    """The estimate of the noise that `output` amounts to."""
    if self.kind == 'v':
      return sigma * x_t + alpha * output
    return output if self.kind == 'eps' else (x_t - alpha * output) / sigma

  def min_snr_weight(self, gamma, noise_power, snr_cap) -> jax.Array:
    """Min-SNR weight of the squared error (Hang et al. 2303.09556).

    min(SNR, cap) on x_0, expressed for what is predicted. With v or x_0 and
    zero terminal SNR the weight is 0 at the last step: it is never trained.

    Args:
      gamma: Signal power, any shape.
      noise_power: 1 - gamma.
      snr_cap: The cap (5 in the paper).
    """
    if self.kind == 'v':
      return jnp.minimum(gamma, snr_cap * noise_power)
    if self.kind == 'eps':
      return jnp.minimum(1., snr_cap * noise_power / gamma)
    return jnp.minimum(gamma / noise_power, snr_cap)
