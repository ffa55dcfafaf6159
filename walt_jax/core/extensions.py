"""Parts of the user's own, found by name: `my_package.my_module:MyClass`.

A data source, a condition, a sampler, a metric or a tokenizer may be a class
outside `walt_jax`. Its module is imported, which runs code, only where the
user typed its name for this command, as a flag or in the file of `--config`.
Names in a work directory or an export come from whoever made it and are
refused: loading a shared model must not run code.
"""
from collections.abc import Iterator, Mapping
import importlib
import inspect
import re
from typing import Any

from walt_jax.core import errors

_NAME = re.compile(r'[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*')
_SEPARATORS = re.compile(r'[\s,;]+')
# Values that are never imported and may look like a name: files, and the
# names of classes.
_FREE_KEYS = re.compile(r'(.*_)?path|workdir|init_from|derived')


def is_name(text: Any) -> bool:
  """Whether `text` is of the form `module:Class`."""
  return isinstance(text, str) and _NAME.fullmatch(text) is not None


def load(name: str, protocol: type, where: str) -> Any:
  """Imports the class called `name` and checks it against a protocol.

  Args:
    name: `module:Class`; the module must be on Python's path.
    protocol: The `Protocol` that the class must have every member of. A member
      may also be an annotation, such as a dataclass's field.
    where: What gave the name, for messages: 'config key data.name'.

  Raises:
    UserError: The module cannot be imported, has no such class, or the class
      lacks members.
  """
  if not is_name(name):
    raise errors.UserError(
        f'{where} is {name!r}; write a class of your own as module:Class')
  module_name, _, class_name = name.partition(':')
  try:
    module = importlib.import_module(module_name)
  except (ImportError, SyntaxError) as error:
    raise errors.UserError(
        f'{where} is {name!r}, but {module_name} cannot be imported '
        f'({error}); correct the name, or put its folder on PYTHONPATH'
    ) from error
  found = getattr(module, class_name, None)
  if not inspect.isclass(found):
    raise errors.UserError(
        f'{where} is {name!r}, but {module_name} has no class {class_name}; '
        f'it has: {", ".join(_classes(module)) or "none"}')
  missing = sorted(members(protocol) - _has(found))
  if missing:
    raise errors.UserError(
        f'{where} is {name!r}, but the class lacks {", ".join(missing)}; '
        f'write what {protocol.__module__}.{protocol.__qualname__} describes')
  return found


def members(protocol: type) -> set[str]:
  """Names of the methods, properties and attributes of a protocol."""
  names: set[str] = set()
  for base in protocol.__mro__:
    if getattr(base, '_is_protocol', False):
      names |= set(vars(base).get('__annotations__', ()))
      # What `typing` adds has another qualified name.
      names |= {name for name, value in vars(base).items()
                if isinstance(value, property) or inspect.isfunction(value)
                and value.__qualname__ == f'{base.__qualname__}.{name}'}
  return names


def _has(found: type) -> set[str]:
  annotated = (vars(base).get('__annotations__', ())
               for base in found.__mro__)
  return set(dir(found)).union(*annotated)


def _classes(module: Any) -> list[str]:
  return sorted(name for name, value in vars(module).items()
                if inspect.isclass(value)
                and value.__module__ == module.__name__)


def refuse(values: Mapping[str, Any], where: str) -> None:
  """Refuses values from elsewhere that would have code imported.

  Args:
    values: Plain values of a config that was not typed for this command.
    where: The file they come from.

  Raises:
    UserError: If a value names a class of someone's own.
  """
  for key, name in _names(values, ''):
    raise errors.UserError(
        f'{where}: {key} is {name!r}, and importing that would run code; give '
        '--allow_code if you trust whoever made it')


def _names(value: Any, key: str) -> Iterator[tuple[str, str]]:
  """(dotted key, name) of each name of a class in plain nested values."""
  if isinstance(value, Mapping):
    for name, item in value.items():
      if not _FREE_KEYS.fullmatch(str(name)):
        yield from _names(item, f'{key}.{name}' if key else str(name))
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from _names(item, key)
  elif isinstance(value, str):
    for piece in _SEPARATORS.split(value):
      if is_name(piece):
        yield key, piece
