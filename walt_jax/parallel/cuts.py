"""How much of a state `fsdp` cuts, and the size that cuts nearly all of it."""
from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax

from walt_jax.core import errors
from walt_jax.parallel import rules as partition

PyTree = Any
# Of the leaves that have a rule for it: what `fsdp` = -1 cuts at least, and a
# size that a user gives. Vectors and small tables have none.
_WANTED_SHARE = 0.95
_LEAST_SHARE = 0.9
_GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Cut:
  """What a mesh does to a state.

  Attributes:
    share: Part of the state's bytes, in [0, 1], in leaves that `fsdp` cuts.
    share_of_rules: The same of the leaves that rules would have it cut.
    total_bytes: Bytes of the whole state.
    device_bytes: What each device holds of it.
  """
  share: float
  share_of_rules: float
  total_bytes: int
  device_bytes: int

  @property
  def is_enough(self) -> bool:
    """Whether nine tenths are cut, as a size that a user gives must do."""
    return self.share_of_rules >= _LEAST_SHARE

  @property
  def words(self) -> str:
    """Such as '99.8% of a state of 23.1 GiB cut, 0.09 GiB a device'."""
    return (f'{self.share:.1%} of a state of {self.total_bytes / _GIB:.3g} GiB '
            f'cut, {self.device_bytes / _GIB:.3g} GiB a device')


def cut(state: PyTree, axes: Mapping[str, int], rules: partition.Rules) -> Cut:
  """Tells what a mesh does to a state.

  Args:
    state: Arrays or their shapes.
    axes: Sizes of `fsdp` and `tensor`, such as `Mesh.shape`.
    rules: Rules of the state's leaves.
  """
  total = wanted = in_cut = held = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    spec = partition.placed_spec(name, leaf.shape, axes, rules)
    size = math.prod(leaf.shape) * leaf.dtype.itemsize
    total += size
    wanted += size * ('fsdp' in partition.leaf_spec(name, leaf.shape, rules))
    in_cut += size * ('fsdp' in spec and axes['fsdp'] > 1)
    held += size // math.prod(axes[name] for name in spec if name)
  return Cut(in_cut / max(total, 1), in_cut / max(wanted, 1), total, held)


def largest_fsdp(state: PyTree, limit: int, tensor: int,
                 rules: partition.Rules) -> int:
  """The largest divisor of `limit` that cuts at least 95% of what rules cut.

  Where none does, the one that cuts most.

  Args:
    state: Arrays or their shapes.
    limit: Devices that may share one copy, beside those of `tensor`.
    tensor: Size of the axis `tensor`.
    rules: Rules of the state's leaves.
  """
  shares = _shares(state, limit, tensor, rules)
  enough = [fsdp for fsdp, share in shares.items() if share >= _WANTED_SHARE]
  return max(enough) if enough else max(shares, key=lambda f: (shares[f], f))


def check_fsdp(state: PyTree, fsdp: int, limit: int, tensor: int,
               rules: partition.Rules) -> None:
  """Refuses a size that leaves more than a tenth of what rules cut whole.

  Args:
    state: Arrays or their shapes.
    fsdp: Size of the axis `fsdp`.
    limit: Devices that may share one copy, beside those of `tensor`.
    tensor: Size of the axis `tensor`.
    rules: Rules of the state's leaves.

  Raises:
    errors.UserError: The size does so; it names the nearest that do not.
  """
  found = cut(state, dict(fsdp=fsdp, tensor=tensor), rules)
  if fsdp == 1 or found.is_enough:
    return
  sizes = [size for size, share in _shares(state, limit, tensor, rules).items()
           if share >= _LEAST_SHARE]
  nearest = [max((size for size in sizes if size < fsdp), default=0),
             min((size for size in sizes if size > fsdp), default=0)]
  others = [f'mesh.fsdp={size}' for size in nearest if size]
  raise errors.UserError(
      f'config key mesh.fsdp is {fsdp}, which leaves '
      f'{1 - found.share_of_rules:.0%} of the weights whole on every device: '
      'their axes do not divide by that; set '
      f'{" or ".join(others) or "mesh.fsdp=1"}, or -1 for the largest that '
      'cuts them')


def _shares(state, limit, tensor, rules) -> dict[int, float]:
  """Each divisor above 1 (or 1 alone) and the share that it cuts."""
  sizes = [size for size in range(2, limit + 1) if limit % size == 0] or [1]
  return {size: cut(state, dict(fsdp=size, tensor=tensor), rules
                    ).share_of_rules for size in sizes}
