"""Values that requests give to conditions of the user's own."""
from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import conditions
from walt_jax.core import errors
from walt_jax.sampling import requests as requests_lib

Condition = type[conditions.Condition]


def check(known: Sequence[Condition],
          requests: Sequence[requests_lib.Request]) -> None:
  """Checks what is given against the conditions of all stages.

  Raises:
    UserError: On a name that no stage knows, or not as many numbers as a value
      has.
  """
  sizes = {own.column: math.prod(own.shape) for own in known}
  for request in requests:
    for name, numbers in request.conditions:
      if name not in sizes:
        raise errors.UserError(
            f'condition {name!r}: no stage was trained with it; known: '
            f'{", ".join(sorted(sizes)) or "none"}')
      if len(numbers) != sizes[name]:
        raise errors.UserError(
            f'condition {name!r} takes {sizes[name]} numbers, not '
            f'{len(numbers)}: {", ".join(f"{n:g}" for n in numbers)}')


def given(known: Sequence[Condition],
          requests: Sequence[requests_lib.Request]) -> list[Condition]:
  """The conditions of a stage that some request gives a value of."""
  names = {name for request in requests for name, _ in request.conditions}
  return [own for own in known if own.column in names]


def of(known: Sequence[Condition], requests: Sequence[requests_lib.Request]
       ) -> dict[str, dict[str, jax.Array]]:
  """What a stage that knows these conditions sees of the requests.

  Returns:
    `own` [B, 1, ..] and `own_mask` [B, 1] by name, of `types.Conditioning`;
    nothing for a stage without conditions of its own.
  """
  if not known:
    return {}
  values: dict[str, jax.Array] = {}
  given: dict[str, jax.Array] = {}
  for own in known:
    name = own.column
    value = np.full((len(requests), 1, *own.shape), own.null, np.float32)
    mask = np.zeros((len(requests), 1), bool)
    for row, request in enumerate(requests):
      numbers = dict(request.conditions).get(name)
      if numbers is not None:
        value[row, 0] = np.reshape(numbers, own.shape)
        mask[row, 0] = True
    values[name], given[name] = jnp.asarray(value), jnp.asarray(mask)
  return dict(own=values, own_mask=given)
