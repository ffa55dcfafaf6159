"""Loading, overriding and saving experiment configs."""
import ast
from collections.abc import Sequence
import importlib.util
import json
import pathlib
import traceback
from typing import Any
import warnings

from ml_collections import config_dict

import walt_jax
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.core import errors
from walt_jax.core import extensions
from walt_jax.core import fetched
from walt_jax.core import json_kinds
from walt_jax.core import paths
from walt_jax.training import workdir as workdir_lib

# Section of a work directory's `config.json` that no config file has: what
# was found when the run was built (class names, the tokenizer's hash).
DERIVED = 'derived'


def load(spec: str, overrides: Sequence[tuple[str, str]] = ()
         ) -> config_dict.ConfigDict:
  """Reads `FILE[:variant]` and applies `--config.key=value` overrides.

  Args:
    spec: Path of a Python file with `get_config(variant)`, or the name of an
      installed config (`ucf101`), and a variant.
    overrides: (dotted key, text) pairs; the text is read as the Python
      literal that the key's present value has the type of.

  Raises:
    UserError: On a file that cannot be read, an unknown variant or key, or a
      value of the wrong type.
  """
  path, variant = split(spec)
  module = _module(find(path))
  if not callable(getattr(module, 'get_config', None)):
    raise errors.UserError(f'config file {path!r} has no get_config(variant)')
  try:
    config = module.get_config(variant) if variant else module.get_config()
  except ValueError as e:
    raise errors.UserError(f'config {spec!r}: {errors.words(e)}') from e
  except (Exception, SystemExit) as e:
    raise errors.UserError(
        f'config {spec!r}: its get_config fails{_where(e, module.__file__)}'
    ) from e
  if not isinstance(config, config_dict.ConfigDict):
    raise errors.UserError(
        f'config {spec!r}: its get_config gives {errors.short(config)}; it '
        'must return an ml_collections ConfigDict')
  try:
    json.dumps(to_dict(config))
  except (TypeError, ValueError, RecursionError) as e:
    raise errors.UserError(
        f'config {spec!r} holds what no config.json can ({errors.reason(e)}); '
        'its values are sections, tuples, texts, numbers, booleans and None'
    ) from e
  override(config, overrides)
  config.lock()
  return config


def variants(path: str) -> tuple[str, ...]:
  """The variants that a config file names as its `VARIANTS`."""
  return tuple(getattr(_module(path), 'VARIANTS', ()))


def _module(path: str) -> Any:
  """Runs a config file.

  Raises:
    UserError: If it does not load.
  """
  module_spec = importlib.util.spec_from_file_location('walt_config', path)
  module = importlib.util.module_from_spec(module_spec)
  try:
    module_spec.loader.exec_module(module)
  except (Exception, SystemExit) as e:
    raise errors.UserError(
        f'config file {path!r} does not load{_where(e, path)}') from e
  return module


def _where(error: BaseException, file: str) -> str:
  """What a config file raised, and at which of its lines."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
           if frame.filename == file]
  at = f' at line {lines[-1]}' if lines else ''
  return f'{at}: {errors.reason(error)}'


def split(spec: str) -> tuple[str, str]:
  """The file or name and the variant, '' for none, of FILE[:variant].

  The variant is split off from the right: a file may be `gs://FILE`.
  """
  path, colon, variant = spec.rpartition(':')
  if not colon or '/' in variant:
    return spec, ''
  return path, variant


def installed() -> dict[str, pathlib.Path]:
  """The configs that come with the package, by name."""
  package = pathlib.Path(walt_jax.__file__).parent
  # In a wheel `walt_jax.configs`; in the repository, beside the package.
  for folder in (package / 'configs', package.parent / 'configs'):
    found = {file.stem: file for file in sorted(folder.glob('[!_]*.py'))}
    if found:
      return found
  return {}


def find(path: str) -> str:
  """The file of a config, by its path or its name.

  Raises:
    UserError: If there is none.
  """
  if paths.is_remote(path):
    return str(fetched.local(path))
  if path.endswith('.py') and pathlib.Path(path).is_file():
    return path
  known = installed()
  if path in known:
    return str(known[path])
  raise errors.UserError(
      f'config {path!r} is neither a Python file nor the name of an installed '
      'config; give a path such as configs/quickstart.py:base, or one of the '
      f'names {", ".join(known)}')


def override(config: config_dict.ConfigDict,
             overrides: Sequence[tuple[str, str]]) -> None:
  """Sets dotted keys in place, as `load` does."""
  for key, text in overrides:
    _override(config, key, text)


def _override(config: config_dict.ConfigDict, key: str, text: str) -> None:
  """Sets one dotted key, which must be known, keeping its type."""
  *parents, leaf = names = key.split('.')
  section = config
  for depth, name in enumerate(parents, 1):
    if isinstance(section, config_dict.ConfigDict) and (
        section.get(name) is None and
        schema.is_section(config.get('stage'), names[:depth])):
      with section.unlocked():  # Left empty by the config.
        section[name] = config_dict.ConfigDict()
    if not isinstance(section, config_dict.ConfigDict) or name not in section:
      raise _unknown_key(key, section, name)
    section = section[name]
  if not isinstance(section, config_dict.ConfigDict):
    raise _unknown_key(key, section, leaf)
  if leaf not in section:  # Left at its default by the config.
    default = schema.default(config.get('stage'), key.split('.'))
    if default is sections.MISSING:
      raise _unknown_key(key, section, leaf)
    with section.unlocked():
      section[leaf] = _parse(config.get('stage'), key, text, default)
    return
  old = section[leaf]
  if isinstance(old, config_dict.ConfigDict):
    raise errors.UserError(
        f'config key {key!r} is a section; set one of its keys: '
        f'{", ".join(f"{key}.{name}" for name in sorted(old))}')
  section[leaf] = _parse(config.get('stage'), key, text, old)


def _unknown_key(key: str, section: Any, name: str) -> errors.UserError:
  known = (', '.join(sorted(section))
           if isinstance(section, config_dict.ConfigDict) else 'none')
  return errors.UserError(
      f'unknown config key {key!r}: there is no {name!r} here; known: {known}')


def _parse(stage: Any, key: str, text: str, old: Any) -> Any:
  """Reads `text` as a value of the type of `old`."""
  if isinstance(old, str):
    return text
  if isinstance(old, bool) and text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Of what looks odd in a program.
      value = ast.literal_eval(text)
  except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
    value = text  # Some of these tell of brackets in brackets.
  if isinstance(old, float) and type(value) is int and (
      json_kinds.is_number(value)):
    value = float(value)
  if isinstance(old, tuple) and isinstance(value, list):
    value = tuple(value)
  if old is not None and type(value) is not type(old):
    raise errors.UserError(
        f'config key {key!r} is {type(old).__name__} (now {old!r}), '
        f'but {errors.short(text)} was given'
        f'{schema.hint(stage, key.split("."), text)}')
  return value


def to_dict(config: config_dict.ConfigDict) -> dict[str, Any]:
  """The config as JSON holds it: tuples become lists."""
  return json.loads(config.to_json())


def from_dict(values: dict[str, Any], where: str = 'the config', *,
              allow_code: bool = False) -> config_dict.ConfigDict:
  """The inverse of `to_dict`: JSON lists become tuples.

  All configs that were not typed for this command come through here.

  Args:
    values: Values as JSON holds them.
    where: The file they come from, for errors.
    allow_code: Whether they may name classes of someone's own to import.

  Raises:
    UserError: If they do, and may not.
  """
  if not allow_code:
    extensions.refuse(values, where)

  def revive(value):
    if isinstance(value, dict):
      return {k: revive(v) for k, v in value.items()}
    if isinstance(value, list):
      return tuple(revive(v) for v in value)
    return value

  config = config_dict.ConfigDict(revive(values))
  config.lock()
  return config


def saved(found: workdir_lib.WorkDir) -> dict[str, Any]:
  """The config of a run or an export, of whatever version.

  Keys that came later have the values by which runs of its version did.

  Raises:
    UserError: As `WorkDir.config`.
  """
  return schema.completed(found.config(), found.version())


def read_experiment(workdir: str, *, allow_code: bool = False
                    ) -> schema.Experiment | schema.TokenizerExport:
  """Reads and checks the config of a run or an export.

  Args:
    workdir: Folder with a `config.json`.
    allow_code: Whether it may name classes of someone's own to import.

  Raises:
    UserError: As `schema.of`, or if there is no config, or it names classes
      and may not.
  """
  found = workdir_lib.WorkDir(workdir)
  values = saved(found)
  if not allow_code:
    extensions.refuse(values, str(found.config_file))
  if 'stage' not in values and 'model' in values:
    return sections.build(schema.TokenizerExport, values)
  return schema.of({k: v for k, v in values.items() if k != DERIVED})


def check_workdirs(workdirs: Sequence[str], *,
                   allow_code: bool = False) -> None:
  """Checks the configs of runs and exports, before anything is read of them.

  Raises:
    UserError: As `read_experiment`.
  """
  for workdir in workdirs:
    read_experiment(workdir, allow_code=allow_code)
