"""UCF-101's official splits: classInd.txt, trainlist0N.txt, testlist0N.txt."""
import dataclasses
import pathlib

from walt_jax.core import errors
from walt_jax.core import text_files
from walt_jax.data.prepare import columns
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import segments
from walt_jax.data.storage import names as names_lib


@dataclasses.dataclass(frozen=True)
class OfficialSplit:
  """One of the three splits.

  Attributes:
    classes: Class names in official order.
    lines: What is said of each file.
    bad: Lines that could not be understood.
    sources: The files of the lists.
  """
  classes: tuple[str, ...]
  lines: tuple[segments.Annotation, ...]
  bad: tuple[listing.Rejection, ...]
  sources: tuple[pathlib.Path, ...]


def read(folder: pathlib.Path, number: int) -> OfficialSplit:
  """Reads split `number`, 1 to 3.

  Raises:
    errors.UserError: A list is missing or unreadable.
  """
  names = {'': folder / 'classInd.txt',
           names_lib.TRAIN: folder / f'trainlist{number:02d}.txt',
           names_lib.HELD_OUT: folder / f'testlist{number:02d}.txt'}
  lines, bad, classes = [], [], []
  for split, path in names.items():
    try:
      text = text_files.decode(path.read_bytes())
    except (OSError, ValueError) as error:
      raise errors.UserError(
          f'cannot read the UCF-101 list {str(path)!r}: {error}') from error
    for place, line in enumerate(text.splitlines(), start=1):
      words = line.replace('\\', '/').split()
      where = f'{path.name}:{place}'
      if not words:
        continue
      if not split:
        classes.append(words[-1])
        continue
      label, slash, _ = words[0].partition('/')
      if not slash or label not in classes:
        bad.append(listing.Rejection(
            where, f'cannot use this line: {line!r}'))
        continue
      lines.append(segments.Annotation(
          words[0], where, columns.as_caption(label), label, split))
  return OfficialSplit(tuple(classes), tuple(lines), tuple(bad),
                       tuple(names.values()))
