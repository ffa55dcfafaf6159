"""Rows of values that no flag takes: numbers, paths, lists, hosts, keys."""
import argparse
from collections.abc import Iterator
import functools

from tests.commands import locations_test
from tests.hostile import rows
from walt_jax.commands import cli
from walt_jax.commands.flags import locations

Row = rows.Row
_NUMBERS = ('', '-1', 'nan', '1e400', '9' * 400, '0x10', '1,', '\udcff', '3;')
_COORDINATORS = ('', ':1', 'host', 'host:', 'host:x', 'host:0', 'host:65535',
                 'host:99999', 'host:-1', '[::1', 'a b:80', 'h\udcffst:80',
                 'host:8_0', 'ho\0st:80', '::::')
_PROCESSES = ('', '/', '1/1', '2/1', '-1/2', '0/0', '0/x', '1', '0/2/3',
              '0/9999999999999', '٠/٢')
_PATHS = ('', 'a\0b', 'x' * 5_000, '\udcff/none', 'gs://', 'gs://a/b', 's3://b/x',
          'gs://walt-test/../x', 'file:///etc/passwd', '/proc/self/mem')


@functools.cache
def leaves() -> dict[str, argparse.ArgumentParser]:
  """The parser of every command by its words."""
  return {' '.join(words): parser for words, parser in locations_test.leaves(
      cli.make_parser())}


def line(words: str, action: argparse.Action, value: str) -> tuple[str, ...]:
  """A command line with this value and whatever else it needs."""
  parser = leaves()[words]
  group = next((one for one in parser._mutually_exclusive_groups
                if action in one._group_actions), None)
  argv = words.split()
  for other in parser._actions:
    mine = next((one for one in parser._mutually_exclusive_groups
                 if other in one._group_actions), None)
    if other is action:
      argv += flag(action, value)
    elif other.required or (mine is not None and mine.required
                            and mine is not group
                            and other is mine._group_actions[0]):
      argv += flag(other, companion(words, other))
  return tuple(argv)


# What stands for the flags that a row is not about: all of it is sound.
_COMPANIONS = {
    '--workdir': '{base}', '--generated': '{clips}', '--config': '{config}',
    '--input': '{films}', '--out': '{dir}/out', '--output': '{dir}/out',
    '--json': '{dir}/out.json', 'path': '{digits}', 'directory': '{digits}',
    'files': '{result}', 'file': '{config}'}


def companion(words: str, action: argparse.Action) -> str:
  """A sound value of a flag of a command."""
  if words == 'train' and action.dest == 'workdir':
    return '{dir}/out'
  name = (action.option_strings or [action.dest])[0]
  return _COMPANIONS.get(name) or locations_test.value_of(action)


def flag(action: argparse.Action, value: str) -> list[str]:
  values = [value] * (action.nargs if isinstance(action.nargs, int) else 1)
  if action.option_strings:
    return [f'{action.option_strings[-1]}={value}', *values[1:]]
  return ['--', *values] if any(one.startswith('-') for one in values) else (
      values)


def refuses(action: argparse.Action, value: str) -> bool:
  """Whether a flag's own parser is what refuses a value."""
  try:
    action.type(value)
  except (argparse.ArgumentTypeError, ValueError):
    return True
  return False


def numbers() -> Iterator[Row]:
  """Every flag of a number, with two texts that are none."""
  turn = 0
  for words, parser in leaves().items():
    for action in parser._actions:
      if action.type is None or takes_path(action) or action.type is str:
        continue
      bad = [text for text in _NUMBERS if refuses(action, text)]
      for shift in range(2):
        text = bad[(turn + shift * 4) % len(bad)]
        yield Row(f'{words} {action.dest} {text[:9]!r}',
                  line(words, action, text))
      turn += 1


def hosts() -> Iterator[Row]:
  """Addresses and numbers of processes, in flags and in the environment."""
  line_ = ('train', '--config', '{config}', '--workdir', '{dir}/out')
  for text in _COORDINATORS:
    yield Row(f'--coordinator {text!r}',
              (*line_, f'--coordinator={text}', '--process=0/2'))
  for text in _PROCESSES:
    yield Row(f'--process {text!r}', (
        *line_, '--coordinator=127.0.0.1:2345', f'--process={text}'))
  for text in ('-1', '65536', '99999999', 'http', '7860.0', ''):
    yield Row(f'demo --port {text!r}',
              ('demo', '--workdir', '{base}', f'--port={text}'))
  for mesh in ('data', 'data=0', 'data=-2', 'x=1', 'data=1,data=1', '',
               'data=9999999999', 'fsdp=3', ','):
    yield Row(f'--mesh {mesh!r}', ('sample', '--workdir', '{base}', '--out',
                                   '{dir}/out', f'--mesh={mesh}'))


_OVERRIDES = (
    'seed', '=1', 'seed=', 'seed=1=2', 'a.b.c.d=1', '.=1', '..=1', 'seed.x=1',
    'model=1', 'model.width=True', 'model.width=1e3', 'model.width=99999999999',
    'model.num_heads=0', 'model.patch=-1', 'model.depth=0', 'ema=(1,)',
    'ema=0.5', 'model.spatial_window=(0,4,4)', 'model.spatial_window=(1,4)',
    'optimizer.peak_lr=-1', 'optimizer.b1=1.5', 'optimizer.clip_norm=-1',
    'optimizer.peak_lr=nan', 'optimizer.peak_lr=inf', 'train.num_steps=-1',
    'train.num_steps=1e9', 'train.writers=xyz', 'train.evaluators=fvd',
    "train.evaluators=('none',)", 'data.num_workers=-1',
    'data.num_workers=9999',
    'data.batch_size=0', 'data.height=0', 'data.path=s3://x', 'data.name=a:b:c',
    'data.strides=()', 'data.weights=(0,)', 'seed=' + '9' * 5_000,
    'seed=' + '(' * 5_000, 'model.dtype=\0', 'mesh.data=0', 'mesh.fsdp=-2',
    'diffusion.snr_cap=0', 'diffusion.frame_condition_lengths=(0,)',
    'tokenizer.workdir=a\0b', 'text.name=\udcff', 'sampler.num_steps=0',
    'sampler.eta=2', 'train.best_metric=foo', 'train.keep_newest=0')


def overrides() -> Iterator[Row]:
  """Config keys of the command line."""
  for text in _OVERRIDES:
    yield Row(f'--config.{text[:40]!r}', (
        'train', '--config', '{config}', '--workdir', '{dir}/out',
        f'--config.{text}'))


def all_rows() -> Iterator[Row]:
  """All rows about values of flags."""
  for group in (numbers, paths, hosts, overrides):
    yield from group()


def takes_path(action: argparse.Action) -> bool:
  """Whether a flag takes a path."""
  if action.type is None:
    return False
  try:
    found = action.type('x')
  except Exception:
    return False
  found = found[0] if isinstance(found, list) and found else found
  return isinstance(found, locations.Location)


def path_actions() -> Iterator[tuple[str, argparse.Action]]:
  for words, parser in leaves().items():
    for action in parser._actions:
      if takes_path(action):
        yield words, action


def paths() -> Iterator[Row]:
  """Every flag of a path, with two that cannot be opened."""
  turn = 0
  for words, action in path_actions():
    for shift in range(2):
      text = _PATHS[(turn + 5 * shift) % len(_PATHS)]
      yield Row(f'{words} {action.dest} {text[:9]!r}',
                line(words, action, text))
    turn += 1
