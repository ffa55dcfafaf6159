"""What a user asks for: one request a sample."""
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import json_kinds
from walt_jax.core import json_text
from walt_jax.core import seeds
from walt_jax.core import text_files

_KEYS = ('prompt', 'label', 'image', 'video', 'seed', 'conditions')
_KINDS: dict[str, type] = dict(seed=int, conditions=dict)


@dataclasses.dataclass(frozen=True)
class Request:
  """One sample to draw.

  Attributes:
    prompt: Caption, or '' for none; the first one where it changes.
    label: Class name, or '' for none.
    seed: Seed of its noise, of 64 bits.
    index: Number within that seed: sample `index` of a run is the same
      whatever the batch size and whatever else is drawn.
    prompts: ((first frame, prompt), ..) of a prompt that changes over time,
      from frame 0 on; () for one that does not.
    image: File of the clip's first frame, or ''.
    video: File whose last frames the clip continues from, or ''.
    conditions: (name, numbers) of conditions of the user's own, the numbers
      in the order of a flattened value; those left out are not given.
  """
  prompt: str = ''
  label: str = ''
  seed: int = 0
  index: int = 0
  prompts: tuple[tuple[int, str], ...] = ()
  image: str = ''
  video: str = ''
  conditions: tuple[tuple[str, tuple[float, ...]], ...] = ()

  def __post_init__(self):
    seeds.check(self.seed)

  def prompt_at(self, frame: float) -> str:
    """The prompt in force at a frame."""
    prompt = self.prompt
    for first, text in self.prompts:
      if first <= frame:
        prompt = text
    return prompt

  @property
  def all_prompts(self) -> tuple[str, ...]:
    """Every prompt that is not empty."""
    texts = [text for _, text in self.prompts] or [self.prompt]
    return tuple(text for text in texts if text)


def repeat(request: Request, num_samples: int) -> list[Request]:
  """The same request `num_samples` times, each with its own noise.

  Raises:
    UserError: If `num_samples` is below 1.
  """
  if num_samples < 1:
    raise errors.UserError(
        f'--num_samples {num_samples} is below 1; ask for at least one')
  return number([request] * num_samples)


def number(requests: Sequence[Request]) -> list[Request]:
  """Numbers requests in their order."""
  return [dataclasses.replace(request, index=index)
          for index, request in enumerate(requests)]


def read(path: str, seed: int) -> list[Request]:
  """Reads a request file: one JSON object a line.

  A line holds any of `prompt` (a text, or `[[first frame, text], ..]` for one
  that changes over time), `label`, `image`, `video`, `seed`, and
  `conditions`: an object with the numbers of conditions of the user's own.

  Raises:
    UserError: On a file or line that is not such; the message names the line.
  """
  try:
    lines = text_files.decode(fetched.local(path).read_bytes()).splitlines()
  except OSError as e:
    raise errors.UserError(
        f'--requests {path!r} cannot be read: {e.strerror}') from e
  except ValueError as e:
    raise errors.UserError(
        f'--requests {path!r} is no text in UTF-8: {e}') from e
  requests = []
  for line_number, line in enumerate(lines, 1):
    if line.strip():
      requests.append(parse(line, f'{path}:{line_number}', seed))
  if not requests:
    raise errors.UserError(f'--requests {path!r} holds no request')
  return number(requests)


def parse(line: str, where: str, seed: int) -> Request:
  """Reads one line of a request file.

  Args:
    line: A JSON object.
    where: What messages call it.
    seed: Where the line has none.
  """
  try:
    values = json_text.loads(line)
  except ValueError as e:
    raise errors.UserError(f'{where} is no JSON object: {e}') from e
  if not isinstance(values, dict) or set(values) - set(_KEYS):
    raise errors.UserError(
        f'{where}: a request is an object with keys among {", ".join(_KEYS)}, '
        f'not {line.strip()[:80]!r}')
  prompts: tuple[tuple[int, str], ...] = ()
  if isinstance(values.get('prompt'), list):
    prompts = _changing(values['prompt'], where)
    values['prompt'] = prompts[0][1]
  for name in _KEYS:
    kind = _KINDS.get(name, str)
    value = values.get(name, kind())
    if not isinstance(value, kind) or isinstance(value, bool):
      raise errors.UserError(
          f'{where}: {name} must be {kind.__name__}, not {value!r}')
  seeds.check(values.get('seed', 0), f'{where}: seed')
  if values.get('image') and values.get('video'):
    raise errors.UserError(
        f'{where}: a request has an image or a video to begin with, not both')
  return Request(
      values.get('prompt', ''), values.get('label', ''),
      values.get('seed', seed), prompts=prompts,
      image=values.get('image', ''), video=values.get('video', ''),
      conditions=_conditions(values.get('conditions', {}), where))


def _conditions(values: dict[str, Any], where: str
                ) -> tuple[tuple[str, tuple[float, ...]], ...]:
  """Checks `{name: number or list of numbers}`."""
  found = []
  for name, value in values.items():
    numbers = value if isinstance(value, list) else [value]
    if not all(map(json_kinds.is_finite, numbers)):
      raise errors.UserError(
          f'{where}: the condition {name!r} must be a number or a list of '
          f'them, not {json.dumps(value)}')
    found.append((name, tuple(map(float, numbers))))
  return tuple(found)


def _changing(values: list[Any], where: str) -> tuple[tuple[int, str], ...]:
  """Checks `[[first frame, text], ..]`."""
  for item in values:
    if (not isinstance(item, list) or len(item) != 2
        or type(item[0]) is not int or not isinstance(item[1], str)):
      raise errors.UserError(
          f'{where}: a prompt that changes is [[frame, text], ..], not '
          f'{json.dumps(item, ensure_ascii=False)}')
  frames = [frame for frame, _ in values]
  if not frames or frames[0] != 0 or frames != sorted(set(frames)):
    raise errors.UserError(
        f'{where}: the frames of a prompt that changes must begin at 0 and '
        f'rise, not {frames}')
  return tuple((frame, text) for frame, text in values)
