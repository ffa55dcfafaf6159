"""Encoding in parts: the same latents, of less memory."""
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.extend import core as jax_core
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.planning import collectives
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import statistics
from walt_jax.training import encode
from walt_jax.training import row_parts

NETWORK = autoencoder.Autoencoder(
    base_channels=4, channel_multipliers=(1, 2), time_downsample=(True,),
    blocks_per_level=1, middle_blocks=0, latent_channels=2, num_groups=2,
    bottleneck='kl', kernel_size=(1, 3, 3))
ROWS, SHARDS, FRAMES = 8, 2, 3  # Of each kind; an image row has two images.


def text_states(params, ids, mask):
  return (params[ids] * mask[..., None]).cumsum(axis=-2)


def encoder(rows_at_once, num_shards=SHARDS):
  return encode.LatentEncoder(
      NETWORK, text_states, low_res_factor=2, num_shards=num_shards,
      rows_at_once=rows_at_once)


def rows(draw, frames, per_row):
  ids = draw.integers(0, 9, (ROWS, per_row, 5), np.int32)
  return types.Rows(
      pixels=draw.integers(0, 256, (ROWS, frames, 8, 8, 3), np.uint8),
      label=np.arange(ROWS * per_row, dtype=np.int32).reshape(ROWS, -1),
      text_ids=ids, text_mask=ids < 7)


def part_sizes(jaxpr):
  """Numbers of parts of the loops of a trace, those in calls too."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'scan':
      yield equation.params['length']
    else:
      for inner in jax_core.jaxprs_in_params(equation.params):
        yield from part_sizes(inner)


class EncoderTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    draw = np.random.default_rng(0)
    cls.batch = types.Batch(videos=rows(draw, FRAMES, 1),
                            images=rows(draw, 2, 2))
    params = jax.jit(NETWORK.init)(
        jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))['params']
    cls.frozen = dict(
        tokenizer=dict(params=params,
                       statistics=statistics.identity_statistics(2)),
        text=draw.standard_normal((9, 3), np.float32))
    cls.whole = cls.encoded(ROWS)

  @classmethod
  def encoded(cls, rows_at_once):
    return jax.jit(encoder(rows_at_once))(
        cls.frozen, cls.batch, jax.random.key(1))

  @parameterized.parameters(1, 3)
  def test_parts_equal_the_whole(self, rows_at_once):
    parts = self.encoded(rows_at_once)
    for name, got in vars(parts).items():
      expected = getattr(self.whole, name)
      if expected is not None:
        np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0,
                                   err_msg=name)
    # The test would not see rows that change places if they were alike.
    latents = np.asarray(self.whole.latents)
    self.assertLen(np.unique(latents[:, 0, 0, 0, 0]), 2 * ROWS)

  def test_a_part_has_as_many_rows_as_divide_a_shard(self):
    for rows_at_once, parts in ((1, {4}), (2, {2}), (3, {2}), (4, set())):
      trace = jax.make_jaxpr(encoder(rows_at_once))(
          self.frozen, self.batch, jax.random.key(1))
      self.assertEqual(set(part_sizes(trace.jaxpr)), parts)

  def test_rows_stay_on_their_devices(self):
    mesh = mesh_lib.make_mesh(SHARDS, devices=jax.devices()[:SHARDS])
    place = mesh_lib.batch_sharding(mesh)
    with rules.activate(mesh):
      program = jax.jit(
          encoder(1), in_shardings=(None, place, None), out_shardings=place,
      ).lower(self.frozen, self.batch, jax.random.key(1)).compile()
    self.assertEmpty(collectives.collectives(program.as_text()))
    got = program(jax.device_put(self.frozen, mesh_lib.replicated(mesh)),
                  jax.device_put(self.batch, place),
                  jax.device_put(jax.random.key(1), mesh_lib.replicated(mesh)))
    np.testing.assert_allclose(got.latents, self.whole.latents, atol=1e-6)


def rows_that_fit(function, rows):
  return row_parts.rows_that_fit(
      jax.make_jaxpr(function)(rows).jaxpr, rows.shape[0])


class EstimateTest(parameterized.TestCase):

  def test_weights_do_not_count(self):
    weights = jnp.ones((500, 10))
    function = lambda x: (x @ (2 * weights).T).sum(-1)  # [B, 4, 500] at most.
    with mock.patch.object(
        row_parts, 'PART_BYTES', 3 * row_parts.ARRAYS_ALIVE * 4 * 4 * 500):
      self.assertEqual(rows_that_fit(function, jnp.ones((8, 4, 10))), 3)
      # One row always goes.
      self.assertEqual(rows_that_fit(function, jnp.ones((8, 40, 10))), 1)

  def test_weights_in_calls_and_loops_do_not_count(self):
    weights = jnp.ones((3, 500, 10))  # [B, 500] at most; 2 * .. is 5,000.
    layer = jax.jit(lambda x, w: x @ (2 * w).T)
    step = lambda x, w: (x + layer(x, w).sum(-1, keepdims=True), None)
    function = lambda x: jax.lax.scan(step, x, weights)[0]
    with mock.patch.object(
        row_parts, 'PART_BYTES', 7 * row_parts.ARRAYS_ALIVE * 4 * 500):
      self.assertEqual(rows_that_fit(function, jnp.ones((2, 10))), 7)

  @parameterized.parameters('scan', 'loop', 'cond')
  def test_what_is_inside_of_a_loop_counts(self, kind):
    total = lambda x, carry: carry + jnp.tile(carry * x, 100).sum()
    # What is carried begins without the row, and becomes of it.
    function = dict(
        scan=jax.vmap(lambda x: jax.lax.scan(
            lambda carry, _: (total(jnp.ones(7), carry) + x.sum(), None),
            1.0, length=3)[0]),
        loop=jax.vmap(lambda x: jax.lax.fori_loop(
            0, x.astype(int).sum(), lambda _, carry: total(
                jnp.ones(7), carry) + x.sum(), 1.0)),
        cond=lambda rows: jax.lax.cond(
            rows.sum() > 0, jax.vmap(lambda x: total(x, 1.0)),
            lambda rows: rows.sum(1), rows))[kind]
    with mock.patch.object(
        row_parts, 'PART_BYTES', 5 * row_parts.ARRAYS_ALIVE * 4 * 700):
      self.assertEqual(rows_that_fit(function, jnp.ones((8, 7))), 5)

  # As many fit as were guessed to: all 8; 2 of 4 guessed; 4 of 2 guessed.
  @parameterized.parameters((8, 8, [8]), (2, 4, [4, 2]), (4, 16, [2, 4]))
  def test_a_trace_of_as_many_rows_as_fit_is_used(self, fit, growth, parts):
    calls = []

    def function(x, y):
      calls.append(x.shape[0])
      return dict(b=jnp.tile(x, 10).reshape(-1, 50), a=(y + 1,))

    # A row's largest array has 50 elements; it is given 5 + 1.
    room = fit * row_parts.ARRAYS_ALIVE * 4 * 50
    rows = np.arange(80.0).reshape(16, 5), np.arange(16).reshape(16, 1)
    with mock.patch.object(row_parts, 'PART_BYTES', room), mock.patch.object(
        row_parts, '_GROWTH', growth):
      made = jax.jit(lambda *rows: row_parts.map_rows(
          function, 2, 0, *rows))(*rows)
    self.assertEqual(calls, [2 * size for size in parts])
    jax.tree.map(np.testing.assert_array_equal, made, function(*rows))

  def test_rows_that_do_not_divide_are_a_fault(self):
    with self.assertRaisesRegex(ValueError, '8 rows .* 3 equal shards'):
      row_parts.map_rows(lambda x: x, 3, 1, jnp.ones((8, 2)))


if __name__ == '__main__':
  absltest.main()
