"""The backward kernels of window attention on NVIDIA GPUs.

    keys       a program is a window and a head: gradients of its keys and
               values, and what the next kernel reads of them
    queries    a program is a window and a head: gradients of its queries

The gradient of the logits goes from one to the other, and to the sum that is
the gradient of the bias, through memory in the type of the queries. To compute
it again for each takes three products and the exponentials: on an H200 (L,
windows of 256 and 320) the queries took 902 and 1,063 us a layer that way, and
170 and 188 so.
"""
import jax
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from walt_jax.models.kernels import gpu_tiles
from walt_jax.models.kernels import gpu_windows


def keys_kernel(problem, refs):
  """Gradients of the keys and values of one window and head.

  Products are of keys by queries, so that weights enter the next product
  from registers as they are.

  Refs beside the forward kernel's, whose bias is transposed: d_context,
  d_key, d_value [wt, wh, ww, d], normalized_query and normalized_key of the
  same shape (with QK norm), delta [L] (sums of the context times its
  gradient), d_key_scale [d] (summed over the window), d_logits [L, L].
  """
  geometry = problem.geometry
  pieces = geometry.pieces
  query_scale = gpu_windows.load_scale(problem, refs.query_scale)
  key_scale = gpu_windows.load_scale(problem, refs.key_scale)

  def prepare(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.keys_queries)
    context = gpu_tiles.load_columns(refs.context, rows, pieces)
    d_context = gpu_tiles.load_columns(refs.d_context, rows, pieces)
    delta = sum(
        (c.astype(jnp.float32) * d.astype(jnp.float32)).sum(1)
        for c, d in zip(context, d_context, strict=True))
    plgpu.store(refs.delta.at[rows.tokens], delta, mask=rows.real)
    if problem.use_qk_norm:
      query = gpu_windows.normalized(
          problem, gpu_tiles.load_columns(refs.query, rows, pieces),
          query_scale).value
      gpu_tiles.store_columns(refs.normalized_query, rows, pieces, query)

  query_ref = refs.normalized_query if problem.use_qk_norm else refs.query

  def differentiate(tile, d_scale):
    rows = gpu_tiles.window_rows(geometry, tile, problem.keys)
    load_key = lambda: gpu_windows.normalized(
        problem, gpu_tiles.load_columns(refs.key, rows, pieces), key_scale)
    key = load_key().value
    value = gpu_tiles.load_columns(refs.value, rows, pieces)
    if problem.use_qk_norm:
      gpu_tiles.store_columns(refs.normalized_key, rows, pieces, key)

    def step(number, carry):
      d_key, d_value = carry
      columns = gpu_tiles.window_rows(geometry, number, problem.keys_queries)
      query = gpu_tiles.load_columns(query_ref, columns, pieces)
      d_context = gpu_tiles.load_columns(refs.d_context, columns, pieces)
      delta = gpu_windows.row_values(refs.delta, columns, 0.)
      log_sum = gpu_windows.row_values(refs.log_sum, columns, jnp.inf)

      logits = gpu_windows.logits(
          problem, key, query, refs.bias, rows, columns)
      weights = jnp.exp2(logits - log_sum[None])
      d_weights = gpu_tiles.dot_columns(value, d_context)
      d_logits = (weights * (d_weights - delta[None])).astype(query[0].dtype)
      weights = weights.astype(query[0].dtype)
      gpu_windows.store_pairs(refs.d_logits, rows, columns, d_logits)
      d_value = tuple(d + gpu_tiles.dot(weights, c)
                      for d, c in zip(d_value, d_context, strict=True))
      d_key = tuple(d + gpu_tiles.dot(d_logits, q)
                    for d, q in zip(d_key, query, strict=True))
      return d_key, d_value

    zeros = gpu_tiles.zeros(problem.keys, pieces)
    d_key, d_value = jax.lax.fori_loop(
        0, geometry.num_tiles(problem.keys_queries), step, (zeros, zeros))
    gpu_tiles.store_columns(refs.d_value, rows, pieces, d_value)
    d_key = tuple(d * geometry.head_dim ** -.5 for d in d_key)
    if problem.use_qk_norm:
      # Loaded again: registers do not hold float32 rows during the loop.
      d_key, of_scale = gpu_tiles.normalize_gradient(
          d_key, load_key(), key_scale, geometry.head_dim)
      d_scale = tuple(a + b for a, b in zip(d_scale, of_scale, strict=True))
    gpu_tiles.store_columns(refs.d_key, rows, pieces, d_key)
    return d_scale

  def differentiate_all():
    gpu_windows.each_tile(geometry, problem.keys_queries, prepare)
    if not problem.interpret:  # What one thread wrote, the others read.
      plgpu.debug_barrier()
    d_scale = jax.lax.fori_loop(
        0, geometry.num_tiles(problem.keys), differentiate,
        _no_gradient(problem))
    if problem.use_qk_norm:
      gpu_tiles.store_vector(refs.d_key_scale, pieces, d_scale)

  def pass_on(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.keys)
    gpu_tiles.store_columns(
        refs.d_value, rows, pieces,
        gpu_tiles.load_columns(refs.d_context, rows, pieces))
    gpu_tiles.store_columns(
        refs.d_key, rows, pieces, gpu_tiles.zeros(problem.keys, pieces))

  def pass_on_all():
    gpu_windows.each_tile(geometry, problem.keys, pass_on)
    if problem.use_qk_norm:
      gpu_tiles.store_vector(
          refs.d_key_scale, pieces, _no_gradient(problem))

  gpu_windows.unless_image(problem, refs, differentiate_all, pass_on_all)


def queries_kernel(problem, refs):
  """Gradients of the queries of one window and head.

  Refs: query, key (normalised with QK norm), d_query [wt, wh, ww, d];
  d_logits [L, L], keys by queries; query_scale, d_query_scale [d]; identity
  [] (not zero for images).
  """
  geometry = problem.geometry
  pieces = geometry.pieces
  query_scale = gpu_windows.load_scale(problem, refs.query_scale)

  def differentiate(tile, d_scale):
    rows = gpu_tiles.window_rows(geometry, tile, problem.queries)

    def step(number, d_query):
      columns = gpu_tiles.window_rows(geometry, number, problem.keys)
      key = gpu_tiles.load_columns(refs.key, columns, pieces)
      d_logits = gpu_windows.load_pairs(refs.d_logits, columns, rows)
      return tuple(d + gpu_tiles.dot(d_logits.T, k)
                   for d, k in zip(d_query, key, strict=True))

    d_query = jax.lax.fori_loop(
        0, geometry.num_tiles(problem.keys), step,
        gpu_tiles.zeros(problem.queries, pieces))
    d_query = tuple(d * geometry.head_dim ** -.5 for d in d_query)
    if problem.use_qk_norm:
      normalized = gpu_windows.normalized(
          problem, gpu_tiles.load_columns(refs.query, rows, pieces),
          query_scale)
      d_query, of_scale = gpu_tiles.normalize_gradient(
          d_query, normalized, query_scale, geometry.head_dim)
      d_scale = tuple(a + b for a, b in zip(d_scale, of_scale, strict=True))
    gpu_tiles.store_columns(refs.d_query, rows, pieces, d_query)
    return d_scale

  def differentiate_all():
    d_scale = jax.lax.fori_loop(
        0, geometry.num_tiles(problem.queries), differentiate,
        _no_gradient(problem))
    if problem.use_qk_norm:
      gpu_tiles.store_vector(refs.d_query_scale, pieces, d_scale)

  def pass_on(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.queries)
    gpu_tiles.store_columns(
        refs.d_query, rows, pieces, gpu_tiles.zeros(problem.queries, pieces))

  def pass_on_all():
    gpu_windows.each_tile(geometry, problem.queries, pass_on)
    if problem.use_qk_norm:
      gpu_tiles.store_vector(
          refs.d_query_scale, pieces, _no_gradient(problem))

  gpu_windows.unless_image(problem, refs, differentiate_all, pass_on_all)


def _no_gradient(problem):
  if not problem.use_qk_norm:
    return ()
  return tuple(jnp.zeros((p.size,)) for p in problem.geometry.pieces)
