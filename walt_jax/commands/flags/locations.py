"""Flags that name files and folders, of this machine or in a bucket."""
import argparse
from collections.abc import Iterable, Iterator
import dataclasses
from typing import Any

from walt_jax.core import errors
from walt_jax.core import outputs
from walt_jax.core import paths


class Location(str):
  """A path of the command line; its bucket is asked for before anything runs.

  Attributes:
    is_written: Whether the command writes there.
  """
  is_written = False


class Written(Location):
  """A path that is written, or read and written.

  Attributes:
    kind: What the command makes of it.
  """
  is_written = True
  kind = outputs.Kind.OWN


def read(text: str) -> Location:
  """Parses a path that is read."""
  return Location(_checked(text))


def read_several(text: str) -> Location:
  """Parses paths that are read, separated by commas; they stay one text."""
  for item in text.split(','):
    _checked(item)
  return Location(text)


@dataclasses.dataclass(frozen=True)
class Writes:
  """Parses a path that is written, or read and written.

  Attributes:
    kind: What the command makes of it.
  """
  kind: outputs.Kind

  def __call__(self, text: str) -> Written:
    if not text:
      raise argparse.ArgumentTypeError('give a path; it is empty')
    location = Written(_checked(text))
    location.kind = self.kind
    return location


written_file = Writes(outputs.Kind.FILE)
written_clips = Writes(outputs.Kind.CLIPS)
written_export = Writes(outputs.Kind.EXPORT)
# Training, data sets and caches keep records of their own.
written_work = Writes(outputs.Kind.OWN)


def _checked(text: str) -> str:
  if not text:
    raise argparse.ArgumentTypeError(
        'the path is empty; name a file or folder, or leave the flag out')
  try:
    paths.check(text)
  except errors.UserError as error:
    raise argparse.ArgumentTypeError(str(error)) from error
  return text


def reach(args: argparse.Namespace) -> None:
  """Asks for every bucket that a command names, each path once.

  Raises:
    errors.UserError: One does not answer, or refuses.
  """
  asked: dict[str, bool] = {}
  for location in found(vars(args).values()):
    if paths.is_remote(location):
      asked[location] = asked.get(location, False) or location.is_written
  for path, is_written in asked.items():
    paths.reach(path, write=is_written)


def found(values: Iterable[Any]) -> Iterator[Location]:
  """All paths among the values of flags, and in lists of them."""
  for value in values:
    if isinstance(value, Location):
      yield value
    elif isinstance(value, list):
      yield from found(value)
