"""Random seeds that a user gives: whole numbers of 64 bits."""
from walt_jax.core import errors

MOST = 2 ** 64 - 1
WORDS = 'from 0 to 2^64 - 1'


def check(seed: int, where: str = 'seed') -> None:
  """Raises UserError for a seed that does not fit into 64 bits.

  Args:
    seed: The seed.
    where: What the message calls it.
  """
  if not 0 <= seed <= MOST:
    raise errors.UserError(
        f'{where} is {seed}; give a whole number {WORDS}')
