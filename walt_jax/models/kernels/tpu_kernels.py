"""Bodies of the TPU kernels: one window of a group of heads a grid step.

All is transposed: a head is [d, L], its logits are [keys, queries]. What a
softmax and a norm reduce are then sublanes, whose sums are elementwise sums of
registers, their results are rows and not columns, and a head begins at any
multiple of eight sublanes where it would straddle tiles of lanes.

Logits are to the base two, which a TPU's exponential is of: queries and bias
come multiplied with the base two logarithm of e.
"""
import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from walt_jax.models import attention
from walt_jax.models.kernels import tpu_layout

LANES = tpu_layout.LANES
_UNIT = 2  # Heads that are computed side by side.
_TILES = 4  # Tiles of lanes that are transposed at once, at most.
LOG2_E = math.log2(math.e)
HIDDEN = -1e30  # Added to the logit of a key that may not be seen.


def row_index(plan: tpu_layout.Plan) -> jax.Array:
  """The grid step's row of the batch."""
  return pl.program_id(0) * plan.steps[2] + pl.program_id(2)


def forward(plan: tpu_layout.Plan, names: tuple[str, ...], images: Any,
            *refs: Any) -> None:
  """Writes context and log sums of a grid step."""
  ref = dict(zip(names, refs, strict=True))
  is_image = images[row_index(plan)] != 0
  is_video = jnp.logical_not(is_image)
  group = pl.program_id(1)

  @pl.when(is_image)
  def pass_on():
    ref['log_sum'][...] = jnp.zeros_like(ref['log_sum'])
    _pass_on(plan, ref, group, 'value', 'context')

  @pl.when(is_video)
  def attend():
    _turn(plan, ref, group, ('query', 'at_query'), ('key', 'at_key'),
          ('value', 'at_value'))
    _turn_text(plan, ref, group)
    _each_unit(plan, group, lambda unit: _forward_unit(plan, ref, unit))
    _turn_back(plan, ref, ('at_query', 'context'))


def _forward_unit(plan, ref, unit):
  found = [_forward_head(ref, head) for head in _heads(plan, ref, unit)]
  unit.store(
      ref['at_query'], [context for context, _ in found], add=False)
  for i, (_, log_sum) in enumerate(found):
    unit.of(ref['log_sum'])[i] = log_sum


def _forward_head(ref, head):
  """The context [d, L] and log sums [1, L], base two, of one head."""
  dtype = ref['value'].dtype
  query = _fill(head.query.value).astype(dtype)
  contexts, log_sums = [], []
  for chunk in _chunks(query.shape[1], is_backward=False):
    logits = head.logits(query, chunk)
    top = _largest(logits)
    weights = [jnp.exp2(x - top) for x in logits]
    # Rows of ones below the values: their products are sums of the weights.
    found = sum(_product(_with_ones(keys.value).astype(dtype), x.astype(dtype))
                for keys, x in zip(head.seen, weights, strict=True))
    width = found.shape[0] - tpu_layout.SUBLANES
    total = found[width:width + 1]
    contexts.append(found[:width] * (1 / total))
    log_sums.append(top + jnp.log2(total))
  return jnp.concatenate(contexts, 1), jnp.concatenate(log_sums, 1)


def backward(plan: tpu_layout.Plan, names: tuple[str, ...], images: Any,
             *refs: Any) -> None:
  """Writes a grid step's gradients, adding those of what windows share."""
  ref = dict(zip(names, refs, strict=True))
  is_image = images[row_index(plan)] != 0
  is_video = jnp.logical_not(is_image)
  group = pl.program_id(1)
  window = pl.program_id(3)

  @pl.when((pl.program_id(2) == 0) & (window == 0))
  def start_sums():
    _clear(ref, 'd_query_scale', 'd_key_scale', 'd_bias')

  if plan.text_length:
    @pl.when(lax.rem(window, plan.num_windows // plan.num_texts) == 0)
    def start_text():
      _clear(ref, 'sum_text_key', 'sum_text_value')

  @pl.when(is_image)
  def pass_on():
    _clear(ref, 'd_query', 'd_key')
    _pass_on(plan, ref, group, 'cotangent', 'd_value')

  @pl.when(is_video)
  def attend():
    _turn(plan, ref, group, ('query', 'at_query'), ('key', 'at_key'),
          ('value', 'at_value'), ('cotangent', 'at_cotangent'))
    _turn(plan, ref, group, ('context', 'along'), times='cotangent')
    _turn_text(plan, ref, group)
    _each_unit(plan, group, lambda unit: _backward_unit(plan, ref, unit))
    _turn_back(plan, ref, ('at_query', 'd_query'), ('at_key', 'd_key'),
               ('at_value', 'd_value'))

  if plan.text_length:
    _turn_back(plan, ref, ('sum_text_key', 'd_text_key'),
               ('sum_text_value', 'd_text_value'))


def _backward_unit(plan, ref, unit):
  cotangents = unit.load(ref['at_cotangent'])
  alongs = unit.load(ref['along'])
  log_sums = unit.of(ref['log_sum'])
  sums = unit.of(ref['d_bias']) if 'bias' in ref else None
  found = [
      _backward_head(
          ref, head, cotangents[i], alongs[i].sum(0, keepdims=True),
          log_sums[i], sums and sums.at[i])
      for i, head in enumerate(_heads(plan, ref, unit))]
  for name in found[0]:
    unit.store(ref[name], [gradients[name] for gradients in found],
               add=name.startswith('sum_'))


def _backward_head(ref, head, cotangent, along, log_sum, bias_sum):
  """Gradients [d, L] by where they are stored; adds those of bias and scales.

  Args:
    ref: The kernel's references.
    head: The head.
    cotangent: float32 [d, L], of the context.
    along: float32 [1, L], the products of cotangent and context.
    log_sum: float32 [1, L], base two.
    bias_sum: Reference of the gradient of the head's bias; None without.
  """
  dtype = ref['value'].dtype
  queries, cotangent = head.query.value.astype(dtype), cotangent.astype(dtype)
  full_query, full_cotangent = _fill(queries), _fill(cotangent)
  d_query = []
  d_key = [jnp.zeros_like(keys.value) for keys in head.seen]
  d_value = list(d_key)
  for chunk in _chunks(queries.shape[1], is_backward=True):
    logits = head.logits(full_query, chunk)
    d_query.append(0.0)
    for i, keys in enumerate(head.seen):
      weights = jnp.exp2(logits[i] - log_sum[:, chunk])
      d_weights = _product(keys.value_rows, full_cotangent[:, chunk])
      d_logits = weights * (d_weights - along[:, chunk])
      if i == 0 and bias_sum is not None:
        bias_sum[:, chunk] += d_logits
      d_logits = d_logits.astype(dtype)
      d_value[i] += _product(
          cotangent[:, chunk], weights.astype(dtype), over=(1, 1))
      d_key[i] += _product(queries[:, chunk], d_logits, over=(1, 1))
      d_query[-1] += _product(keys.norm.value.astype(dtype), d_logits)
  found = dict(
      at_query=_unnormalise(
          jnp.concatenate(d_query, 1), head.query, ref, 'query_scale',
          head.times),
      at_key=_unnormalise(
          d_key[0], head.seen[0].norm, ref, 'key_scale', 1 / LOG2_E),
      at_value=d_value[0])
  if len(head.seen) > 1:
    found |= dict(
        sum_text_key=_unnormalise(
            d_key[1], head.seen[1].norm, ref, 'key_scale', 1 / LOG2_E),
        sum_text_value=d_value[1])
  return found


class _Norm(NamedTuple):
  """Heads [d, L] after the norm, and what its backward pass needs.

  Attributes:
    unit: float32, of mean 0 and variance 1; None without a norm.
    factor: float32 [1, L], by which the norm divides; None without.
    value: float32, what logits are made of.
  """
  unit: jax.Array | None
  factor: jax.Array | None
  value: jax.Array


class _Seen(NamedTuple):
  """Keys and values of a head, of the window or of its text.

  Attributes:
    norm: The keys [d, L].
    value: float32 [d, L].
    rows: The keys as [L, 128], zero beyond d.
    value_rows: The values so.
  """
  norm: _Norm
  value: jax.Array
  rows: jax.Array
  value_rows: jax.Array


@dataclasses.dataclass(frozen=True)
class _Head:
  """A head of the grid step's window.

  Attributes:
    query: Its queries [d, L], of which logits are made.
    times: What logits are multiplied with beside the change of their base.
    seen: What they see: the window's own tokens, and a text if any.
    bias: Reference of float32 [keys, queries] of its bias, base two, or None.
    text_mask: float32 [S, 1], added to logits of the text, or None.
  """
  query: _Norm
  times: float
  seen: list[_Seen]
  bias: Any
  text_mask: jax.Array | None

  def logits(self, query: jax.Array, chunk: slice) -> list[jax.Array]:
    """float32 [keys, queries] of what is seen, of a chunk of the queries."""
    logits = [_product(keys.rows, query[:, chunk]) for keys in self.seen]
    if self.bias is not None:
      logits[0] += self.bias[:, chunk]
    if self.text_mask is not None:
      logits[1] += self.text_mask
    return logits


def _heads(plan, ref, unit) -> list[_Head]:
  """The heads of a unit."""
  dtype = ref['value'].dtype
  times = plan.width ** -0.5
  queries = unit.load(ref['at_query'])
  seen: list[list[_Seen]] = [[] for _ in queries]
  for key, value in (('at_key', 'at_value'), ('at_text_key', 'at_text_value')):
    if key in ref:
      loaded = zip(unit.load(ref[key]), unit.load(ref[value]), strict=True)
      for i, (keys, values) in enumerate(loaded):
        norm = _normalise(keys, ref.get('key_scale'))
        seen[i].append(_Seen(
            norm, values, _fill(norm.value).T.astype(dtype),
            _fill(values).T.astype(dtype)))
  bias = unit.of(ref['bias']) if 'bias' in ref else None
  mask = ref['text_mask'][:, :1] if 'text_mask' in ref else None
  return [
      _Head(_normalise(query, ref.get('query_scale'), times * LOG2_E), times,
            seen[i], bias and bias.at[i], mask)
      for i, query in enumerate(queries)]


@dataclasses.dataclass(frozen=True)
class _Unit:
  """Heads that are computed side by side, so that none waits for another.

  Attributes:
    index: The unit.
    size: Number of its heads.
    rows: Rows of the unit's heads in [K d, L].
    width: d.
  """
  index: jax.Array
  size: int
  rows: Any
  width: int

  def of(self, ref: Any) -> Any:
    """The unit's heads of a reference [group, ..]."""
    return ref.at[pl.ds(self.index * self.size, self.size)]

  def load(self, ref: Any) -> list[jax.Array]:
    """[d, L] of each head."""
    x = ref[self.rows]
    return [x[i * self.width:(i + 1) * self.width] for i in range(self.size)]

  def store(self, ref: Any, heads: list[jax.Array], add: bool) -> None:
    """Writes [d, L] of each head, or adds them to what is there."""
    x = jnp.concatenate(heads)
    ref[self.rows] = ref[self.rows] + x if add else x


def _fill(x):
  """[d, L] to [128, L], with zeros below."""
  if x.shape[0] == LANES:
    return x
  zeros = jnp.zeros((LANES - x.shape[0], x.shape[1]), x.dtype)
  return jnp.concatenate([x, zeros])


def _with_ones(x):
  """[d, L] with eight rows of ones below."""
  ones = jnp.ones((tpu_layout.SUBLANES, x.shape[1]), x.dtype)
  return jnp.concatenate([x, ones])


def _normalise(x, scale, times: float = 1.0) -> _Norm:
  """LayerNorm over the first axis of [d, L], then times `times`."""
  if scale is None:
    return _Norm(None, None, x * times)
  x = x - x.mean(0, keepdims=True)
  factor = lax.rsqrt(
      jnp.square(x).mean(0, keepdims=True) + attention.NORM_EPSILON)
  x = x * factor
  return _Norm(x, factor, x * (scale[...] * times))


def _unnormalise(gradient, norm, ref, name, times: float = 1.0):
  """The gradient of the norm's input; adds that of the scale."""
  gradient = gradient * times
  if norm.unit is None:
    return gradient
  ref['d_' + name][...] += (gradient * norm.unit).sum(1, keepdims=True)
  gradient = gradient * ref[name][...]
  along = (gradient * norm.unit).mean(0, keepdims=True)
  return norm.factor * (
      gradient - gradient.mean(0, keepdims=True) - norm.unit * along)


def _product(x, y, over=(1, 0)):
  """Product over an axis of each, summed in float32."""
  precision = (lax.Precision.HIGHEST if x.dtype == jnp.float32
               else lax.Precision.DEFAULT)
  return lax.dot_general(
      x, y, ((over[:1], over[1:]), ((), ())), precision=precision,
      preferred_element_type=jnp.float32)


def _largest(logits):
  """[1, queries], the largest of each query's logits."""
  found = logits[0].max(0, keepdims=True)
  for x in logits[1:]:
    found = jnp.maximum(found, x.max(0, keepdims=True))
  return found


def _chunks(length, is_backward):
  """Queries whose logits are computed at once, as slices."""
  step = tpu_layout.query_block(length, is_backward)
  return [slice(first, min(first + step, length))
          for first in range(0, length, step)]


def _each_unit(plan, group, function):
  """Calls `function` with each unit of the group."""
  size = _UNIT if plan.group % _UNIT == 0 else 1
  start = plan.first_row(group)

  def step(index, _):
    first = pl.multiple_of(
        start + index * (size * plan.width), tpu_layout.SUBLANES)
    function(_Unit(index, size, pl.ds(first, size * plan.width), plan.width))
  lax.fori_loop(0, plan.group // size, step, None)


def _clear(ref, *names):
  for name in names:
    if name in ref:
      ref[name][...] = jnp.zeros_like(ref[name])


def _turn(plan, ref, group, *pairs, times=None):
  """Transposes blocks [.., K d] to float32 [K d, L], a tile at a time."""
  start = plan.first_lane(group)

  def step(first, size):
    lanes = _lanes(start + first, size)
    for source, target in pairs:
      x = ref[source][..., lanes].astype(jnp.float32)
      if times is not None:
        x = x * ref[times][..., lanes].astype(jnp.float32)
      ref[target][pl.ds(first, size)] = x.reshape(-1, size).T
  _each_tile(plan, step)


def _pass_on(plan, ref, group, source, target):
  """Copies the group's lanes of a block as they are."""
  lanes = _lanes(plan.first_lane(group), plan.span)
  ref[target][...] = ref[source][..., lanes].astype(ref[target].dtype)


def _turn_text(plan, ref, group):
  if plan.text_length:
    _turn(plan, ref, group, ('text_key', 'at_text_key'),
          ('text_value', 'at_text_value'))


def _turn_back(plan, ref, *pairs):
  """Transposes [K d, L] to blocks [.., K d], a tile at a time."""
  def step(first, size):
    rows = pl.ds(first, size)
    for source, target in pairs:
      place = (..., rows)
      shape = ref[target].at[place].shape
      ref[target][place] = ref[source][rows].T.reshape(shape).astype(
          ref[target].dtype)
  _each_tile(plan, step)


def _each_tile(plan, function):
  """Calls `function` with the first lane and the number of lanes of tiles."""
  tiles, rest = divmod(plan.span, LANES)
  if rest:
    function(tiles * LANES, rest)
  if not tiles:
    return
  size = LANES * max(n for n in range(1, _TILES + 1) if tiles % n == 0)

  def step(index, _):
    function(pl.multiple_of(index * size, LANES), size)
  lax.fori_loop(0, tiles * LANES // size, step, None)


def _lanes(first: Any, size: int) -> Any:
  """Lanes that begin with a tile."""
  return pl.ds(first if isinstance(first, int)
               else pl.multiple_of(first, LANES), size)
