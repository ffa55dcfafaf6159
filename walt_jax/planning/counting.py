"""Counts of parameters and of arithmetic, from shapes alone."""
from collections.abc import Callable, Iterator, Sequence
import math
import re
from typing import Any

import jax
from jax.extend import core as jax_core
from jax.interpreters import partial_eval

# (part, pattern of parameter paths); the first match wins.
Parts = Sequence[tuple[str, str]]


def parameters(tree: Any) -> int:
  """Number of scalars in a tree of arrays or of their shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def parameters_by_part(tree: Any, parts: Parts) -> dict[str, int]:
  """Number of scalars of each part; parts without any are left out.

  Raises:
    ValueError: If a leaf belongs to no part.
  """
  counts = dict.fromkeys((part for part, _ in parts), 0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    part = next((p for p, pattern in parts if re.search(pattern, name)), None)
    if part is None:
      raise ValueError(f'Parameter {name} {leaf.shape} belongs to no part.')
    counts[part] += math.prod(leaf.shape)
  return {part: count for part, count in counts.items() if count}


def product_flops(function: Callable[..., Any], *args: Any) -> int:
  """Operations in the matrix products and convolutions of a function.

  A multiplication and an addition count as two; element-wise work counts as
  nothing, padding of a convolution as if it were data. A loop's body counts
  as often as it runs, a kernel's as often as its grid has programs, with its
  padded sizes. Nothing is computed.

  Args:
    function: Called with `args`, as `jax.make_jaxpr` does.
    *args: Arrays or `jax.ShapeDtypeStruct`s.

  Raises:
    ValueError: On a loop whose number of steps depends on data.
  """
  return flops_and_shapes(function, *args)[0]


def flops_and_shapes(function: Callable[..., Any], *args: Any
                     ) -> tuple[int, Any]:
  """`product_flops`, and the shapes of what the function returns."""
  jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
  return _flops_of(jaxpr.jaxpr), shapes


def flops_of(traced: jax.stages.Traced) -> int:
  """The same of a traced program, over all of its devices, without what no
  result depends on: a rematerialised layer holds kernels whose results were
  kept, and compilers leave them out."""
  return _flops_of(live(traced))


def has_convolutions(traced: jax.stages.Traced) -> bool:
  """Whether a traced program convolves."""
  return _has_convolutions(traced.jaxpr.jaxpr)


def _has_convolutions(jaxpr: jax_core.Jaxpr) -> bool:
  return any(equation.primitive.name == 'conv_general_dilated' or
             any(map(_has_convolutions, inner_jaxprs(equation.params)))
             for equation in jaxpr.eqns)


def live(traced: jax.stages.Traced) -> jax_core.Jaxpr:
  """A trace without what no result depends on; its inputs stay."""
  jaxpr = traced.jaxpr.jaxpr
  kept, _ = partial_eval.dce_jaxpr(
      jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
  return _without_dead(kept)


def _without_dead(jaxpr: jax_core.Jaxpr) -> jax_core.Jaxpr:
  """A body without equations whose results nothing in it reads.

  JAX's own elimination never leaves out a Pallas kernel, XLA's does.
  """
  read = {id(one) for one in jaxpr.outvars}
  kept = []
  for equation in reversed(jaxpr.eqns):
    if equation.effects or any(id(one) in read for one in equation.outvars):
      read |= {id(one) for one in equation.invars}
      kept.append(equation if equation.primitive.name == 'pallas_call' else
                  equation.replace(params={
                      name: _bodies_without_dead(value)
                      for name, value in equation.params.items()}))
  return jaxpr.replace(eqns=kept[::-1])


def _bodies_without_dead(value: Any) -> Any:
  """The value of a parameter, of which bodies are without dead equations."""
  if type(value) in (tuple, list):
    return type(value)(map(_bodies_without_dead, value))
  if isinstance(value, jax_core.ClosedJaxpr):
    return value.replace(jaxpr=_without_dead(value.jaxpr))
  return _without_dead(value) if isinstance(value, jax_core.Jaxpr) else value


def _flops_of(jaxpr: jax_core.Jaxpr) -> int:
  return sum(equation_flops(equation) for equation in jaxpr.eqns)


def equation_flops(equation: Any) -> int:
  """Operations in the products of one operation of a trace."""
  name = equation.primitive.name
  inner = [_flops_of(part) for part in inner_jaxprs(equation.params)]
  if name == 'dot_general':
    return dot_flops(equation)
  if name == 'conv_general_dilated':
    return _conv_flops(equation)
  if name == 'while' and any(inner):
    raise ValueError('A while loop runs as often as its data say: its '
                     'operations cannot be counted.')
  if name == 'cond':
    return max(inner)
  if name == 'scan':
    return equation.params['length'] * sum(inner)
  if name == 'pallas_call':
    return sum(inner) * math.prod(equation.params['grid_mapping'].grid)
  if name == 'shard_map':  # The body is what each device does.
    params = equation.params  # The axes' name differs between JAX versions.
    axes = params.get('newly_manual_axes') or params['manual_axes']
    return sum(inner) * math.prod(
        params['mesh'].shape[axis] for axis in axes)
  return sum(inner)


def inner_jaxprs(params: dict[str, Any]) -> Iterator[jax_core.Jaxpr]:
  """The bodies that an operation runs: of a loop, a branch, a kernel."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, jax_core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, jax_core.Jaxpr):
        yield item


def dot_flops(equation: Any) -> int:
  """Operations of one `dot_general`."""
  (contracted, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval.shape
  return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(
      left[axis] for axis in contracted)


def _conv_flops(equation) -> int:
  """Without the zeros between dilated inputs, which nobody multiplies."""
  kernel = equation.invars[1].aval.shape
  params = equation.params
  outputs = kernel[params['dimension_numbers'].rhs_spec[0]]
  return 2 * math.prod(equation.outvars[0].aval.shape) * (
      math.prod(kernel) // outputs) // math.prod(params['lhs_dilation'])
