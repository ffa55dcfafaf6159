"""What a user asks for: one request a sample."""
import dataclasses
import json
import pathlib

from walt_jax import errors


@dataclasses.dataclass(frozen=True)
class Request:
  """One sample to draw.

  Attributes:
    prompt: Caption, or '' for none.
    label: Class name, or '' for none.
    seed: Seed of its noise.
    index: Number within that seed: sample `index` of a run is the same
      whatever the batch size and whatever else is drawn.
  """
  prompt: str = ''
  label: str = ''
  seed: int = 0
  index: int = 0


def repeat(prompt: str, label: str, seed: int,
           num_samples: int) -> list[Request]:
  """The same request `num_samples` times, each with its own noise.

  Raises:
    UserError: If `num_samples` is below 1.
  """
  if num_samples < 1:
    raise errors.UserError(
        f'--num_samples {num_samples} is below 1; ask for at least one')
  return [Request(prompt, label, seed, index) for index in range(num_samples)]


def read(path: str, seed: int) -> list[Request]:
  """Reads a request file: one JSON object a line.

  A line holds any of `prompt`, `label` and `seed`.

  Raises:
    UserError: On a file or line that is not such; the message names the line.
  """
  try:
    lines = pathlib.Path(path).read_text().splitlines()
  except OSError as e:
    raise errors.UserError(
        f'--requests {path!r} cannot be read: {e.strerror}') from e
  requests = []
  for number, line in enumerate(lines, 1):
    if line.strip():
      requests.append(_parse(line, f'{path}:{number}', seed, len(requests)))
  if not requests:
    raise errors.UserError(f'--requests {path!r} holds no request')
  return requests


def _parse(line: str, where: str, seed: int, index: int) -> Request:
  try:
    values = json.loads(line)
  except ValueError as e:
    raise errors.UserError(f'{where} is no JSON object: {e}') from e
  known = dict(prompt=str, label=str, seed=int)
  if not isinstance(values, dict) or set(values) - set(known):
    raise errors.UserError(
        f'{where}: a request is an object with keys among {", ".join(known)}, '
        f'not {line.strip()[:80]!r}')
  for name, kind in known.items():
    value = values.get(name, kind())
    if not isinstance(value, kind) or isinstance(value, bool):
      raise errors.UserError(
          f'{where}: {name} must be {kind.__name__}, not {value!r}')
  return Request(values.get('prompt', ''), values.get('label', ''),
                 values.get('seed', seed), index)
