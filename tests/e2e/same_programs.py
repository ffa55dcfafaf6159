"""Equal programs of several commands in one process are one program.

A command makes its functions anew, and JAX knows functions by identity: it
traces, lowers and compiles an equal one again, which is most of the time of a
run of three tiny steps. Here `jax.jit` returns what it returned for an equal
function: of the same code, with equal defaults and closures, down to numbers.
Whatever has no value that says all (arrays of devices, objects that may change)
is equal to itself alone, so that at worst a program is made twice.
"""
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import enum
import functools
import types
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

# Equal ones do the same.
_VALUES = (bool, int, float, complex, str, bytes, type(None), np.dtype, type,
           enum.Enum, types.CodeType, types.ModuleType, jax.sharding.Mesh,
           jax.sharding.Sharding, jax.sharding.PartitionSpec,
           jax.ShapeDtypeStruct)

# Bytes of an array that is a table of numbers, not a network's weights.
_TABLE = 2**20

_jit = jax.jit
_programs: dict[Any, Callable] = {}


class _Itself:
  """Equal for one object alone, which it keeps, so that its id stays its own.
  """

  def __init__(self, held: Any):
    self.held = held

  def __hash__(self):
    return id(self.held)

  def __eq__(self, other):
    return isinstance(other, _Itself) and self.held is other.held


def value_of(thing: Any, within: tuple[int, ...] = ()) -> Any:
  """What two things that do the same have in common, and no others.

  Args:
    thing: A function, or what one may hold.
    within: Ids of what it is found in, for what holds itself.
  """
  if id(thing) in within:
    return 'holds itself', within.index(id(thing))
  value = functools.partial(value_of, within=(*within, id(thing)))
  kind = type(thing)
  if isinstance(thing, _VALUES):
    return kind, thing
  if isinstance(thing, types.FunctionType):
    return (kind, thing.__module__, thing.__code__, value(thing.__defaults__),
            value(thing.__kwdefaults__), value(thing.__closure__))
  if isinstance(thing, types.CellType):
    try:
      return kind, value(thing.cell_contents)
    except ValueError:  # Empty.
      return kind, _Itself(thing)
  if isinstance(thing, types.MethodType):
    return kind, value(thing.__func__), value(thing.__self__)
  if isinstance(thing, functools.partial):
    return kind, value(thing.func), value(thing.args), value(thing.keywords)
  if isinstance(thing, tuple | list):
    return kind, tuple(value(item) for item in thing)
  if isinstance(thing, np.ndarray) and thing.nbytes <= _TABLE:
    return kind, thing.dtype, thing.shape, thing.tobytes()
  if isinstance(thing, dict):
    return kind, tuple((value(k), value(v)) for k, v in thing.items())
  if dataclasses.is_dataclass(thing) and (
      thing.scope is None if isinstance(thing, nn.Module)
      else kind.__dataclass_params__.frozen):
    return kind, tuple(value(getattr(thing, field.name))
                       for field in dataclasses.fields(thing))
  return kind, _Itself(thing)


def jit(function: Callable, **options: Any) -> Any:
  """`jax.jit`, once for equal functions and options."""
  key = value_of(function), value_of(options)
  if key not in _programs:
    _programs[key] = _jit(function, **options)
  return _programs[key]


@contextlib.contextmanager
def shared() -> Iterator[None]:
  """Within it, `jax.jit(..)` knows equal functions."""
  with mock.patch.object(jax, 'jit', jit):
    yield
