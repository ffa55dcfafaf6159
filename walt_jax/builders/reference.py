"""What every key of a config means: one config as text, all as Markdown."""
from collections.abc import Iterator
import textwrap
from typing import Any

from walt_jax.builders import schema
from walt_jax.builders import sections

_KEY_WIDTH = 34  # Columns of keys and values; their meaning comes after.
_INTRODUCTION = '''\
# Configs

Every key, what it takes and what it means. This file is made by `walt config
--markdown`; the truth is in `walt_jax/builders/schema/` and the docstrings of
what the sections configure.

A config is a Python file with `get_config(variant)` that returns a
`ConfigDict`. `--config` takes its path (`configs/ucf101.py:l`) or, from any
folder, the name of one that comes with the package (`ucf101:l`); the variant
may be left out. `--config.SECTION.KEY=VALUE` sets a key for one command, also
one that the file leaves out. `walt config ucf101:l` shows what a config comes
to.

Every command that reads a config checks all of it first. A key without a
default must be given. A key with one may be left out, as in the `config.json`
of runs that are older than the key: its default is what those runs did.
'''


def text(config: schema.Experiment, width: int = 100) -> str:
  """Lists a config: each key with its value and its meaning.

  Args:
    config: Config of any stage.
    width: Columns of the text.
  """
  return '\n'.join(_lines(config, '', width))


def _lines(section: Any, indent: str, width: int) -> Iterator[str]:
  means = sections.meanings(type(section))
  nested = []
  for name in sections.fields(type(section)):
    value = getattr(section, name)
    annotation = sections.annotations(type(section))[name]
    if sections.subsections(annotation) and value is not None:
      nested.append((name, value))
    else:
      shown = '(empty)' if value is None and sections.subsections(
          annotation) else repr(value)
      yield from _entry(f'{indent}{name} = {shown}', means[name], width)
  for name, value in nested:
    yield ''
    yield from _entry(
        f'{indent}{name}', means[name] or _summary(type(value)), width)
    yield from _lines(value, f'{indent}  ', width)


def _entry(key: str, meaning: str, width: int) -> Iterator[str]:
  """A key and its meaning beside it, below where the key is long."""
  lines = textwrap.wrap(meaning, max(width - _KEY_WIDTH, 20))
  if len(key) < _KEY_WIDTH:
    key = f'{key:<{_KEY_WIDTH}}{lines.pop(0) if lines else ""}'
  yield key.rstrip()
  for line in lines:
    yield ' ' * _KEY_WIDTH + line


def markdown() -> str:
  """Returns docs/config.md."""
  tokenizer, denoiser = (
      schema.TokenizerExperiment, schema.DenoiserExperiment)
  shared = sections.fields(schema.Experiment)
  parts = [_INTRODUCTION, '## Every stage\n', *_table(schema.Experiment, '')]
  # The stages differ in what they train.
  for name in shared:
    if name != 'model':
      parts += _subsections(schema.Experiment, name, '')
  for title, experiment in (('denoiser', denoiser), ('tokenizer', tokenizer)):
    parts += [f'## Stage: {title}\n', f'{_summary(experiment)}\n']
    for name in sections.fields(experiment):
      if name not in shared or name == 'model':
        parts += _subsections(experiment, name, '')
  return '\n'.join(parts).rstrip() + '\n'


def _subsections(section: type, name: str, where: str) -> Iterator[str]:
  """The sections that a key may hold, and those in them."""
  meaning = sections.meanings(section)[name]
  key = sections.dotted(where, name)
  for kind in sections.subsections(sections.annotations(section)[name]):
    yield f'### `{key}`\n'
    yield f'{_summary(kind)} {meaning}'.rstrip() + '\n'
    yield from _table(kind, key)
    for inner in sections.fields(kind):
      yield from _subsections(kind, inner, key)


def _table(section: type, where: str) -> Iterator[str]:
  """The plain keys of a section."""
  means = sections.meanings(section)
  yield '| key | takes | default | meaning |'
  yield '| --- | --- | --- | --- |'
  for name, field in sections.fields(section).items():
    annotation = sections.annotations(section)[name]
    if annotation is Any or sections.subsections(annotation):
      continue
    default = '' if sections.is_required(field) else f'`{field.default!r}`'
    cells = (f'`{sections.dotted(where, name)}`',
             sections.describe(annotation), default, means[name])
    yield f'| {" | ".join(_escaped(cell) for cell in cells)} |'
  yield ''


def _escaped(cell: str) -> str:
  return cell.replace('|', '\\|')


def _summary(section: type) -> str:
  """The first line of a docstring, which may be wrapped."""
  paragraph = (section.__doc__ or '').strip().split('\n\n')[0]
  return ' '.join(paragraph.split())
