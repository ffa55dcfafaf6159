"""Sections of a config as frozen dataclasses: keys, types, ranges, meanings.

The annotation of a field says what its key takes: `bool`, `int`, `float` (also
a whole number), `str`, a `Literal` of names, a tuple of these, another section,
or one of these `| None` (an empty section means None too). `Annotated` with a
`ranges.Range` adds bounds, with a `ClassName` the form `module:Class`, with a
`Place` that of a path. The meaning of a key is its entry under `Attributes:`
in the docstring of the section, or of the class that the section `configures`.
"""
from collections.abc import Mapping, Sequence
import copy
import dataclasses
import functools
import inspect
import json
import re
import types
import typing
from typing import Annotated, Any, Literal, TypeVar

from walt_jax.core import errors
from walt_jax.core import extensions
from walt_jax.core import paths
from walt_jax.core import ranges

T = TypeVar('T')
MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class ClassName:
  """The form of a text that names a class of the user's own."""

  def holds(self, value: str) -> bool:
    """Whether a text has the form; nothing is imported."""
    return extensions.is_name(value)

  def __str__(self) -> str:
    return 'of the form module:Class'


@dataclasses.dataclass(frozen=True)
class Place:
  """The form of a text that names files, folders or TFDS sets; '' names none.
  """

  def holds(self, value: str) -> bool:
    """Whether what is named may be opened."""
    try:
      check_places(value)
    except ValueError:
      return False
    return True

  def __str__(self) -> str:
    return f'that names local paths or {paths.SCHEME}BUCKET/..'


def check_places(value: str) -> None:
  """Raises ValueError for a path that is neither local nor in a bucket."""
  try:
    for path in places(value):
      paths.check(path)
  except errors.UserError as error:
    raise ValueError(str(error)) from error
  for item in value.split(','):
    if item.strip().startswith('tfds:') and paths.SCHEME in item:
      raise ValueError(
          f'{item.strip()!r}: TFDS sets are read from this machine alone; copy '
          'the set, or prepare it with walt data prepare --output '
          f'{paths.SCHEME}BUCKET/..')


def places(value: str) -> list[str]:
  """The paths in 'PATH', 'PATH,PATH' and 'tfds:NAME@DIR'."""
  return [part for item in value.split(',')
          for part in item.strip().removeprefix('tfds:').split('@')]


OwnClass = Annotated[str, ClassName()]
Location = Annotated[str, Place()]

# In words: one, and many.
_KINDS = {
    bool: ('True or False', 'True or False'),
    int: ('a whole number', 'whole numbers'),
    float: ('a number', 'numbers'),
    str: ('a text', 'texts'),
}


def build(section: type[T], values: Mapping[str, Any], where: str = '') -> T:
  """Builds a section from plain values; lists count as tuples.

  Args:
    section: A frozen dataclass.
    values: Values by key; a key that is left out has its default.
    where: Dotted name of the section, for errors; '' for a whole config.

  Raises:
    UserError: On a key that is unknown or missing, or a value of a wrong type
      or out of its range.
  """
  if not isinstance(values, Mapping):
    raise errors.UserError(
        f'config section {where or "of the file"} is {errors.short(values)}, '
        'not a section of keys')
  keys = fields(section)
  unknown = sorted(set(values) - set(keys))
  if unknown:
    raise errors.UserError(
        f'unknown config key {dotted(where, unknown[0])!r}; known'
        f'{f" in {where}" if where else ""}: {", ".join(sorted(keys))}')
  for name, field in keys.items():
    if name not in values and is_required(field):
      raise errors.UserError(
          f'the config lacks the key {dotted(where, name)!r}')
  typed = {name: _typed(annotations(section)[name], value,
                        dotted(where, name))
           for name, value in values.items()}
  try:
    return section(**typed)
  except ValueError as e:
    raise errors.UserError(f'config section {where}: {e}') from e


def default(section: type, keys: Sequence[str]) -> Any:
  """The default of a key of a section or of a section in it.

  Args:
    section: A frozen dataclass.
    keys: The parts of the key's dotted name.

  Returns:
    The default, or MISSING where there is no such key or it has none.
  """
  for holder in _holders(section, keys):
    if holder.default is not MISSING:
      return holder.default
  return MISSING


def hint(section: type, keys: Sequence[str], text: str) -> str:
  """What a key takes and, where that helps, how to write it.

  Args:
    section: A frozen dataclass.
    keys: The parts of the key's dotted name.
    text: What was given on the command line.

  Returns:
    The end of a message, or '' where there is no such key.
  """
  found = _holders(section, keys)
  if not found:
    return ''
  annotation = found[0].type
  words = f'; give {describe(annotation)}'
  for kind in _alternatives(annotation):
    if typing.get_origin(kind) is tuple:
      # 'fvd' is meant as ('fvd',) where that is a value.
      given = (text,)
      example = given if _fit(kind, given)[0] else _example(kind)
      words += f', such as "{example!r}"'
  return words


def _holders(section: type, keys: Sequence[str]
             ) -> list[dataclasses.Field[Any]]:
  """The fields of a dotted key, of each section that may have it; `type` is
  the annotation.
  """
  first, *rest = keys
  if first not in fields(section):
    return []
  annotation = annotations(section)[first]
  if rest:
    return [field for kind in subsections(annotation)
            for field in _holders(kind, rest)]
  field = copy.copy(fields(section)[first])
  field.type = annotation
  return [field]


def is_section(section: type, keys: Sequence[str]) -> bool:
  """Whether a key of a section, or of a section in it, holds a section."""
  kinds: tuple[type, ...] = (section,)
  for key in keys:
    kinds = tuple(inner for kind in kinds if key in fields(kind)
                  for inner in subsections(annotations(kind)[key]))
  return bool(kinds)


def with_defaults(section: type, values: Mapping[str, Any]) -> dict[str, Any]:
  """Plain values of a section and, where keys are left out, their defaults.

  Nothing is checked, and keys that are not known stay.
  """
  result = dict(values)
  for name, field in fields(section).items():
    kinds = subsections(annotations(section)[name])
    value = result.get(name)
    if kinds and isinstance(value, Mapping) and (
        value or types.NoneType not in _alternatives(
            annotations(section)[name])):
      result[name] = with_defaults(_chosen(kinds, value), value)
    elif name not in result and not is_required(field):
      result[name] = field.default
  return result


def plain(section: Any) -> dict[str, Any]:
  """A section as JSON holds it; the inverse of `build`."""
  return json.loads(json.dumps(dataclasses.asdict(section)))


def dotted(where: str, name: str) -> str:
  """Such as 'model.width'."""
  return f'{where}.{name}' if where else name


def fields(section: Any) -> dict[str, dataclasses.Field[Any]]:
  """The keys of a section, in order."""
  return {field.name: field for field in dataclasses.fields(section)}


def is_required(field: dataclasses.Field[Any]) -> bool:
  """Whether a key has no default."""
  return (field.default is MISSING
          and field.default_factory is MISSING)


def annotations(section: Any) -> dict[str, Any]:
  """What each key of a section takes."""
  return _annotations(section)


@functools.cache
def _annotations(section: Any) -> dict[str, Any]:
  return typing.get_type_hints(section, include_extras=True)


def subsections(annotation: Any) -> tuple[type, ...]:
  """The sections that a key may hold; none for a plain value."""
  return tuple(kind for kind in _alternatives(annotation)
               if isinstance(kind, type) and dataclasses.is_dataclass(kind))


def meanings(section: type) -> dict[str, str]:
  """What each key means, as the docstrings say."""
  found: dict[str, str] = {}
  for cls in (getattr(section, 'configures', object),
              *reversed(section.__mro__)):
    found |= _documented(cls)
  return {name: found.get(name, '') for name in fields(section)}


def describe(annotation: Any, *, plural: bool = False) -> str:
  """What a key takes, in words."""
  if annotation in _KINDS:
    return _KINDS[annotation][plural]
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    bounds = ' and '.join(map(str, arguments[1:]))
    return f'{describe(arguments[0], plural=plural)} {bounds}'
  if origin is Literal:
    return f'one of {", ".join(map(repr, arguments))}'
  if origin is tuple:
    if len(set(arguments) - {Ellipsis}) > 1:
      return (f'{"tuples" if plural else "a tuple"} of '
              f'{" and ".join(map(describe, arguments))}')
    count = '' if arguments[-1] is Ellipsis else f'{len(arguments)} '
    return (f'{"tuples" if plural else "a tuple"} of {count}'
            f'{describe(arguments[0], plural=True)}')
  if subsections(annotation):
    return 'a section'
  return ' or '.join('None' if kind is types.NoneType else describe(kind)
                     for kind in _alternatives(annotation))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
  if typing.get_origin(annotation) in (types.UnionType, typing.Union):
    return typing.get_args(annotation)
  return (annotation,)


def _chosen(kinds: Sequence[type], values: Mapping[str, Any]) -> type:
  """Of several sections, the one that knows the most of the keys."""
  return max(kinds, key=lambda kind: len(set(values) & set(fields(kind))))


def _typed(annotation: Any, value: Any, key: str) -> Any:
  """Checks the value of a key; tuples and whole numbers become what it takes.
  """
  sections = subsections(annotation)
  kinds = _alternatives(annotation)
  if types.NoneType in kinds and (value is None or sections and value == {}):
    return None
  if sections:
    if not isinstance(value, Mapping):
      raise errors.UserError(
          f'config key {key} is {errors.short(value)}; it is a section with '
          f'the keys {", ".join(fields(sections[0]))}')
    return build(_chosen(sections, value), value, key)
  for kind in kinds:
    fits, result = _fit(kind, value)
    if fits:
      return result
  verb = 'choose' if typing.get_origin(kinds[0]) is Literal else 'give'
  raise errors.UserError(
      f'config key {key} is {errors.short(_as_tuples(value))}; {verb} '
      f'{describe(annotation)}')


def _example(annotation: Any) -> Any:
  """A value that an annotation takes."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    bounds = arguments[1]
    if isinstance(bounds, ranges.Range):
      return max(1 if arguments[0] is int else 0.5, bounds.least)
    return _example(arguments[0])
  if origin is Literal:
    return arguments[0]
  if origin is tuple:
    return tuple(_example(one) for one in arguments if one is not Ellipsis)
  return {bool: True, int: 1, float: 0.5, str: 'NAME'}.get(annotation)


def _as_tuples(value: Any) -> Any:
  """Lists, as JSON has them, as the tuples of config files."""
  if isinstance(value, (list, tuple)):
    return tuple(map(_as_tuples, value))
  return value


def _fit(annotation: Any, value: Any) -> tuple[bool, Any]:
  """Whether a value is what an annotation says, and that value."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    fits, value = _fit(arguments[0], value)
    return fits and all(
        bound.holds(value) for bound in arguments[1:]), value
  if origin is Literal:
    return isinstance(value, str) and value in arguments, value
  if origin is tuple:
    if not isinstance(value, (tuple, list)):
      return False, value
    if arguments[-1] is Ellipsis:
      arguments = (arguments[0],) * len(value)
    parts = [_fit(*pair) for pair in zip(arguments, value, strict=False)]
    return (len(arguments) == len(value) and all(fits for fits, _ in parts),
            tuple(part for _, part in parts))
  if annotation is float and type(value) is int:
    try:
      return True, float(value)
    except OverflowError:  # Of hundreds of digits.
      return False, value
  return type(value) is annotation, value


def _documented(cls: type) -> dict[str, str]:
  """The entries under `Attributes:` of a class's own docstring."""
  _, _, text = inspect.cleandoc(cls.__doc__ or '').partition('\nAttributes:\n')
  entries = re.findall(r'^  (\w+): (.+(?:\n {4,}.+)*)', text, re.MULTILINE)
  return {name: ' '.join(meaning.split()) for name, meaning in entries}
