"""Checks that a JSON value has the form that its reader relies on."""
import collections.abc
from collections.abc import Mapping
import dataclasses
import functools
import math
import types
import typing
from typing import Any

from walt_jax.core import errors

# What a value must be: a type, a union, list[K], tuple[K, ..], Mapping[str, K],
# Literal[..], a dataclass (an object with its fields), or a dict of kinds by
# key, of which one that ends with '?' may be absent.
Kind = Any


def check(value: Any, kind: Kind, where: str = '') -> None:
  """Refuses a value of another form.

  Args:
    value: A JSON value.
    kind: Its form; numbers of any size but for those that no float holds.
    where: Dotted name of the value, for the message.

  Raises:
    ValueError: The first part that differs, and how.
  """
  if kind is Any:
    return
  if isinstance(kind, dict):
    _check_object(value, kind, where)
  elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
    _check_object(value, _kinds_of(kind), where)
  else:
    _check_plain(value, kind, where)


@functools.cache
def _kinds_of(section: type) -> dict[str, Kind]:
  kinds = typing.get_type_hints(section)
  return {f'{field.name}?': kinds[field.name]
          for field in dataclasses.fields(section)}  # type: ignore[arg-type]


def _check_object(value: Any, kinds: Mapping[str, Kind], where: str) -> None:
  if not isinstance(value, dict):
    raise _unlike(value, 'an object', where)
  for key, kind in kinds.items():
    name = key.removesuffix('?')
    if name in value:
      check(value[name], kind, f'{where}.{name}' if where else name)
    elif name == key:
      raise ValueError(f'{where or "it"} lacks {name!r}')


def _check_plain(value: Any, kind: Kind, where: str) -> None:
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin in (types.UnionType, typing.Union):
    _check_union(value, arguments, where)
  elif origin is typing.Literal:
    if value not in arguments:
      raise _unlike(value, f'one of {", ".join(map(str, arguments))}', where)
  elif origin in (list, tuple):
    _check_list(value, arguments, where)
  elif origin in (dict, collections.abc.Mapping):
    if not isinstance(value, dict):
      raise _unlike(value, 'an object', where)
    for name, item in value.items():
      check(item, arguments[1], f'{where}.{name}')
  elif not _is(value, kind):
    raise _unlike(value, _WORDS[kind], where)


def _check_union(value: Any, kinds: tuple[Kind, ...], where: str) -> None:
  problem = None
  for kind in kinds:
    try:
      return check(value, kind, where)
    except ValueError as error:
      problem = problem or error
  assert problem is not None
  raise problem


def _check_list(value: Any, kinds: tuple[Kind, ...], where: str) -> None:
  if not isinstance(value, (list, tuple)):
    raise _unlike(value, 'a list', where)
  if len(kinds) > 1 and kinds[-1] is not Ellipsis:
    if len(kinds) != len(value):
      raise _unlike(value, f'a list of {len(kinds)}', where)
  else:
    kinds = kinds[:1] * len(value)
  for number, (item, kind) in enumerate(zip(value, kinds, strict=True)):
    check(item, kind, f'{where}[{number}]')


_WORDS = {str: 'a text', int: 'a whole number', float: 'a number',
          bool: 'true or false', types.NoneType: 'null'}


def _is(value: Any, kind: type) -> bool:
  if kind is types.NoneType:
    return value is None
  if kind is bool or isinstance(value, bool):
    return kind is bool and isinstance(value, bool)
  if kind is str:
    return isinstance(value, str)
  if isinstance(value, int):
    return kind in (int, float) and value.bit_length() < 1000
  return kind is float and isinstance(value, float)


def is_number(value: Any) -> bool:
  """Whether a value is a number that a float holds; NaN is one."""
  return _is(value, float)


def is_finite(value: Any) -> bool:
  """Whether a value is a number with an end."""
  return _is(value, float) and math.isfinite(value)


def _unlike(value: Any, wanted: str, where: str) -> ValueError:
  return ValueError(f'{where or "it"} is {errors.short(value)}, not {wanted}')
