"""FLOPs and parameters of denoisers: by hand, traced, and by part."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp

from walt_jax.core import types
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import flops
from walt_jax.planning import counting

TEXT_TOKENS = 6
TEXT_WIDTH = 12


def small(**fields):
  return denoiser_lib.Denoiser(**dict(
      width=16, depth=4, num_heads=4, mlp_width=40, patch=2,
      spatial_window=(1, 4, 4), spacetime_window=(3, 2, 2),
      use_relative_bias=False, frame_condition=False) | fields)


def paper(**fields):
  """L on UCF-101 (section 6), unless told otherwise."""
  return denoiser_lib.Denoiser(**dict(
      width=1024, depth=24, num_heads=16, mlp_width=4096, patch=1,
      spatial_window=(1, 16, 16), spacetime_window=(5, 8, 8), num_classes=101,
      frame_condition=False) | fields)


def shapes_of(model, latents):
  return jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros((1, *latents)),
      jnp.ones((1, 1)), types.Conditioning())['params']


class ForwardFlopsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('plain', {}, 1),
      ('patch_1', dict(patch=1, spatial_window=(1, 8, 8)), 1),
      ('frames', dict(frame_condition=True), 1),
      ('no_self_condition', dict(self_condition=False), 1),
      ('separate', dict(lora_rank=0), 1),
      ('joint', dict(num_classes=3), 3),
      ('text', dict(text_width=TEXT_WIDTH), 1),
      ('joint_text', dict(text_width=TEXT_WIDTH), 3),
      ('own_windows', dict(text_width=TEXT_WIDTH, text_window='own'), 1),
      ('low_res', dict(low_res_factor=2, use_noise_level=True), 1))
  def test_equals_what_is_traced(self, fields, num_conditions):
    model, latents = small(**fields), (3, 8, 8, 5)
    rows = (1, num_conditions)
    conditioning = types.Conditioning(
        label=jnp.zeros(rows, jnp.int32) if model.num_classes else None,
        text=(jnp.zeros((*rows, TEXT_TOKENS, TEXT_WIDTH))
              if model.text_width else None),
        text_mask=(jnp.ones((*rows, TEXT_TOKENS), bool)
                   if model.text_width else None),
        low_res_level=jnp.zeros(rows) if model.use_noise_level else None,
        is_image=jnp.zeros(1, bool) if num_conditions > 1 else None)
    inputs = jnp.zeros((1, *latents)), jnp.ones(rows), conditioning
    params = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    traced = counting.product_flops(model.apply, params, *inputs)
    counted = flops.forward_flops(
        model, latents, num_conditions=num_conditions,
        text_tokens=TEXT_TOKENS if model.text_width else 0)
    self.assertEqual(sum(counted.values()), traced)

  def test_paper_size_by_hand(self):
    parts = flops.forward_flops(paper(), (5, 16, 16, 8))
    # 1280 tokens; projections 4 x 1024 x 1024; 256 and 320 keys a token.
    self.assertEqual(parts['attention'], 12 * (
        2 * 10_737_418_240 + 1_342_177_280 + 1_677_721_600))
    self.assertEqual(parts['mlp'], 24 * 21_474_836_480)
    self.assertEqual(parts['patch_projection'], 2 * 1280 * 16 * 1024)
    self.assertEqual(parts['head'],
                     2 * 1024 * 2048 + 2 * 1280 * 1024 * 8)
    self.assertNotIn('cross_attention', parts)

  def test_parts_of_flops_are_parts_of_parameters(self):
    names = {name for name, _ in flops.PARTS}
    model = small(text_width=TEXT_WIDTH, low_res_factor=2,
                  use_noise_level=True, num_classes=2)
    self.assertLessEqual(
        set(flops.forward_flops(model, (3, 8, 8, 5), text_tokens=4)), names)


class PartsTest(parameterized.TestCase):
  """What a ViT-g spends on modulation (section 6), in millions."""

  @parameterized.parameters((0, 475, 0.01), (2, 12, 0.1))
  def test_modulation_of_a_vit_g(self, rank, millions, tolerance):
    shapes = shapes_of(
        paper(width=1408, depth=40, mlp_width=6144, lora_rank=rank),
        (5, 16, 16, 8))
    parts = counting.parameters_by_part(shapes, flops.PARTS)
    self.assertEqual(sum(parts.values()), counting.parameters(shapes))
    self.assertAlmostEqual(
        parts['modulation'] / 1e6 / millions, 1, delta=tolerance)


if __name__ == '__main__':
  absltest.main()
