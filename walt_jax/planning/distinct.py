"""Arithmetic of a trace without what it says twice.

A compiler does equal work once: a GAN's step asks the discriminator of the
same clips for the generator and for itself. What a program must do at least
lies between the distinct products and all of them.
"""
from typing import Any

import jax
from jax.extend import core as jax_core

from walt_jax.planning import counting

# Bodies that run as they stand, on the inputs of the call.
_CALLS = ('jit', 'pjit', 'closed_call', 'core_call', 'custom_jvp_call',
          'custom_vjp_call', 'custom_lin')


def distinct_flops(traced: jax.stages.Traced) -> int:
  """Operations in products, equal ones of equal inputs counted once.

  Without what no result depends on, as in `counting.flops_of`. Loops and what
  is computed again for the backward pass count as all of it.
  """
  jaxpr = counting.live(traced)
  numbering = _Numbering()
  return numbering.walk(jaxpr, [numbering.new() for _ in jaxpr.invars])[0]


class _Numbering:
  """Gives equal values the same number, within one trace."""

  def __init__(self):
    self._known: dict[Any, list[int]] = {}
    self._count = 0

  def new(self) -> int:
    """A number that no other value has."""
    self._count += 1
    return self._count

  def walk(self, jaxpr: jax_core.Jaxpr, inputs: list[Any]
           ) -> tuple[int, list[Any]]:
    """FLOPs that are new in a body, and the numbers of its results."""
    values: dict[Any, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
    values |= {one: self.new() for one in jaxpr.constvars}

    def number(variable):
      if isinstance(variable, jax_core.Literal):
        return repr(variable)
      return values[variable]

    flops = 0
    for equation in jaxpr.eqns:
      new, outputs = self._equation(
          equation, [number(one) for one in equation.invars])
      flops += new
      values |= dict(zip(equation.outvars, outputs, strict=True))
    return flops, [number(one) for one in jaxpr.outvars]

  def _equation(self, equation: Any, inputs: list[Any]
                ) -> tuple[int, list[Any]]:
    name, params = equation.primitive.name, equation.params
    bodies = list(counting.inner_jaxprs(params))
    if name in _CALLS and bodies and len(bodies[0].invars) == len(inputs):
      return self.walk(bodies[0], inputs)
    if bodies or name == 'optimization_barrier':
      return (counting.equation_flops(equation),
              [self.new() for _ in equation.outvars])
    key = (name, tuple(inputs), tuple(
        (what, str(value)) for what, value in sorted(params.items())))
    if key in self._known:
      return 0, self._known[key]
    self._known[key] = [self.new() for _ in equation.outvars]
    return counting.equation_flops(equation), self._known[key]
