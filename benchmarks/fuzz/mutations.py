"""Seeded changes of inputs: of bytes, and of the structures that they hold."""
import json
import random
from typing import Any

from benchmarks.fuzz import reader

Mutate = reader.Mutate
Rng = random.Random

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF,
            1 << 40, (1 << 63) - 1, (1 << 64) - 1)
HOSTILE_INTS = (0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31,
                 -2**31, 2**32, 2**53, 2**62, 2**63 - 1, -2**63, 2**63, 2**64,
                 10**30, 10**400)
HOSTILE_TEXTS = ('', ' ', '\0', '/', '..', '../../etc/passwd', '/dev/null',
                  '\ud800', '\udcff', 'é', 'a' * 5000, '%s%n', '{}', 'NaN',
                  'inf', '-1', '1e999', '<script>', "'; --", 'train', '[',
                  '\u202e', 'a\nb', 'a\tb', '007', '3.5', '1' * 5000)
# Written as they stand: what `json.dumps` would not write.
_HOSTILE_JSON = (
    '1e999', '-1e999', 'NaN', 'Infinity', '9' * 5000, '1.5', '1e-400', 'true',
    'null', '[]', '{}', '[[]]', '"\\ud800"', '"\\u0000"', '-0', '-0.0',
    '[' * 2_000 + ']' * 2_000, '{"a":' * 2_000 + '1' + '}' * 2_000,
    '[' * 100_000, '"', '\\', '{"a":1,"a":2}', '["a", 1, null]', '"x"',
    '{"step": 1}', '[0]', '[1, 2]', '[-1, 3]', '1_000', "'a'", '0x10')


def one_of(*weighted: tuple[int, Mutate]) -> Mutate:
  """Draws one of some mutations by their weights."""
  weights = [weight for weight, _ in weighted]
  mutations = [mutation for _, mutation in weighted]
  return lambda rng, data: rng.choices(mutations, weights)[0](rng, data)


def edits(rng: Rng, data: bytes, start: int = 0) -> bytes:
  """One or a few changes of bytes from `start` on."""
  out = bytearray(data)
  while True:
    _edit(rng, out, start)
    if rng.random() < 0.6:
      return bytes(out)


def behind(start: int) -> Mutate:
  """`edits` that leave the first bytes alone."""
  return lambda rng, data: edits(rng, data, min(start, len(data)))


def _edit(rng: Rng, out: bytearray, start: int) -> None:
  room = len(out) - start
  if room <= 0:
    out += rng.randbytes(rng.randint(1, 16))
    return
  at = start + rng.randrange(room)
  size = min(len(out) - at, 1 << rng.randrange(8))
  kind = rng.randrange(9)
  if kind < 2:
    out[at] ^= 1 << rng.randrange(8)
  elif kind == 2:
    out[at] = rng.randrange(256)
  elif kind == 3:  # A number that lies.
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
    out[at:at + width] = number.to_bytes(
        width, rng.choice(('little', 'big')))
  elif kind == 4:
    del out[at:at + size]
  elif kind == 5:
    out[at:at] = out[at:at + size]
  elif kind == 6:
    out[at:at] = rng.randbytes(size)
  elif kind == 7:
    other = start + rng.randrange(room)
    out[at:at + size] = out[other:other + size]
  elif rng.random() < 0.5:
    del out[at:]
  else:
    out[at:at + size] = bytes(size)


# JSON ------------------------------------------------------------------------


class _Raw:
  """A piece of JSON that is written as it stands."""

  def __init__(self, text: str):
    self.text = text


def json_value(rng: Rng, value: Any) -> Any:
  """The value with one or a few of its nodes changed."""
  value = json.loads(json.dumps(value))
  while True:
    value = _changed_node(rng, value)
    if rng.random() < 0.6:
      return value


def _changed_node(rng: Rng, value: Any) -> Any:
  """Changes a node at random, mostly a deep one."""
  if isinstance(value, dict) and value and rng.random() < 0.9:
    key = rng.choice(list(value))
    kind = rng.random()
    if kind < 0.1:
      del value[key]
    elif kind < 0.15:
      value[rng.choice(HOSTILE_TEXTS)] = value.pop(key)
    elif kind < 0.2:
      value[rng.choice(HOSTILE_TEXTS)] = _hostile(rng)
    else:
      value[key] = _changed_node(rng, value[key])
    return value
  if isinstance(value, list) and value and rng.random() < 0.9:
    at, kind = rng.randrange(len(value)), rng.random()
    if kind < 0.1:
      del value[at]
    elif kind < 0.2:
      value.insert(at, value[at])
    elif kind < 0.25:
      value.append(_hostile(rng))
    else:
      value[at] = _changed_node(rng, value[at])
    return value
  if isinstance(value, (int, float)) and not isinstance(value, bool) and (
      rng.random() < 0.6):
    return rng.choice((
        rng.choice(HOSTILE_INTS), -value, value + 1, value * 3,
        float('nan'), float('inf'), str(value), [value]))
  if isinstance(value, str) and rng.random() < 0.4:
    at = rng.randrange(len(value) + 1)
    return value[:at] + rng.choice(HOSTILE_TEXTS) + value[at:]
  return _hostile(rng)


def _hostile(rng: Rng) -> Any:
  kind = rng.randrange(4)
  if kind == 0:
    return rng.choice(HOSTILE_INTS)
  if kind == 1:
    return rng.choice(HOSTILE_TEXTS)
  if kind == 2:
    return _Raw(rng.choice(_HOSTILE_JSON))
  return rng.choice((None, True, False, [], {}, 0.0, -1.5, [[]], {'a': []}))


def json_text(value: Any, rng: Rng, **options: Any) -> bytes:
  """Writes a value; the pieces that stand for themselves, too."""
  pieces: list[str] = []

  def default(piece: Any) -> str:
    pieces.append(piece.text)
    return f'@raw{len(pieces) - 1}@'

  # Before Python 3.12 a number of thousands of digits cannot be written.
  text = json.dumps(value, default=default,
                    ensure_ascii=rng.random() < 0.7, **options)
  for number, piece in enumerate(pieces):
    text = text.replace(f'"@raw{number}@"', piece)
  return text.encode('utf-8', 'surrogatepass')


def json_tree(rng: Rng, data: bytes) -> bytes:
  """Changes nodes of a JSON document."""
  return json_text(json_value(rng, json.loads(data)), rng)


JSON = one_of((8, json_tree), (2, edits))


def is_json(data: bytes) -> bool:
  """Whether an input is a JSON object or list."""
  try:
    return isinstance(json.loads(data), (dict, list))
  except (ValueError, RecursionError):
    return False


def json_lines(rng: Rng, data: bytes) -> bytes:
  """Changes, tears, repeats and swaps lines of JSON lines."""
  lines = data.splitlines()
  for _ in range(rng.randint(1, 3)):
    at, kind = rng.randrange(len(lines)), rng.randrange(8)
    if kind < 4:
      try:
        lines[at] = json_tree(rng, lines[at])
      except (ValueError, RecursionError):
        lines[at] = edits(rng, lines[at])
    elif kind == 4:
      lines[at] = lines[at][:rng.randrange(len(lines[at]) + 1)]
    elif kind == 5:
      lines[at] = edits(rng, lines[at])
    elif kind == 6:
      lines.insert(at, rng.choice((
          b'', b'\0', b'\xff\xfe', b'[]', b'1', b'null', b'{}', lines[at],
          b'[' * 100_000, b'{"step":', b'\xed\xa0\x80')))
    else:
      other = rng.randrange(len(lines))
      lines[at], lines[other] = lines[other], lines[at]
  return rng.choice((b'\n', b'\n', b'\n', b'\r\n', b'\r')).join(lines) + (
      b'\n' if rng.random() < 0.8 else b'')


JSON_LINES = one_of((8, json_lines), (2, edits))


def has_json_line(data: bytes) -> bool:
  """Whether a line of an input is a JSON object."""
  for line in data.splitlines():
    try:
      if isinstance(json.loads(line), dict):
        return True
    except (ValueError, RecursionError):
      continue
  return False


# Tables and lists ------------------------------------------------------------


def cells(delimiter: str) -> Mutate:
  """Changes cells, quotes and delimiters of a table."""

  def mutate(rng: Rng, data: bytes) -> bytes:
    rows = [line.split(delimiter)
            for line in data.decode('utf-8', 'surrogateescape').splitlines()]
    for _ in range(rng.randint(1, 3)):
      row = rng.choice(rows)
      if not row:
        row.append('')
      at, kind = rng.randrange(len(row)), rng.randrange(8)
      if kind < 2:
        row[at] = rng.choice(HOSTILE_TEXTS)
      elif kind == 2:
        row[at] += rng.choice(('"', delimiter, ',', ';', '\t', '\r', '\0'))
      elif kind == 3:
        row[at] = f'"{row[at]}"'
      elif kind == 4:
        del row[at]
      elif kind == 5:
        row.insert(at, row[at])
      elif kind == 6:
        rows.insert(rng.randrange(len(rows) + 1), list(rng.choice(rows)))
      else:
        row[at] = str(rng.choice(HOSTILE_INTS + (-0.5, 'nan', '1e400')))
    text = rng.choice(('\n', '\n', '\r\n', '\r')).join(
        map(delimiter.join, rows))
    return text.encode('utf-8', 'surrogatepass' if '\ud800' in text
                       else 'surrogateescape')

  def guarded(rng: Rng, data: bytes) -> bytes:
    try:
      return mutate(rng, data)
    except UnicodeEncodeError:  # Two kinds of lone surrogates.
      return edits(rng, data)

  return one_of((8, guarded), (2, edits))
