"""Tokens cut over devices give what one device gives, and send little."""
import re

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.core import types
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import token_cuts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition

_SENT = re.compile(
    r'= (.+?) (all-gather|all-to-all|all-reduce|reduce-scatter|'
    r'collective-permute)\(.*op_name="([^"]*)"')


def _normal(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _program(form, grid, spatial, spacetime):
  """A denoiser's pass, and inputs: parameters, latents, a text."""
  model = denoiser_lib.Denoiser(
      width=128, depth=2, num_heads=8, mlp_width=128, patch=1,
      spatial_window=spatial, spacetime_window=spacetime, text_width=6,
      attention_form=form)
  shape = (2, *grid, 3)
  shapes = jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros(shape), jnp.ones((2, 1)),
      types.Conditioning())['params']
  leaves, tree = jax.tree.flatten(shapes)
  params = tree.unflatten([
      .3 * _normal(i, *leaf.shape) for i, leaf in enumerate(leaves)])
  text = types.Conditioning(
      text=_normal(1, 2, 1, 5, 6), text_mask=np.arange(5) < [[[4]], [[2]]])

  def apply(params, x, text):
    return model.apply({'params': params}, x, jnp.ones((2, 1)), text)

  return apply, (params, _normal(0, *shape), text)


def _on_mesh(apply, inputs, mesh):
  """What a mesh gives, and what it sends: (kind, shape, where)."""
  rows = mesh_lib.batch_sharding(mesh)
  cut = (partition.tree_shardings(inputs[0], mesh, partition.DENOISER_RULES),
         rows, rows)
  with partition.activate(mesh):
    compiled = jax.jit(
        token_cuts.on_parts(apply), in_shardings=cut).lower(*inputs).compile()
  sent = [(kind, shape, name) for shape, kind, name in
          _SENT.findall(compiled.as_text())]
  return np.asarray(compiled(*jax.device_put(inputs, cut))), sent


class TokenCutsTest(parameterized.TestCase):

  @parameterized.parameters(
      # Windows of both kinds are shared, by eight devices and by two.
      ('xla', (3, 8, 8), (1, 8, 8), (3, 4, 4), (1, 1, 1, 8), 16),
      # A kernel, and spacetime windows that stay in place.
      ('fused_tpu_interpreted', (2, 8, 12), (1, 8, 12), (2, 8, 6),
       (2, 1, 1, 2), 12))
  def test_equal_to_one_device(self, form, grid, spatial, spacetime, axes,
                               num_exchanges):
    apply, inputs = _program(form, grid, spatial, spacetime)
    one = np.asarray(jax.jit(apply)(*inputs))
    *sizes, context = axes
    mesh = mesh_lib.make_mesh(
        *sizes, jax.devices()[:np.prod(axes)], context=context)
    found, sent = _on_mesh(apply, inputs, mesh)
    np.testing.assert_allclose(found, one, atol=1e-4 * np.abs(one).max())
    self.assertGreater(np.abs(one).max(), 1)
    # Inside of layers tokens and heads are exchanged, and nothing else sent.
    inside = [kind for kind, _, name in sent if '/layers/' in name]
    self.assertEqual(set(inside), {'all-to-all'})
    self.assertLen(inside, num_exchanges)
    # The tokens of the head's few channels are put together once.
    self.assertLessEqual(len(sent) - len(inside), 2)

  @pytest.mark.slow
  def test_beside_heads_over_tensor(self):
    apply, inputs = _program('xla', (3, 8, 8), (1, 8, 8), (3, 4, 4))
    one = np.asarray(jax.jit(apply)(*inputs))
    found, sent = _on_mesh(apply, inputs, mesh_lib.make_mesh(
        2, 1, 2, jax.devices()[:8], context=2))
    np.testing.assert_allclose(found, one, atol=1e-4 * np.abs(one).max())
    self.assertEqual({kind for kind, _, name in sent if '/layers/' in name},
                     {'all-to-all', 'all-reduce'})

  def test_nothing_is_cut_outside_of_parts(self):
    seen = []
    look = lambda x: seen.append(token_cuts.num_parts()) or x
    for mesh in (mesh_lib.make_mesh(8), mesh_lib.make_mesh(2, context=4)):
      with partition.activate(mesh):
        look(0)
        jax.eval_shape(token_cuts.on_parts(look), jnp.zeros(4))
    jax.eval_shape(token_cuts.on_parts(look), jnp.zeros(4))
    self.assertEqual(seen, [1, 1, 1, 4, 1])

  @parameterized.parameters(
      (2, (64, 16), None), (8, (64, 16), None),
      (3, (64,), 'does not divide the 64 tokens'),
      (8, (64, 12), '8 tokens of a frame, neither .* 12 of a window'),
      (16, (64,), '16 devices share a window, .* 8 heads'))
  def test_refusals(self, parts, window_tokens, reason):
    found = token_cuts.refusal(parts, 64, 8, window_tokens)
    if reason is None:
      self.assertIsNone(found)
    else:
      self.assertRegex(found, reason)


if __name__ == '__main__':
  absltest.main()
