"""The table of readers."""
from benchmarks.fuzz import pictures
from benchmarks.fuzz import reader as reader_lib
from benchmarks.fuzz import runs
from benchmarks.fuzz import said
from benchmarks.fuzz import stored
from benchmarks.fuzz import weights


def by_name() -> dict[str, reader_lib.Reader]:
  """All readers, in the order of the table."""
  return {reader.name: reader for reader in (
      *weights.READERS, *pictures.READERS, *said.READERS, *stored.READERS,
      *runs.READERS)}
