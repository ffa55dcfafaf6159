"""Norms and resampling of the tokenizer: what a frame may depend on."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.tokenizer import layers

PATCHES = ((1, 1, 1), (1, 2, 2), (2, 2, 4), (4, 1, 2))


def clip(frames=9, height=4, width=8, channels=3, seed=0):
  return np.random.default_rng(seed).normal(
      size=(2, frames, height, width, channels)).astype(np.float32)


class ResamplingTest(parameterized.TestCase):

  @parameterized.parameters(*PATCHES)
  def test_depth_to_space_inverts_space_to_depth(self, *patch):
    x = clip()
    stacked = layers.space_to_depth(x, patch)
    pt, ph, pw = patch
    self.assertEqual(stacked.shape,
                     (2, 1 + 8 // pt, 4 // ph, 8 // pw, pt * ph * pw * 3))
    np.testing.assert_array_equal(layers.depth_to_space(stacked, patch), x)

  @parameterized.parameters(*PATCHES)
  def test_later_chunks_continue_the_clip(self, *patch):
    x = clip()
    whole = layers.space_to_depth(x, patch)
    first, rest = x[:, :1], x[:, 1:]
    chunks = [layers.space_to_depth(first, patch),
              layers.space_to_depth(rest, patch, starts=False)]
    np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)
    back = [layers.depth_to_space(chunks[0], patch),
            layers.depth_to_space(chunks[1], patch, starts=False)]
    np.testing.assert_array_equal(np.concatenate(back, axis=1), x)

  def test_stacking_is_causal(self):
    x, patch = clip(), (4, 2, 2)
    before = np.asarray(layers.space_to_depth(x, patch))
    for frame in range(9):
      bumped = x.copy()
      bumped[:, frame] += 1
      changed = np.any(
          np.asarray(layers.space_to_depth(bumped, patch)) != before,
          axis=(0, 2, 3, 4))
      # Frame i is in latent frame ceil(i / 4) and in no other.
      self.assertEqual(np.flatnonzero(changed).tolist(), [-(-frame // 4)])

  def test_repeated_cells_follow_the_same_frame_rule(self):
    x = np.arange(3.0).reshape(1, 3, 1, 1, 1)
    found = np.asarray(layers.repeat_cells(x, (4, 2, 1)))
    self.assertEqual(found.shape, (1, 9, 2, 1, 1))
    np.testing.assert_array_equal(
        found[0, :, 0, 0, 0], [-(-frame // 4) for frame in range(9)])

  def test_a_length_that_does_not_divide_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'not a multiple'):
      layers.space_to_depth(clip(frames=8), (4, 2, 2))


class NormTest(parameterized.TestCase):

  @parameterized.parameters((3, True), (6, False), (12, True), (1, False))
  def test_flat_form_is_the_plain_one(self, groups, affine):
    x = 3 + clip(channels=12)
    plain = layers.Norm('group', groups, affine=affine)
    params = jax.tree.map(
        lambda p: p + np.linspace(-1, 1, p.size, dtype=np.float32),
        plain.init(jax.random.key(0), x))

    def both(params, x):
      outputs = [module.apply(params, x)
                 for module in (plain, plain.clone(flat=True))]
      gradients = [jax.grad(
          lambda p, x, m=module: jnp.sin(m.apply(p, x)).sum(),
          argnums=(0, 1))(params, x)
                   for module in (plain, plain.clone(flat=True))]
      return list(zip(outputs, gradients, strict=True))

    expected, found = jax.jit(both)(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, rtol=0, atol=1e-5 * np.abs(b).max()), found, expected)

  def test_group_norm_is_its_definition(self):
    x = 3 + 2 * clip(channels=6)
    module = layers.Norm('group', num_groups=2, affine=False)
    found = module.apply({}, x)
    for b, t, group in np.ndindex(2, 9, 2):
      part = x[b, t, :, :, 3 * group:3 * group + 3].astype(np.float64)
      np.testing.assert_allclose(
          found[b, t, :, :, 3 * group:3 * group + 3],
          (part - part.mean()) / np.sqrt(part.var() + 1e-6), atol=1e-5)

  @parameterized.parameters('group', 'position')
  def test_reaches_no_further_than_it_says(self, kind):
    x = clip(channels=4)
    module = layers.Norm(kind, num_groups=2)
    params = module.init(jax.random.key(0), x)
    bumped = x.copy()
    bumped[0, 3, 1, 2] += np.arange(4)
    changed = np.any(np.asarray(module.apply(params, bumped)) !=
                     np.asarray(module.apply(params, x)), axis=-1)
    expected = np.zeros_like(changed)
    if kind == 'group':
      expected[0, 3] = True
    else:
      expected[0, 3, 1, 2] = True
    self.assertTrue(changed[expected].any())
    self.assertFalse(changed[~expected].any())

  def test_the_type_is_kept_and_statistics_are_float32(self):
    x = (300 + clip(channels=4)).astype(jnp.bfloat16)
    found = layers.Norm('group', 2, affine=False).apply({}, x)
    self.assertEqual(found.dtype, jnp.bfloat16)
    self.assertLess(abs(float(np.float32(found).mean())), 0.02)

  def test_wrong_settings_are_refused(self):
    x = clip(channels=4)
    with self.assertRaisesRegex(ValueError, "'batch'"):
      layers.Norm('batch').init(jax.random.key(0), x)
    with self.assertRaisesRegex(ValueError, '4 channels.*3 groups'):
      layers.Norm('group', 3).init(jax.random.key(0), x)


class BlocksTest(parameterized.TestCase):

  @parameterized.parameters('group', 'position')
  def test_an_adaptive_norm_starts_as_a_norm(self, kind):
    x, latents = clip(channels=4), clip(frames=3, height=2, width=4, seed=1)
    module = layers.AdaptiveNorm(kind, num_groups=2)
    found, params = module.init_with_output(jax.random.key(0), x, latents)
    np.testing.assert_array_equal(
        found, layers.Norm(kind, 2, affine=False).apply({}, x))
    # Once trained, frame i sees the latents of frame ceil(i / 4) alone.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    bumped = latents.copy()
    bumped[:, 1] += 1 + np.arange(3)
    changed = np.any(
        np.asarray(module.apply(params, x, bumped)) !=
        np.asarray(module.apply(params, x, latents)), axis=(0, 2, 3, 4))
    self.assertEqual(np.flatnonzero(changed).tolist(), [1, 2, 3, 4])

  def test_a_residual_block_starts_as_its_shortcut(self):
    x = clip(channels=4)
    found, _ = layers.ResidualBlock(4, num_groups=2).init_with_output(
        jax.random.key(0), x)
    np.testing.assert_array_equal(found, x)


if __name__ == '__main__':
  absltest.main()
