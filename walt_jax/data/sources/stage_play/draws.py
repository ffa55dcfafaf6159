"""Random choices that no library can change: hashes of what is asked."""
import hashlib


class Draws:
  """Choices of one scene, each by its name, in any order."""

  def __init__(self, *scene: int | str):
    """Names the scene, such as (version, seed, split, index)."""
    self._scene = '/'.join(map(str, scene))

  def below(self, name: str, count: int) -> int:
    """A whole number in [0, count)."""
    digest = hashlib.blake2b(
        f'{self._scene}/{name}'.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') % count

  def between(self, name: str, low: int, high: int) -> int:
    """A whole number in [low, high]; `low` where there is none."""
    return low + self.below(name, max(1, high - low + 1))

  def shuffled(self, name: str, count: int) -> list[int]:
    """The numbers 0 .. count - 1 in some order."""
    return sorted(range(count),
                  key=lambda i: self.below(f'{name}/{i}', 1 << 60))
