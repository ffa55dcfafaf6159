"""Which steps of which process the profiler traces, in words."""
import dataclasses
import re

_FORM = 'FIRST:LAST or FIRST:LAST@PROCESS with FIRST < LAST'


@dataclasses.dataclass(frozen=True)
class Request:
  """Which steps to trace, and where.

  Attributes:
    first: The first step.
    last: The step after the last one.
    process: The process that traces.
  """
  first: int
  last: int
  process: int = 0


def parse(text: str) -> Request:
  """Reads `FIRST:LAST[@PROCESS]`.

  Raises:
    ValueError: It is of another form.
  """
  match = re.fullmatch(r'(\d{1,18}):(\d{1,18})(?:@(\d{1,9}))?', text.strip(),
                       re.ASCII)
  if match is None or int(match[1]) >= int(match[2]):
    raise ValueError(f'{text!r} is not {_FORM}')
  return Request(int(match[1]), int(match[2]), int(match[3] or 0))
