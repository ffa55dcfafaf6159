"""Partition rules: from the path of a leaf to the mesh axes that cut it.

A rule is (path pattern, spec). The spec names the LAST axes of the leaf, the
leaf's own; axes in front (a scan's layers, taps of a convolution) are
replicated. The first match wins and a leaf without a match is an error.

One table serves parameters, averages and moments. A matrix is written
`Matrix(rows, columns)`, its input and its output axes: Adafactor factors it
so, and its moments `moments/.../kernel/row` and `.../kernel/column` keep one
half of the spec.
"""
from collections.abc import Mapping
import contextlib
import dataclasses
import re
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Matrix:
  """Spec of a linear map: mesh axes of its input and of its output axes."""
  rows: P
  columns: P


Spec = P | Matrix
Rules = tuple[tuple[str, Spec], ...]

ROW_MOMENT = 'row'
COLUMN_MOMENT = 'column'
FULL_MOMENT = 'full'

REPLICATED_RULES: Rules = ((r'', P()),)

# Counters and running means, in optimizer states and in `extra`.
_SCALARS: Rules = (
    (r'(^|/)(count|step)$', P()),
    (r'^extra/', P()),
)
_VECTORS: Rules = ((r'(^|/)(bias|scale)$', P(None)),)

# Two-way cut of every large matrix: `tensor` over heads and MLP units (both
# products of a pair need one reduction), `fsdp` over the model's width.
DENOISER_RULES: Rules = (
    *_SCALARS,
    # Of the user's own conditions, whatever is in them.
    (r'(^|/)condition_[^/]+/', P()),
    (r'(^|/)(query|key|value)/kernel$', Matrix(P('fsdp'), P('tensor', None))),
    (r'(^|/)(query|key|value)/bias$', P('tensor', None)),
    (r'(^|/)out/kernel$', Matrix(P('tensor', None), P('fsdp'))),
    (r'(^|/)mlp_in/kernel$', Matrix(P('fsdp'), P('tensor'))),
    (r'(^|/)mlp_in/bias$', P('tensor')),
    (r'(^|/)mlp_out/kernel$', Matrix(P('tensor'), P('fsdp'))),
    # AdaLN-LoRA: the rank is too short to cut.
    (r'(^|/)down/kernel$', Matrix(P('fsdp'), P(None))),
    (r'(^|/)up/kernel$', Matrix(P(None), P('fsdp'))),
    (r'(^|/)kernel$', Matrix(P(None), P('fsdp'))),
    # Tables of positions, relative offsets (heads last) and classes.
    (r'(^|/)position/space$', P(None, None, None)),
    (r'(^|/)position/time$', P(None, None)),
    (r'(^|/)relative_bias$', P(None, None, None, 'tensor')),
    (r'(^|/)label_embedding/embedding$', P(None, None)),
    *_VECTORS,
)

# Tokenizers are small: only optimizer memory is worth cutting, and every
# kernel ends in its output channels.
TOKENIZER_RULES: Rules = (
    *_SCALARS,
    (r'(^|/)kernel$', Matrix(P(None), P('fsdp'))),
    *_VECTORS,
)

# Text encoders, BERT and T5: cut as the denoiser's layers are. Tables of words
# are cut along their width, so that a lookup stays on its device.
TEXT_RULES: Rules = (
    (r'(^|/)(query|key|value)/kernel$', Matrix(P('fsdp'), P('tensor', None))),
    (r'(^|/)(query|key|value)/bias$', P('tensor', None)),
    (r'(^|/)out/kernel$', Matrix(P('tensor', None), P('fsdp'))),
    (r'(^|/)mlp_(in|gate)/kernel$', Matrix(P('fsdp'), P('tensor'))),
    (r'(^|/)mlp_in/bias$', P('tensor')),
    (r'(^|/)mlp_out/kernel$', Matrix(P('tensor'), P('fsdp'))),
    (r'(^|/)(words|positions|segments)/embedding$', P(None, 'fsdp')),
    (r'(^|/)relative_bias$', P(None, 'tensor')),
    *_VECTORS,
)

# The frozen parts of a denoiser's stage: a small tokenizer on every device,
# and a text encoder that may be larger than the denoiser.
FROZEN_RULES: Rules = ((r'^tokenizer/', P()), *TEXT_RULES)

# What models call their activations' axes.
LOGICAL_AXIS_RULES: tuple[tuple[str, Any], ...] = (
    ('batch', ('data', 'fsdp')),
    ('heads', 'tensor'),
    ('mlp', 'tensor'),
)


def find_spec(name: str, rules: Rules) -> Spec | None:
  """Returns the spec of the first rule whose pattern is in `name`."""
  for pattern, spec in rules:
    if re.search(pattern, name):
      return spec
  return None


def matrix_axes(name: str, ndim: int, rules: Rules) -> tuple[int, int, int]:
  """Splits the axes of a leaf into (front, rows, columns).

  Rows and columns are 0 where the leaf is no matrix; front then counts the
  axes before the leaf's own.
  """
  spec = _require_spec(name, rules)
  if isinstance(spec, Matrix):
    _check_rank(name, P(*spec.rows, *spec.columns), ndim)
    rows, columns = len(spec.rows), len(spec.columns)
    return ndim - rows - columns, rows, columns
  _check_rank(name, spec, ndim)
  return ndim - len(spec), 0, 0


def _require_spec(name: str, rules: Rules) -> Spec:
  spec = find_spec(name, rules)
  if spec is None:
    raise ValueError(f'No partition rule matches {name}.')
  return spec


def _check_rank(name: str, spec: P, ndim: int) -> None:
  if len(spec) > ndim:
    raise ValueError(
        f'The partition rule of {name}, {spec}, names more axes than its '
        f'{ndim}.')


def leaf_spec(name: str, shape: tuple[int, ...], rules: Rules) -> P:
  """Returns the full spec of one leaf.

  Raises:
    ValueError: If no rule matches, or the rule names too many axes.
  """
  own = _own_spec(name, len(shape), rules)
  return P(*(None,) * (len(shape) - len(own)), *own)


def _own_spec(name: str, ndim: int, rules: Rules) -> P:
  """The spec of a leaf's last axes, its own."""
  part = ''
  if re.search(r'(^|/)moments/', name):
    name, _, part = name.rpartition('/')
  spec = _require_spec(name, rules)
  if isinstance(spec, Matrix):
    halves = {ROW_MOMENT: spec.rows, COLUMN_MOMENT: spec.columns}
    spec = halves.get(part, P(*spec.rows, *spec.columns))
  _check_rank(name, spec, ndim)
  return spec


def placed_spec(name: str, shape: tuple[int, ...], axes: Mapping[str, int],
                rules: Rules) -> P:
  """Returns the spec of one leaf on a mesh.

  An axis that the mesh does not divide is left whole. What `fsdp` would have
  cut there it cuts along another of the leaf's own axes, the longest that
  divides: copies of small leaves would add up on many devices.

  Args:
    name: Path of the leaf.
    shape: Its shape.
    axes: Size of each axis of the mesh.
    rules: Rules of all leaves.
  """
  own = _own_spec(name, len(shape), rules)
  sizes = shape[len(shape) - len(own):]
  entries = [axis if axis and size % axes[axis] == 0 else None
             for size, axis in zip(sizes, own, strict=True)]
  if 'fsdp' in own and 'fsdp' not in entries:
    free = [k for k, (size, axis) in enumerate(zip(sizes, entries, strict=True))
            if (axis is None or axes[axis] == 1) and size
            and size % axes['fsdp'] == 0]
    if free:
      entries[max(free, key=lambda k: sizes[k])] = 'fsdp'
  return P(*(None,) * (len(shape) - len(own)), *entries)


def tree_shardings(
    tree: PyTree, mesh: jax.sharding.Mesh, rules: Rules) -> PyTree:
  """Maps each leaf to a NamedSharding; a leaf without a rule is an error."""
  def sharding(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return NamedSharding(
        mesh, placed_spec(name, leaf.shape, mesh.shape, rules))
  return jax.tree_util.tree_map_with_path(sharding, tree)


@contextlib.contextmanager
def without_axis(axis: str):
  """Keeps logical axes from meaning an axis of the mesh: in the body of a
  `jax.shard_map` over that axis, which sees one part of it."""
  rules = []
  for name, meant in nn.get_logical_axis_rules():
    axes = (meant,) if isinstance(meant, str) else tuple(meant or ())
    rules.append((name, tuple(one for one in axes if one != axis) or None))
  with nn.logical_axis_rules(rules):
    yield


@contextlib.contextmanager
def activate(mesh: jax.sharding.Mesh):
  """Makes the logical axes of models mean axes of this mesh."""
  with jax.set_mesh(mesh), nn.logical_axis_rules(LOGICAL_AXIS_RULES):
    yield
