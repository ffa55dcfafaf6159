"""Every number of every config has a stated range, which is kept."""
from collections.abc import Iterator
import math
import pathlib
import typing
from typing import Any

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.core import errors
from walt_jax.core import ranges

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'
_SPECS = (f'{_CONFIGS}/quickstart.py:base',
          f'{_CONFIGS}/tokenizer_video.py:smoke',
          f'{_CONFIGS}/tokenizer_video.py:ucf101_small')


def numbers(annotation: Any, bounds: Any = None
            ) -> Iterator[tuple[type, ranges.Range | None]]:
  """The numbers in what a key takes, each with its range."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is typing.Annotated:
    found = [one for one in arguments[1:] if isinstance(one, ranges.Range)]
    yield from numbers(arguments[0], found[0] if found else None)
  elif annotation in (int, float):
    yield annotation, bounds
  elif origin is not typing.Literal:
    for inner in arguments:
      yield from numbers(inner)


def keys(section: type, where: str = '') -> Iterator[tuple[str, Any]]:
  """Every key below a section that holds no section, with what it takes."""
  for name, annotation in sections.annotations(section).items():
    inner = sections.subsections(annotation)
    for kind in inner:
      yield from keys(kind, sections.dotted(where, name))
    if not inner and annotation is not Any:
      yield sections.dotted(where, name), annotation


def numeric() -> dict[str, Any]:
  """All keys that take numbers; of two sections with one key, the last."""
  return {key: annotation
          for experiment in (*schema.STAGES.values(), schema.TokenizerExport)
          for key, annotation in keys(experiment) if [*numbers(annotation)]}


def outside(annotation: Any) -> Iterator[Any]:
  """Values beyond each end of the ranges of a key, and of wrong types."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is tuple:
    for value in outside(arguments[0]):
      yield (value,) * (1 if arguments[-1] is Ellipsis else len(arguments))
    yield 3
    return
  kind, bounds = next(numbers(annotation))
  yield from (bounds.least - 1 if bounds.also != bounds.least - 1
              else bounds.least - 3, bounds.most + 1, 10**5_000, 'x', True)
  if isinstance(bounds, ranges.Below):
    yield bounds.most
  if isinstance(bounds, ranges.Above):
    yield bounds.least
  yield from (math.nan, math.inf) if kind is float else (bounds.least + 0.5,)


def changed(config: dict[str, Any], key: str, value: Any) -> bool:
  """Sets a key in place; False where the config has no such section."""
  *parents, leaf = key.split('.')
  if parents == ['discriminator'] and leaf not in config[parents[0]]:
    return False  # Of the other one.
  for name in parents:
    config = config.get(name)
    if not config:
      return False
  config[leaf] = value
  return True


class RangesTest(parameterized.TestCase):

  def test_every_number_has_a_range(self):
    found = numeric()
    for key in ('model.num_heads', 'model.patch', 'model.width', 'ema', 'seed',
                'optimizer.peak_lr', 'train.num_steps', 'data.num_workers',
                'model.spatial_window', 'sampler.guidance.own', 'mesh.fsdp'):
      self.assertIn(key, found)
    self.assertGreater(len(found), 110)
    for key, annotation in found.items():
      for _, bounds in numbers(annotation):
        self.assertIsNotNone(bounds, f'{key} states no range')
        self.assertTrue(math.isfinite(bounds.least), key)
        self.assertTrue(math.isfinite(bounds.most), key)

  @parameterized.parameters(*_SPECS)
  def test_what_lies_outside_is_refused_with_the_range(self, spec):
    loaded = config_lib.to_dict(config_lib.load(spec))
    known = dict(keys(schema.STAGES[loaded['stage']]))
    tried = 0
    for key, annotation in numeric().items():
      if key not in known or key == 'sampler.guidance.own':
        continue
      for value in outside(annotation):
        config = copy_of(loaded)
        if not changed(config, key, value):
          continue
        tried += 1
        with self.assertRaises(errors.UserError, msg=(key, value)) as caught:
          schema.of(config)
        line = str(caught.exception)
        self.assertIn(key, line)
        self.assertIn(sections.describe(known[key]).split(' or None')[0], line)
        self.assertLess(len(line), 400)
    self.assertGreater(tried, 250)

  def test_ranges_in_words(self):
    for bounds, words in (
        (ranges.Range(0, 1), 'from 0 to 1'),
        (ranges.Range(1, 65_536, also=-1), 'from 1 to 65,536, or -1'),
        (ranges.Below(0, 1), 'from 0 to below 1'),
        (ranges.Above(0, 0.5), 'above 0 to 0.5')):
      self.assertEqual(str(bounds), words)
    self.assertFalse(ranges.Range(0, 1).holds(math.nan))
    self.assertTrue(ranges.Range(1, 8, also=-1).holds(-1))
    self.assertFalse(ranges.Below(0, 1).holds(1))
    self.assertFalse(ranges.Above(0, 1).holds(0))

  @parameterized.parameters(
      ('train.writers', 'xyz', "one of 'tensorboard', 'wandb', such as "
       "\"('tensorboard',)\""),
      ('train.evaluators', 'fvd', "such as \"('fvd',)\""),
      ('ema', '0.9', 'numbers from 0 to below 1, such as'),
      ('model.spatial_window', '4', 'such as "(1, 1, 1)"'),
      ('train.num_steps', 'many', 'a whole number from 0 to 1,000,000,000'),
      ('seed', '1' * 5_000, 'from 0 to 2^64 - 1'),
      ('seed', '(' * 5_000, 'from 0 to 2^64 - 1'),
      ('seed', '{[]: 1}', 'from 0 to 2^64 - 1'))
  def test_a_wrong_type_on_the_command_line_says_how_to_write_one(
      self, key, text, named):
    with self.assertRaises(errors.UserError) as caught:
      config_lib.load(_SPECS[0], [(key, text)])
    self.assertIn(named, str(caught.exception))
    self.assertLess(len(str(caught.exception)), 500)


def copy_of(value: Any) -> Any:
  """A copy of plain sections; values are shared."""
  return {key: copy_of(one) for key, one in value.items()} if isinstance(
      value, dict) else value


if __name__ == '__main__':
  absltest.main()
