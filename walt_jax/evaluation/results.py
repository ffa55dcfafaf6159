"""Results of `walt evaluate`: JSON files, and which may be compared."""
import json
import os
from typing import Any

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import json_kinds

_SAME = ('metric', 'frames', 'network', 'preprocessing', 'covariance', 'root',
         'protocol', 'real_content', 'given_frames', 'num_splits',
         'split_size')
_COUNTED = ('fvd', 'fid', 'is')  # Scores that depend on how many clips.
_BESIDE = ('sfid', 'precision', 'recall')  # Numbers beside a score.
# What comparisons rely on.
_FORM: json_kinds.Kind = {'metric': str, 'value': float,
                          'differences?': list[Any]}
_DIFFERENCE: json_kinds.Kind = {'what': str}


def write(path: str | os.PathLike, result: dict[str, Any]) -> None:
  """Writes a result as JSON, whole or not at all."""
  text = json.dumps(result, indent=1, allow_nan=False) + '\n'
  files.write_text(path, text)


def scalar_names(metric: str) -> set[str]:
  """Names of all that `scalars` may give of a metric's results."""
  return {metric, *_BESIDE}


def scalars(result: dict[str, Any]) -> dict[str, float]:
  """What the curves of a training run show of a result, by name."""
  beside = {name: result[name] for name in _BESIDE if name in result}
  return {result['metric']: result['value']} | beside


def compare(first: str, second: str) -> dict[str, Any]:
  """Compares two results measured the same way.

  Raises:
    errors.UserError: They are not.
  """
  a, b = _read(first), _read(second)
  for name in _SAME:
    if _identity(a.get(name)) != _identity(b.get(name)):
      raise errors.UserError(
          f'{first} and {second} may not be compared: {name} is '
          f'{_short(a.get(name))} in one and {_short(b.get(name))} in the '
          'other; evaluate both the same way')
  unlike = [sorted(d['what'] for d in result['differences'])
            for result in (a, b) if 'differences' in result]
  if len(unlike) == 2 and unlike[0] != unlike[1]:
    raise errors.UserError(
        f'{first} and {second} may not be compared: the sets differ in '
        f'{" and in ".join(", ".join(u) or "nothing" for u in unlike)}; bring '
        'them to one rate and size, and evaluate both again')
  for name in ('num_real', 'num_generated'):
    counted = str(a.get('metric')).split('-', 1)[0] in _COUNTED
    if counted and a.get(name) != b.get(name):
      raise errors.UserError(
          f'{first} and {second} may not be compared: {name} is {a.get(name)} '
          f'and {b.get(name)}, and {a["metric"]} depends on the number of '
          'clips')
  return dict(metric=a['metric'], values=[a['value'], b['value']],
              value=b['value'] - a['value'], protocol=a.get('protocol'),
              files=[str(first), str(second)])


def _read(path: str) -> dict[str, Any]:
  result = files.read_json(path)
  if not isinstance(result, dict) or not {'metric', 'value'} <= set(result):
    raise errors.UserError(
        f'{path} is not a result of walt evaluate (no metric and value); give '
        'what it wrote to --json')
  try:
    json_kinds.check(result, _FORM)
    for difference in result.get('differences', ()):
      json_kinds.check(difference, _DIFFERENCE, 'a difference')
  except ValueError as error:
    raise errors.UserError(
        f'{path} is not a result of walt evaluate: {error}; give what it '
        'wrote to --json') from None
  return result


def _identity(value: Any) -> Any:
  """A network is the same wherever its weights came from."""
  if isinstance(value, dict):
    return {name: value.get(name) for name in ('name', 'sha256')}
  return value


def _short(value: Any) -> str:
  if isinstance(value, dict):
    return ' '.join(filter(None, (
        str(value.get('name') or ''), str(value.get('sha256') or '')[:12])))
  return str(value)
