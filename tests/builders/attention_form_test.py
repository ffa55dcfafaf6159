"""Forms of layers: the platform's own, or what a config asks for."""
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp

from walt_jax.builders import config as config_lib
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.core import types


def load(**overrides):
  return load_config('ucf101.py:smoke', *(
      (f'model.{key}', value) for key, value in overrides.items()))


def load_config(name, *overrides):
  return schema.of(config_lib.load(f'configs/{name}', overrides))


class AttentionFormTest(parameterized.TestCase):

  def test_what_a_config_asks_for(self):
    asked = dict(dtype='bfloat16', attention_form='cudnn')
    self.assertEqual(
        networks.denoiser(load(**asked), 'gpu').attention_form, 'cudnn')
    self.assertEqual(networks.denoiser(
        load(attention_form='xla'), 'gpu').attention_form, 'xla')
    self.assertEqual(
        networks.denoiser(load(dtype='bfloat16'), 'gpu').attention_form,
        'fused_gpu')

  @parameterized.parameters(('cpu', 'bfloat16'), ('gpu', 'float32'))
  def test_what_cannot_be_had(self, platform, dtype):
    with self.assertRaisesRegex(
        errors.UserError, f"'cudnn'.*{dtype} on a {platform}"):
      networks.denoiser(
          load(dtype=dtype, attention_form='cudnn'), platform)

  @parameterized.parameters(
      ('fused_gpu', 'cpu'), ('fused_gpu', 'tpu'), ('fused_tpu', 'cpu'),
      ('fused_tpu', 'gpu'))
  def test_kernels_of_another_platform(self, form, platform):
    with self.assertRaisesRegex(
        errors.UserError, f"'{form}'.*not on a {platform}.*=auto"):
      networks.denoiser(load(attention_form=form), platform)

  def test_passes_and_loop_are_the_platforms(self):
    own, asked = load(scan_unroll=0), load(scan_unroll=3, passes_form='plain')
    for platform, form in dict(cpu='plain', tpu='plain', gpu='triton').items():
      network = networks.denoiser(own, platform)
      self.assertEqual(network.passes_form, form)
      self.assertEqual(network.scan_unroll > 1, platform == 'gpu')
      network = networks.denoiser(asked, platform)
      self.assertEqual((network.passes_form, network.scan_unroll),
                       ('plain', 3))
    with self.assertRaisesRegex(errors.UserError, "'triton'.*not on a cpu"):
      networks.denoiser(load(passes_form='triton'), 'cpu')

  def test_the_gpu_form_is_traced_without_a_gpu(self):
    """cuDNN's is not: it asks for the library."""
    def trace(**model):
      network = networks.denoiser(load(dtype='bfloat16', **model), 'gpu')
      latents = jax.ShapeDtypeStruct((1, 5, 16, 16, 8), jnp.float32)
      timestep = jax.ShapeDtypeStruct((1, 1), jnp.float32)
      return jax.eval_shape(network.init, jax.random.key(0), latents,
                            timestep, types.Conditioning())

    self.assertIn('params', trace())
    with self.assertRaisesRegex(RuntimeError, 'cuDNN'):
      trace(attention_form='cudnn')

  def test_kernels_for_tpus_are_not_to_be_had_elsewhere(self):
    with self.assertRaisesRegex(errors.UserError, "'fused_tpu'.*not on a cpu"):
      networks.denoiser(load(attention_form='fused_tpu'), 'cpu')

  @parameterized.parameters(
      'ucf101.py', 'ucf101.py:l', 'k600.py', 'imagenet256.py', 't2v_base.py',
      't2v_base_9x16.py', 't2v_sr2.py')
  def test_configs_are_fused_on_a_tpu(self, name):
    with self.assertNoLogs('walt_jax'):
      denoiser = networks.denoiser(load_config(name), 'tpu')
    self.assertEqual(denoiser.attention_form, 'fused_tpu')

  def test_what_is_not_served_is_told(self):
    name, reason = 'ucf101.py:ablation_window_full', 'spacetime .* 1280 tokens'
    with self.assertLogs('walt_jax') as logs:
      networks.denoiser(load_config(name), 'tpu')
    self.assertRegex('\n'.join(logs.output), f'(?s)form xla.*{reason}|{reason}')

  def test_heads_whose_lanes_are_no_whole_tiles_are_served(self):
    with self.assertNoLogs('walt_jax'):  # 8 heads of 72.
      networks.denoiser(load_config('ucf101.py', ('mesh.tensor', '2')), 'tpu')

  @parameterized.parameters(
      ('ucf101.py:smoke', 'tpu', 'xla'), ('ucf101.py:smoke', 'gpu', 'xla'),
      ('ucf101.py:smoke', 'cpu', 'mapped'), ('ucf101.py', 'cpu', 'mapped'))
  def test_float32_and_a_cpu_have_forms_of_their_own(
      self, name, platform, form):
    denoiser = networks.denoiser(load_config(name), platform)
    self.assertEqual(denoiser.attention_form, form)
    self.assertEqual(denoiser.flat_products, platform == 'cpu')

  def test_a_loop_over_layers_keeps_products_on_a_cpu(self):
    overrides = [('model.remat_policy', 'none')]
    for depth, platform, policy in (
        ('4', 'cpu', 'matmuls'), ('2', 'cpu', 'none'), ('4', 'tpu', 'none')):
      config = load_config(
          'ucf101.py', *overrides, ('model.depth', depth),
          ('model.scan_unroll', '1'))
      self.assertEqual(
          networks.denoiser(config, platform).remat_policy, policy)


if __name__ == '__main__':
  absltest.main()
