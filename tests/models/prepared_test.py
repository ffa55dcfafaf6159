"""What is computed once a sample: what it is, and that nothing changes."""
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import types
from walt_jax.models import compute_type
from walt_jax.models import constants
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import prepared
from walt_jax.planning import counting

B, T, SIZE, C = 2, 3, 4, 2
SHAPE = (B, T, SIZE, SIZE, C)
PAIRS = 2


def make(**changes) -> denoiser_lib.Denoiser:
  """A small denoiser of text and low-resolution latents."""
  return denoiser_lib.Denoiser(**{**dict(
      width=16, depth=2 * PAIRS, num_heads=2, mlp_width=32, patch=1,
      spatial_window=(1, 4, 4), spacetime_window=(T, 2, 2), text_width=6,
      low_res_factor=2, use_noise_level=True), **changes})


@functools.cache
def inputs() -> dict:
  """Random parameters without zeros, latents and conditions."""
  random = np.random.default_rng(0)
  normal = lambda *shape: random.standard_normal(shape, np.float32)
  conditioning = types.Conditioning(
      text=normal(B, 1, 5, 6),
      text_mask=np.arange(5) < np.array([[[3]], [[5]]]),
      low_res=normal(B, T, SIZE // 2, SIZE // 2, C),
      low_res_level=np.full((B, 1), 0.3, np.float32))
  shapes = jax.eval_shape(
      make().init, jax.random.key(0), np.zeros(SHAPE), np.ones((B, 1)),
      conditioning)['params']
  return dict(
      params=jax.tree.map(lambda leaf: 0.3 * normal(*leaf.shape), shapes),
      x=normal(*SHAPE), timestep=np.full((B, 1), 0.4, np.float32),
      conditioning=conditioning)


def loop(denoiser, params, x, timestep, conditioning, num_steps=3):
  """Some passes after each other, with what is prepared before them."""
  network = prepared.prepare(denoiser, params, conditioning, SHAPE)

  def step(x, _):
    return network(x, timestep, conditioning), None

  return jax.lax.scan(step, x, None, length=num_steps)[0]


class PreparedTest(parameterized.TestCase):

  @parameterized.parameters(  # Every two of the values meet.
      (1, jnp.float32, 'xla'), (1, jnp.bfloat16, 'mapped'),
      (PAIRS, jnp.float32, 'mapped'), (PAIRS, jnp.bfloat16, 'xla'))
  def test_passes_are_those_of_the_denoiser(self, unroll, dtype, form):
    denoiser = make(scan_unroll=unroll, dtype=dtype, attention_form=form)
    given = inputs()

    @jax.jit
    def plain(params, x, timestep, conditioning):
      return denoiser.apply({'params': params}, x, timestep, conditioning)

    @jax.jit
    def ours(params, x, timestep, conditioning):
      return prepared.prepare(
          denoiser, compute_type.cast(denoiser, params), conditioning, SHAPE)(
              x, timestep, conditioning)

    expected = plain(**given)
    self.assertGreater(float(jnp.abs(expected - given['x']).max()), 0.1)
    np.testing.assert_allclose(
        ours(**given), expected, rtol=0, atol=1e-6 * np.abs(expected).max())

  def test_constants_are_biases_text_and_low_resolution(self):
    denoiser = make()
    given = inputs()
    _, kept = jax.eval_shape(functools.partial(
        denoiser.apply, mutable=[constants.COLLECTION]),
        {'params': given['params']}, given['x'], given['timestep'],
        given['conditioning'])
    text = (PAIRS, B, 1, 5, 2, 8)
    layer = {'cross_attention': {'text_key': text, 'text_value': text}}
    expected = {
        'low_res': SHAPE,
        'layers': {
            'spatial': {**layer, 'attention': {'bias': (PAIRS, 2, 16, 16)}},
            'spacetime': {**layer, 'attention': {'bias': (PAIRS, 2, 12, 12)}}}}
    self.assertEqual(
        jax.tree.map(lambda x: x.shape, kept[constants.COLLECTION]), expected)

  def test_init_makes_parameters_alone(self):
    made = jax.eval_shape(
        make().init, jax.random.key(0), inputs()['x'], inputs()['timestep'],
        inputs()['conditioning'])
    self.assertEqual(list(made), ['params'])

  def test_steps_compute_no_constant_again(self):
    """By products: what a step costs is less than a pass, by the constants."""
    denoiser, given = make(), inputs()
    count = lambda steps: counting.flops_of(jax.jit(functools.partial(
        loop, denoiser, num_steps=steps)).trace(**given))
    step = count(3) - count(2)
    once = count(2) - 2 * step
    whole = counting.product_flops(
        lambda params, *rest: denoiser.apply({'params': params}, *rest),
        *given.values())
    self.assertEqual(step + once, whole)
    text = 2 * 4 * PAIRS * B * 5 * 16 * 16  # Keys and values of four layers.
    self.assertGreater(once, text)


class ComputeTypeTest(absltest.TestCase):

  def test_what_is_cast_is_what_passes_cast(self):
    """A parameter is cast if all that a pass does with it is to cast it."""
    denoiser, given = make(dtype=jnp.bfloat16, scan_unroll=PAIRS), inputs()
    paths = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _
             in jax.tree_util.tree_leaves_with_path(given['params'])]
    traced = jax.make_jaxpr(
        lambda params, *rest: denoiser.apply({'params': params}, *rest))(
            *given.values()).jaxpr
    roots = dict(zip(traced.invars[:len(paths)], range(len(paths)),
                     strict=True))
    uses = {root: set() for root in roots.values()}
    _follow(traced, roots, uses)
    found = {paths[root] for root, types_ in uses.items()
             if types_ == {'bfloat16'}}
    small = compute_type.cast(denoiser, given['params'])
    ours = {jax.tree_util.keystr(path, simple=True, separator='/')
            for path, leaf in jax.tree_util.tree_leaves_with_path(small)
            if leaf.dtype == jnp.bfloat16}
    self.assertEqual(ours, found)
    self.assertLen(ours, 2 + 2 * (2 * 8 + 4))

  def test_in_turns_leaves_nothing_behind(self):
    denoiser = make(dtype=jnp.bfloat16)
    params = jax.tree.map(jnp.array, inputs()['params'])
    expected = compute_type.cast(denoiser, params)
    found = compute_type.cast_in_turns(denoiser, params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    self.assertEqual(jax.tree.map(lambda x: x.dtype, found),
                     jax.tree.map(lambda x: x.dtype, expected))
    for before, after in zip(
        jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
      self.assertEqual(before.is_deleted(), after.dtype == jnp.bfloat16)


# What passes a parameter on as it is, or a part of it.
_MOVES = ('slice', 'squeeze', 'reshape', 'transpose', 'broadcast_in_dim',
          'dynamic_slice')


def _follow(jaxpr, roots, uses):
  """Notes in `uses` the types that parameters are cast to, or 'used'."""
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    bodies = list(counting.inner_jaxprs(equation.params))
    for body in bodies:
      inner = {here: roots[there] for here, there in zip(
          body.invars, equation.invars[-len(body.invars):],
          strict=True) if (
              not isinstance(there, jax.extend.core.Literal)
              and there in roots)}
      _follow(body, inner, uses)
    if bodies:
      continue
    for variable in equation.invars:
      root = None if isinstance(
          variable, jax.extend.core.Literal) else roots.get(variable)
      if root is None:
        continue
      if name in _MOVES:
        roots[equation.outvars[0]] = root
      elif name == 'convert_element_type':
        uses[root].add(str(equation.params['new_dtype']))
      else:
        uses[root].add('used')


if __name__ == '__main__':
  absltest.main()
