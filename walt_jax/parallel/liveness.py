"""How much memory a program needs, read off its trace: an estimate.

It walks the operations in the order they were written and adds up what is
still needed. A compiler fuses, reorders and pads: take it as a guide where
nothing can be compiled.
"""
from collections.abc import Callable
import math
from typing import Any

import jax
from jax.extend import core as jax_core

# Cost nothing: a compiler makes them part of what reads them.
_VIEWS = {'broadcast_in_dim', 'reshape', 'squeeze', 'expand_dims', 'transpose',
          'iota', 'copy', 'stop_gradient', 'sharding_constraint', 'name'}


def peak_bytes(function: Callable[..., Any], *args: Any) -> int:
  """Bytes alive at the worst moment, beside the arguments.

  Args:
    function: Called with `args`, as `jax.make_jaxpr` does.
    *args: Arrays or `jax.ShapeDtypeStruct`s.
  """
  return of_traced(jax.make_jaxpr(function)(*args))


def of_traced(traced: jax_core.ClosedJaxpr) -> int:
  """The same of what has been traced already."""
  return _peak(traced.jaxpr)


def _peak(jaxpr: jax_core.Jaxpr) -> int:
  """Peak of what the body makes; its inputs belong to the caller."""
  last_use = {}
  equations = _needed(jaxpr)
  for index, equation in enumerate(equations):
    for variable in equation.invars:
      if not isinstance(variable, jax_core.Literal):
        last_use[variable] = index
  for variable in jaxpr.outvars:
    if not isinstance(variable, jax_core.Literal):
      last_use[variable] = len(equations)
  # Whose memory a view shows; None is the caller's.
  owner: dict[Any, Any] = {}
  needed_until: dict[Any, int] = {}
  ending: dict[int, list[Any]] = {}
  alive = peak = 0
  for index, equation in enumerate(equations):
    is_view = equation.primitive.name in _VIEWS
    source = next((v for v in equation.invars
                   if not isinstance(v, jax_core.Literal)), None)
    made = 0
    for variable in equation.outvars:
      if variable not in last_use:
        continue
      if is_view:
        root = owner.get(source)
        owner[variable] = root
      else:
        root = owner[variable] = variable
        made += _bytes(variable.aval)
      if root is not None:
        needed_until[root] = max(
            needed_until.get(root, index), last_use[variable])
        ending.setdefault(last_use[variable], []).append(root)
    peak = max(peak, alive + made + _inner_peak(equation))
    alive += made
    for root in ending.pop(index, ()):
      if needed_until.get(root) == index:
        del needed_until[root]
        alive -= _bytes(root.aval)
  return peak


def _needed(jaxpr: jax_core.Jaxpr) -> list[Any]:
  """The operations that the results depend on, in order."""
  wanted = {v for v in jaxpr.outvars if not isinstance(v, jax_core.Literal)}
  kept = []
  for equation in reversed(jaxpr.eqns):
    if any(variable in wanted for variable in equation.outvars):
      kept.append(equation)
      wanted |= {v for v in equation.invars
                 if not isinstance(v, jax_core.Literal)}
  return kept[::-1]


def _inner_peak(equation) -> int:
  """The worst of a loop's, branch's or call's body.

  Results of a call or branch are the caller's, who counts them; a loop's body
  has its own, besides the stacked ones.
  """
  is_loop = equation.primitive.name in ('scan', 'while')
  worst = 0
  for value in equation.params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      body = (item.jaxpr if isinstance(item, jax_core.ClosedJaxpr) else
              item if isinstance(item, jax_core.Jaxpr) else None)
      if body is not None:
        inputs = set(body.invars)
        results = 0 if is_loop else sum(
            _bytes(v.aval) for v in body.outvars
            if not isinstance(v, jax_core.Literal) and v not in inputs)
        worst = max(worst, _peak(body) - results)
  return worst


def _bytes(aval) -> int:
  shape = getattr(aval, 'shape', None)
  if shape is None:
    return 0
  itemsize = 8 if jax.dtypes.issubdtype(
      aval.dtype, jax.dtypes.prng_key) else aval.dtype.itemsize
  return math.prod(shape) * itemsize
