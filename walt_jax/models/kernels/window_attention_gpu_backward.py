"""The backward kernels of window attention on NVIDIA GPUs.

    keys       a program is a window and a head: gradients of its keys and
               values, and what the next kernel reads of them
    queries    a program is a head, a tile of queries and a share of the rows
               of the batch; all windows of the share pass, and the gradient
               of the bias, summed over them, stays in registers
"""
import dataclasses

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
  gradient), d_key_scale [d] (summed over the window).
  """
  geometry = problem.geometry
  pieces = geometry.pieces
  query_scale = gpu_windows.load_scale(problem, refs.query_scale)
  key_scale = gpu_windows.load_scale(problem, refs.key_scale)

  def prepare(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.tile)
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
  # Of queries: registers hold no more beside keys.
  size = max(problem.tile // 2, gpu_tiles.MIN_EXTENT)

  def differentiate(tile, keys, d_scale):
    rows = gpu_tiles.window_rows(geometry, tile, keys)
    load_key = lambda: gpu_windows.normalized(
        problem, gpu_tiles.load_columns(refs.key, rows, pieces), key_scale)
    key = load_key().value
    value = gpu_tiles.load_columns(refs.value, rows, pieces)
    if problem.use_qk_norm:
      gpu_tiles.store_columns(refs.normalized_key, rows, pieces, key)

    def step(number, carry):
      d_key, d_value = carry
      columns = gpu_tiles.window_rows(geometry, number, size)
      query = gpu_tiles.load_columns(query_ref, columns, pieces)
      d_context = gpu_tiles.load_columns(refs.d_context, columns, pieces)
      delta = gpu_windows.row_values(refs.delta, columns, 0.)
      log_sum = gpu_windows.row_values(refs.log_sum, columns, jnp.inf)

      def weigh():
        products = gpu_windows.products(
            problem, key, query, refs.bias, rows, columns)
        weights = jnp.exp2(products * problem.log2_scale - log_sum[None])
        d_weights = gpu_tiles.dot_columns(value, d_context)
        d_logits = weights * (d_weights - delta[None])
        kind = query[0].dtype
        return weights.astype(kind), d_logits.astype(kind)

      weights, d_logits = gpu_windows.apart(
          keys < problem.keys, number, weigh,
          (keys, size, query[0].dtype))
      d_value = tuple(d + gpu_tiles.dot(weights, c)
                      for d, c in zip(d_value, d_context, strict=True))
      d_key = tuple(d + gpu_tiles.dot(d_logits, q)
                    for d, q in zip(d_key, query, strict=True))
      return d_key, d_value

    zeros = gpu_tiles.zeros(keys, pieces)
    d_key, d_value = jax.lax.fori_loop(
        0, geometry.num_tiles(size), step, (zeros, zeros))
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
    gpu_windows.each_tile(geometry, problem.tile, prepare)
    if not problem.interpret:  # What one thread wrote, the others read.
      plgpu.debug_barrier()
    # Where less than half a tile of keys is left, half a tile serves.
    keys = problem.keys
    left = geometry.length % keys
    halves = int(0 < left <= keys // 2)
    d_scale = jax.lax.fori_loop(
        0, geometry.num_tiles(keys) - halves,
        lambda tile, carry: differentiate(tile, keys, carry),
        _no_gradient(problem))
    if halves:
      d_scale = differentiate(
          2 * (geometry.length // keys), keys // 2, d_scale)
    if problem.use_qk_norm:
      gpu_tiles.store_vector(refs.d_key_scale, pieces, d_scale)

  def pass_on(tile):
    rows = gpu_tiles.window_rows(geometry, tile, problem.tile)
    gpu_tiles.store_columns(
        refs.d_value, rows, pieces,
        gpu_tiles.load_columns(refs.d_context, rows, pieces))
    gpu_tiles.store_columns(
        refs.d_key, rows, pieces, gpu_tiles.zeros(problem.tile, pieces))

  def pass_on_all():
    gpu_windows.each_tile(geometry, problem.tile, pass_on)
    if problem.use_qk_norm:
      gpu_tiles.store_vector(
          refs.d_key_scale, pieces, _no_gradient(problem))

  gpu_windows.unless_image(problem, refs, differentiate_all, pass_on_all)


def queries_kernel(problem, tile, batch_rows, refs):
  """Gradients of a tile of queries in all windows of a share of the rows.

  The tiles of the bias gradient that stay in registers cannot be chosen by a
  loop's index, so each is updated under a condition.

  Refs: query, key (normalised with QK norm), value, d_context, d_query
  [rows, T, H, W, d]; log_sum, delta [rows, N, L]; query_scale, d_query_scale
  [d]; bias, d_bias [tile, L]; identity [rows].
  """
  geometry = problem.geometry
  pieces = geometry.pieces
  query_scale = gpu_windows.load_scale(problem, refs.query_scale)
  own = gpu_tiles.window_rows(geometry, tile, problem.queries)
  in_block = dataclasses.replace(
      own, tokens=jnp.arange(problem.queries, dtype=jnp.int32))

  def locate(row, place, tile, size):
    origin = tuple(index * extent for index, extent in zip(
        geometry.window_index(place), geometry.window, strict=True))
    return gpu_tiles.window_rows(geometry, tile, size, origin, (row,))

  def differentiate_window(row, place, carry):
    d_scale, d_bias = carry
    rows = locate(row, place, tile, problem.queries)
    normalized = gpu_windows.normalized(
        problem, gpu_tiles.load_columns(refs.query, rows, pieces),
        query_scale)
    query = normalized.value
    d_context = gpu_tiles.load_columns(refs.d_context, rows, pieces)
    log_sum = gpu_windows.row_values(refs.log_sum, rows, jnp.inf, (row, place))
    delta = gpu_windows.row_values(refs.delta, rows, 0., (row, place))

    def step(number, carry):
      d_query, d_bias = carry
      columns = locate(row, place, number, problem.tile)
      key = gpu_tiles.load_columns(refs.key, columns, pieces)
      value = gpu_tiles.load_columns(refs.value, columns, pieces)

      def differentiate():
        products = gpu_windows.products(
            problem, query, key, refs.bias, in_block, columns)
        weights = jnp.exp2(products * problem.log2_scale - log_sum[:, None])
        d_weights = gpu_tiles.dot_columns(d_context, value)
        return weights * (d_weights - delta[:, None]),

      d_logits, = gpu_windows.apart(
          True, number, differentiate,
          (problem.queries, problem.tile, jnp.float32))
      if problem.use_bias:
        d_bias = tuple(
            jax.lax.cond(number == n, jnp.add, lambda x, _: x, x, d_logits)
            for n, x in enumerate(d_bias))
      d_query = tuple(d + gpu_tiles.dot(d_logits.astype(k.dtype), k)
                      for d, k in zip(d_query, key, strict=True))
      return d_query, d_bias

    d_query, d_bias = jax.lax.fori_loop(
        0, geometry.num_tiles(problem.tile), step,
        (gpu_tiles.zeros(problem.queries, pieces), d_bias))
    d_query = tuple(d * geometry.head_dim ** -.5 for d in d_query)
    if problem.use_qk_norm:
      d_query, of_scale = gpu_tiles.normalize_gradient(
          d_query, normalized, query_scale, geometry.head_dim)
      d_scale = tuple(a + b for a, b in zip(d_scale, of_scale, strict=True))
    gpu_tiles.store_columns(refs.d_query, rows, pieces, d_query)
    return d_scale, d_bias

  def pass_on(row, place, carry):
    gpu_tiles.store_columns(
        refs.d_query, locate(row, place, tile, problem.queries), pieces,
        gpu_tiles.zeros(problem.queries, pieces))
    return carry

  def window(number, carry):
    _, row, place = gpu_tiles.unravel(
        number, (1, batch_rows, geometry.num_windows))
    if not problem.use_identity:
      return differentiate_window(row, place, carry)
    return jax.lax.cond(
        plgpu.load(refs.identity.at[row]) == 0, differentiate_window, pass_on,
        row, place, carry)

  d_bias = ()
  if problem.use_bias:
    d_bias = tuple(jnp.zeros((problem.queries, problem.tile))
                   for _ in range(geometry.num_tiles(problem.tile)))
  d_scale, d_bias = jax.lax.fori_loop(
      0, batch_rows * geometry.num_windows, window,
      (_no_gradient(problem), d_bias))
  if problem.use_qk_norm:
    gpu_tiles.store_vector(refs.d_query_scale, pieces, d_scale)
  for number, values in enumerate(d_bias):
    columns = gpu_tiles.window_rows(geometry, number, problem.tile)
    at = refs.d_bias.at[in_block.tokens[:, None], columns.tokens[None]]
    plgpu.store(at, values, mask=gpu_windows.real_pairs(own, columns))


def _no_gradient(problem):
  if not problem.use_qk_norm:
    return ()
  return tuple(jnp.zeros((p.size,)) for p in problem.geometry.pieces)
