"""What became of inputs: counts of a reader, which add up over runs."""
import dataclasses
from typing import Any

_MOST_STRAYS = 20  # Kept of each reader, with what they raised.


@dataclasses.dataclass
class Counts:
  """Counts of one reader.

  Attributes:
    tried: Inputs.
    passed: Those that passed the reader's header.
    accepted: Those that were read.
    refused: Those that it refused in the way that it should.
    stray: All others: another exception, a crash, too long, too much memory.
    strays: Some of them, each with its seed and number.
    slowest: Most processor seconds of one input.
    jump_mib: Most memory that one input added to what the process ever had.
    next_number: By seed, the number of the first input that was not tried.
  """
  tried: int = 0
  passed: int = 0
  accepted: int = 0
  refused: int = 0
  stray: int = 0
  strays: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  slowest: float = 0.0
  jump_mib: float = 0.0
  next_number: dict[str, int] = dataclasses.field(default_factory=dict)

  def add(self, other: 'Counts') -> None:
    """Adds what other inputs came to."""
    for name in ('tried', 'passed', 'accepted', 'refused', 'stray'):
      setattr(self, name, getattr(self, name) + getattr(other, name))
    self.strays = (self.strays + other.strays)[:_MOST_STRAYS]
    self.slowest = max(self.slowest, other.slowest)
    self.jump_mib = max(self.jump_mib, other.jump_mib)
    for seed, number in other.next_number.items():
      self.next_number[seed] = max(number, self.next_number.get(seed, 0))

  def record(self) -> dict[str, Any]:
    """A JSON value."""
    return dataclasses.asdict(self)
