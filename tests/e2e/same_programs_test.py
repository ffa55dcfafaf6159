"""Programs are shared where they do the same, and nowhere else."""
import dataclasses
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.e2e import same_programs
from walt_jax.parallel import rules
from walt_jax.training import optimizers


@dataclasses.dataclass(frozen=True)
class Scale:
  factor: float

  def __call__(self, x):
    return self.factor * x


class Changing:
  """Its value is not all that it is."""

  def __init__(self, factor):
    self.factor = factor

  def __call__(self, x):
    return self.factor * x


def scaled(held):
  return lambda x: x * held


def called(held):
  return lambda x: held(x)


def update(rate):
  optimizer = optimizers.make_optimizer(
      optimizers.OptimizerOptions(peak_lr=rate), rules.DENOISER_RULES)
  return optimizer.update


class SameProgramsTest(parameterized.TestCase):

  @parameterized.parameters(
      lambda n: scaled(n),
      lambda n: scaled(np.full(3, n)),
      lambda n: called(Scale(n)),
      lambda n: called(Scale(n).__call__),
      lambda n: functools.partial(jnp.multiply, n),
      lambda n: lambda x, factor=n: factor * x,
      lambda n: lambda x, *, factor=n: factor * x,
      lambda n: called(nn.Dense(int(8 * n)).init),
      lambda n: scaled([n, (n, dict(key=n))]),
      update)
  def test_equal_functions_are_one_program(self, make):
    one, same, other = (same_programs.value_of(make(n)) for n in (.5, .5, .25))
    self.assertEqual(one, same)
    self.assertEqual(hash(one), hash(same))
    self.assertNotEqual(one, other)

  def test_types_are_told_apart(self):
    values = {same_programs.value_of(scaled(x)) for x in (
        1, 1.0, True, np.float32(1), np.ones((), np.float32),
        np.ones(1, np.float32), np.ones(1, np.int32), None, (1,), [1])}
    self.assertLen(values, 10)

  @parameterized.parameters(
      lambda: called(Changing(2)), lambda: scaled(jnp.ones(2)),
      lambda: called(nn.Dense(2).bind({'params': {}})))
  def test_what_may_change_is_itself_alone(self, make):
    one = make()
    self.assertEqual(
        same_programs.value_of(one), same_programs.value_of(one))
    self.assertNotEqual(
        same_programs.value_of(one), same_programs.value_of(make()))

  def test_a_function_that_calls_itself(self):
    def countdown(n):
      return lambda x: x if n == 0 else countdown(n - 1)(x)
    self.assertEqual(same_programs.value_of(countdown(1)),
                     same_programs.value_of(countdown(1)))
    self.assertNotEqual(same_programs.value_of(countdown(1)),
                        same_programs.value_of(countdown(2)))

  def test_jit_is_shared_within_and_traces_once(self):
    traced = mock.Mock()
    def make(factor):
      def function(x):
        traced(factor)
        return factor * x
      return jax.jit(function)
    with same_programs.shared():
      self.assertEqual([float(make(n)(2.0)) for n in (3, 3, 4)], [6, 6, 8])
      self.assertEqual(traced.mock_calls, [mock.call(3), mock.call(4)])
      self.assertIsNot(
          jax.jit(scaled(2)), jax.jit(scaled(2), donate_argnums=0))
    self.assertIsNot(make(3), make(3))


if __name__ == '__main__':
  absltest.main()
