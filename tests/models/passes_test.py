"""Kernels of passes between products equal the plain form."""
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.models import blocks
from walt_jax.models import branches
from walt_jax.models import passes
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules

KERNELS = 'triton_interpret'
FLOAT32, BFLOAT16 = jnp.float32, jnp.bfloat16
TOKENS = (2, 3, 2, 2)  # B, T, H, W.
# Width 24 is padded to 32 columns; a frame of its own vectors has 4 tokens.
SIZES = ((24, 1), (32, 3))


def make_inputs(width, frames):
  keys = jax.random.split(jax.random.key(0), 6)
  tokens, vectors = (*TOKENS, width), (TOKENS[0], frames, width)
  shapes = dict(x=tokens, y=tokens, gate=vectors, shift=vectors, scale=vectors,
                bias=(width,))
  return {name: 0.5 + jax.random.normal(key, shape) for key, (name, shape)
          in zip(keys, shapes.items(), strict=True)}


def norm(inputs, dtype, form):
  return passes.norm(
      inputs['x'].astype(dtype), inputs['shift'], inputs['scale'], dtype, form)


def sum_norm(inputs, dtype, form):
  return passes.sum_norm(
      inputs['x'].astype(dtype), branch(inputs, dtype), inputs['gate'],
      inputs['shift'], inputs['scale'], dtype, form)


def residual_sum(inputs, dtype, form):
  return (passes.residual_sum(
      inputs['x'].astype(dtype), branch(inputs, dtype), inputs['gate'], form),)


def branch(inputs, dtype):
  bias = inputs.get('bias')
  return branches.Branch(
      inputs['y'].astype(dtype),
      None if bias is None else bias.astype(dtype))


def mlp(inputs, dtype, form, keeps_activation=True):
  width = inputs['x'].shape[-1]
  module = blocks.Mlp(4 * width, 'gelu', form, dtype,
                      keeps_activation=keeps_activation)
  out = module.apply({'params': inputs['params']}, inputs['x'].astype(dtype))
  return (out.values if out.bias is None else out.values + out.bias,)


def mlp_inputs(width):
  x = make_inputs(width, 1)['x']
  params = blocks.Mlp(4 * width, 'gelu', 'plain', FLOAT32).init(
      jax.random.key(1), x)['params']
  # Biases start at zero, where a wrong one would not be seen.
  params = jax.tree.map(lambda p: p + 0.1, params)
  return dict(x=x, params=params)


def outputs_and_gradients(function, inputs, dtype, form):
  """Float32 outputs, and gradients of a sum with unlike weights."""
  def loss(inputs):
    out = [o.astype(FLOAT32) for o in function(inputs, dtype, form)]
    return sum((jnp.sin(jnp.arange(o.size)).reshape(o.shape) * o).sum()
               for o in out), out
  # As one program, XLA would leave out roundings.
  run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options={
      'xla_allow_excess_precision': False})
  (_, out), gradients = run(inputs)
  return jax.tree.map(np.asarray, (out, gradients))


def error(found, exact):
  """Largest difference of each leaf over the largest exact value."""
  return jax.tree.map(
      lambda a, b: np.abs(a - b).max() / max(np.abs(b).max(), 1e-9),
      found, exact)


class PassesTest(parameterized.TestCase):

  @parameterized.product(
      function=(norm, sum_norm, residual_sum), size=SIZES)
  def test_kernels_are_the_plain_form(self, function, size):
    self.check(function, make_inputs(*size))

  def test_a_branch_may_have_its_bias(self):
    inputs = make_inputs(24, 1)
    del inputs['bias']
    self.check(sum_norm, inputs)

  @parameterized.parameters(True, False)
  def test_mlp_is_the_plain_form(self, keeps_activation):
    self.check(functools.partial(mlp, keeps_activation=keeps_activation),
               mlp_inputs(24))

  def check(self, function, inputs):
    exact = outputs_and_gradients(function, inputs, FLOAT32, 'plain')
    found = outputs_and_gradients(function, inputs, FLOAT32, KERNELS)
    for one in jax.tree.leaves(error(found, exact)):
      self.assertLess(one, 1e-5)
    # Roundings to bfloat16 are no larger than those of the plain form.
    plain = error(
        outputs_and_gradients(function, inputs, BFLOAT16, 'plain'), exact)
    found = error(
        outputs_and_gradients(function, inputs, BFLOAT16, KERNELS), exact)
    for one, limit in zip(jax.tree.leaves(found), jax.tree.leaves(plain),
                          strict=True):
      self.assertLessEqual(one, 1.5 * limit + 1e-6)

  def test_parameters_do_not_depend_on_the_form(self):
    x = make_inputs(8, 1)['x']
    one, other = (
        blocks.Mlp(32, 'gelu', form, FLOAT32).init(jax.random.key(0), x)
        for form in ('plain', KERNELS))
    jax.tree.map(np.testing.assert_array_equal, one, other)

  def test_shards_compute_their_own_rows(self):
    inputs = make_inputs(8, 1)
    alone = outputs_and_gradients(sum_norm, inputs, FLOAT32, KERNELS)
    mesh = mesh_lib.make_mesh(2, 1, 1, devices=jax.devices()[:2])
    with rules.activate(mesh):
      cut = outputs_and_gradients(sum_norm, inputs, FLOAT32, KERNELS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        cut, alone)

  def test_hidden_columns_are_cut_over_the_mesh(self):
    inputs = mlp_inputs(8)
    alone = outputs_and_gradients(mlp, inputs, FLOAT32, KERNELS)
    mesh = mesh_lib.make_mesh(1, 1, 2, devices=jax.devices()[:2])
    with rules.activate(mesh):
      cut = outputs_and_gradients(mlp, inputs, FLOAT32, KERNELS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        cut, alone)


if __name__ == '__main__':
  absltest.main()
