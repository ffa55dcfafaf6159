"""Window attention as one operation: norm, logits, bias, softmax, values.

Its plain form is the definition. Kernels compute the same without writing
logits to memory; what they keep for the backward pass are their inputs, the
context and a number for each query and head.
"""
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
from jax import ad_checkpoint
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from walt_jax.models import attention
from walt_jax.models import mesh_axes
from walt_jax.models import remat
from walt_jax.models import tile_order
from walt_jax.models import token_cuts
from walt_jax.models import windows
from walt_jax.models.kernels import operands as operands_lib
from walt_jax.models.kernels import tpu_layout
from walt_jax.models.kernels import window_attention_gpu
from walt_jax.models.kernels import window_attention_tpu

Operands = operands_lib.Operands
Sizes = operands_lib.Sizes


@dataclasses.dataclass(frozen=True)
class Form:
  """How kernels are run.

  Attributes:
    kernels: The module.
    interpret: Whether the kernels are interpreted, on a CPU.
    tile_order: Whether tokens should come in the order of tiles, see
      `tile_order`.
  """
  kernels: operands_lib.Kernels
  interpret: bool = False
  tile_order: bool = False


# By the name that builders give; an interpreted form is for tests.
KERNEL_FORMS: Mapping[str, Form] = {
    'fused_gpu': Form(window_attention_gpu),
    'fused_gpu_interpreted': Form(window_attention_gpu, interpret=True),
    'fused_tpu': Form(window_attention_tpu, tile_order=True),
    'fused_tpu_interpreted': Form(
        window_attention_tpu, interpret=True, tile_order=True),
}
# Serves every size; used where kernels do not.
PLAIN_FORM = 'xla'
_TOKENS = ('query', 'key', 'value', 'text_key', 'text_value')


def refusal(form: str, sizes: Sizes) -> str | None:
  """Why `form` does not serve these sizes; None if it does."""
  if form not in KERNEL_FORMS:
    return None
  return KERNEL_FORMS[form].kernels.refusal(sizes)


def served(form: str, sizes: Sizes) -> str:
  """The form that computes these sizes: `form`, or the plain one."""
  return form if refusal(form, sizes) is None else PLAIN_FORM


def reads_grid(form: str, sizes: Sizes) -> bool:
  """Whether `form` reads the windows from the grid where they lie."""
  return (form in KERNEL_FORMS
          and KERNEL_FORMS[form].kernels.reads_grid(sizes))


def token_order(form: str, grid: windows.Window,
                extents: Sequence[windows.Window]
                ) -> tile_order.TileOrder | None:
  """The order in which layers should hold tokens; None: raster order.

  The latter where the rows of a frame are whole tiles of memory: no token is
  laid out anew for a kernel then. Tokens that are cut over devices always are
  in the order of tiles.
  """
  if token_cuts.num_parts() > 1:
    return tile_order.tile_order(grid, extents)
  if form not in KERNEL_FORMS or not KERNEL_FORMS[form].tile_order:
    return None
  if not grid[2] % tpu_layout.SUBLANES:
    return None
  return tile_order.tile_order(grid, extents)


def local_heads(num_heads: int) -> int:
  """Heads of one device, of the mesh that is active if any."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return num_heads
  return num_heads // mesh_axes.num_parts(mesh, 'heads', num_heads)


def attend(operands: Operands, window: windows.Window, form: str) -> jax.Array:
  """Attention of each window's queries to its own keys and its text's.

  Args:
    operands: The inputs.
    window: Extent of one window; tiles (T, H, W).
    form: A name of `KERNEL_FORMS` that serves the sizes, or one of
      `attention.FORMS`.

  Returns:
    The context [B, T, H, W, K, d] in the type of the values.
  """
  if form not in KERNEL_FORMS:
    return ad_checkpoint.checkpoint_name(
        plain(operands, window, form), remat.ATTENTION_CONTEXT)
  kernel = functools.partial(_fused, window=window, form=form)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return kernel(operands)
  width = operands.query.shape[-1]

  def on_shard(operands: Operands) -> jax.Array:
    return _lanes(kernel(_with_tokens(operands, functools.partial(
        _heads, width=width))))

  # Shards are of [K d]: a TPU would lay the shards of [K, d] out as such, and
  # pad each head to 128 lanes.
  specs = _specs(operands, mesh)
  context = jax.shard_map(
      on_shard, in_specs=(specs,), out_specs=specs.query,
      axis_names=mesh_axes.free(mesh), check_vma=False)(
          _with_tokens(operands, _lanes))
  return _heads(context, width)


def _lanes(x: jax.Array) -> jax.Array:
  """[.., K, d] to [.., K d]."""
  return x.reshape(*x.shape[:-2], -1)


def _heads(x: jax.Array, width: int) -> jax.Array:
  """[.., K d] to [.., K, d]."""
  return x.reshape(*x.shape[:-1], -1, width)


def _with_tokens(
    operands: Operands, function: Callable[[jax.Array], jax.Array]
) -> Operands:
  """Operands with `function` of all queries, keys and values."""
  return operands._replace(**{
      name: function(x) for name, x in operands._asdict().items()
      if x is not None and name in _TOKENS})


def plain(
    operands: Operands, window: windows.Window, form: str = PLAIN_FORM
) -> jax.Array:
  """The definition, as XLA compiles it; see `attend`."""
  _, frames, rows, columns, _, _ = operands.query.shape
  cut = functools.partial(windows.partition_windows, window=window)
  query = attention.normalise(operands.query, operands.query_scale)
  key = attention.normalise(operands.key, operands.key_scale)
  query, key, value = cut(query), cut(key), cut(operands.value)
  seen_key, seen_value, mask = key, value, None
  if operands.text_key is not None:
    beside = functools.partial(_beside, num_windows=query.shape[1])
    text_key = attention.normalise(operands.text_key, operands.key_scale)
    seen_key = beside(key, text_key)
    seen_value = beside(value, operands.text_value)
    mask = beside(jnp.ones(key.shape[:3], bool), operands.text_mask)
  context = attention.attend(
      query, seen_key, seen_value, bias=operands.bias, mask=mask, form=form)
  if operands.is_image is not None:
    identity = operands.is_image[:, None, None, None, None]
    context = jnp.where(identity, value, context)
  return windows.merge_windows(context, window, (frames, rows, columns))


def _beside(own: jax.Array, text: jax.Array, num_windows: int) -> jax.Array:
  """[B, N, L, ...] with the text of each window's frame behind its own."""
  text = spread_texts(text, num_windows).astype(own.dtype)
  return jnp.concatenate([own, text], axis=2)


def spread_texts(x: jax.Array, num_windows: int) -> jax.Array:
  """[B, F, ...] to [B, N, ...]: each window gets its frame's text."""
  b, num_texts, *rest = x.shape
  x = jnp.broadcast_to(
      x[:, :, None], (b, num_texts, num_windows // num_texts, *rest))
  return x.reshape(b, num_windows, *rest)


@functools.partial(jax.custom_vjp, nondiff_argnames=('window', 'form'))
def _fused(operands, window, form):
  return _forward(operands, window, form)[0]


def _forward(operands, window, form):
  how = KERNEL_FORMS[form]
  context, log_sum = how.kernels.forward(operands, window, how.interpret)
  # With these kept, a rematerialised layer does not run the kernel again. As
  # [K, d] a TPU would pad what it keeps to 128 lanes a head, and copy it.
  context = _heads(ad_checkpoint.checkpoint_name(
      _lanes(context), remat.ATTENTION_CONTEXT), context.shape[-1])
  log_sum = ad_checkpoint.checkpoint_name(log_sum, remat.ATTENTION_LOG_SUM)
  return context, (operands, context, log_sum)


def _backward(window, form, residuals, cotangent):
  how = KERNEL_FORMS[form]
  return how.kernels.backward(
      *residuals, cotangent, window, how.interpret),


_fused.defvjp(_forward, _backward)


def _specs(operands: Operands, mesh: jax.sharding.AbstractMesh) -> Operands:
  """The cut of each operand: rows over the batch's axes, heads over theirs."""
  batch = mesh_axes.cut(mesh, 'batch', operands.query.shape[0])
  heads = mesh_axes.cut(mesh, 'heads', operands.query.shape[4])
  tokens = P(batch, None, None, None, heads)
  text = P(batch, None, None, heads)
  specs: Any = (
      tokens, tokens, tokens, P(None), P(None), P(heads, None, None), P(batch),
      text, text, P(batch, None, None))
  return Operands(*(
      None if x is None else spec
      for x, spec in zip(operands, specs, strict=True)))
