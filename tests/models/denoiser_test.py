"""Properties of the whole denoiser, small."""
import dataclasses
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.core import types
from walt_jax.models import blocks
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import interpolate
from walt_jax.models import super_resolution

B, T, SIZE, C = 2, 5, 4, 3
SHAPE = (B, T, SIZE, SIZE, C)
TEXT = 6
SMALL = dict(width=16, depth=4, num_heads=2, mlp_width=32, patch=1,
             spatial_window=(1, 4, 4), spacetime_window=(5, 2, 2))
JOINT = dict(SMALL, num_classes=4, text_width=TEXT)
IS_IMAGE = (True, False)


# Compiling is what these tests spend their time on.
QUICK = {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True}
jit = functools.partial(jax.jit, compiler_options=QUICK)


@functools.cache
def build(**options):
  """A model, random parameters without zeros, and a jitted call."""
  model = denoiser_lib.Denoiser(**options)
  shapes = jax.eval_shape(
      model.init, jax.random.key(0), np.zeros(SHAPE), np.ones((B, 1)),
      types.Conditioning())
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    centre = 1.0 if path[-1].key == 'scale' else 0.0
    deviation = 1 / np.sqrt(leaf.shape[-2]) if leaf.ndim > 1 else 0.2
    draw = centre + deviation * rng.standard_normal(leaf.shape)
    return draw.astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(fill, shapes)
  call = jit(model.apply)
  return model, variables, lambda *args: np.asarray(call(*args))


def inputs(num_conditions=1):
  rng = np.random.default_rng(2)
  rows = (B, num_conditions)
  conditioning = types.Conditioning(
      label=rng.integers(0, 4, rows),
      text=rng.standard_normal((*rows, 3, TEXT), np.float32),
      text_mask=np.broadcast_to([True, True, False], (*rows, 3)))
  return (rng.standard_normal(SHAPE, np.float32),
          rng.random(rows, np.float32), conditioning)


def put(leaf, index, value):
  """A copy of `leaf` with one part replaced."""
  leaf = leaf.copy()
  leaf[index] = value
  return leaf


def add(leaf, index, value=1.0):
  return put(leaf, index, leaf[index] + value)


class LinearSkipTest(absltest.TestCase):

  @pytest.mark.slow
  def test_output_gains_the_gated_inputs_and_nothing_else(self):
    options = dict(SMALL, low_res_factor=2)
    _, params, apply = build(**options, linear_skip=True)
    x, timestep, _ = inputs()
    low = np.random.default_rng(3).standard_normal(
        (B, T, SIZE // 2, SIZE // 2, C), np.float32)
    conditioning = types.Conditioning(low_res=low)
    with_skip = apply(params, x, timestep, conditioning)

    shared = dict(params['params'])
    gates = shared.pop('skip_gates')
    gates = dict(kernel=np.zeros_like(gates['kernel']),
                 bias=np.arange(1, 2 * C + 1, dtype=np.float32))
    upscaled = super_resolution.LatentUpscaler(2).apply(
        {'params': shared['low_res_upscaler']}, low)
    given = apply({'params': shared | {'skip_gates': gates}}, x, timestep,
                  conditioning)
    plain = build(**options)[2]({'params': shared}, x, timestep, conditioning)
    np.testing.assert_allclose(
        given, plain + [1, 2, 3] * x + [4, 5, 6] * np.asarray(upscaled),
        rtol=1e-4, atol=1e-4)
    self.assertGreater(np.abs(with_skip - given).max(), 1e-2)


class JointTrainingTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    _, self.params, self.apply = build(**JOINT)
    self.x, self.timestep, conditioning = inputs(num_conditions=T)
    self.conditioning = conditioning.replace(
        is_image=np.asarray(IS_IMAGE),
        self_cond=np.random.default_rng(7).standard_normal(SHAPE, np.float32))

  def change(self, x=None, timestep=None, **conditions):
    """Which frames [B, T] of the output a change of the input moves."""
    before = self.apply(
        self.params, self.x, self.timestep, self.conditioning)
    after = self.apply(
        self.params, self.x if x is None else x,
        self.timestep if timestep is None else timestep,
        self.conditioning.replace(**conditions))
    return np.abs(after - before).max((2, 3, 4)) > 0

  @parameterized.parameters(0, 3)
  def test_images_of_a_row_do_not_see_each_other(self, image):
    expected = np.zeros((B, T), bool)
    expected[0, image] = True
    conditioning = self.conditioning
    for name, changed in dict(
        pixels=self.change(x=add(self.x, (0, image))),
        one_cell=self.change(x=add(self.x, (0, image, 0, 0))),
        timestep=self.change(timestep=put(self.timestep, (0, image), .77)),
        label=self.change(label=put(conditioning.label, (0, image), 4)),
        text=self.change(text=add(conditioning.text, (0, image))),
        mask=self.change(
            text_mask=put(conditioning.text_mask, (0, image, 1), False)),
        self_cond=self.change(
            self_cond=add(conditioning.self_cond, (0, image)))).items():
      np.testing.assert_array_equal(changed, expected, err_msg=name)

  def test_frames_of_a_video_see_each_other_and_no_image(self):
    expected = np.zeros((B, T), bool)
    expected[1] = True
    np.testing.assert_array_equal(
        self.change(x=add(self.x, (1, 3))), expected)

  def test_masked_text_has_no_influence(self):
    changed = self.change(
        text=add(self.conditioning.text, (slice(None), slice(None), 2), 9.0))
    self.assertFalse(changed.any())

  def test_order_of_images_does_not_matter(self):
    order = np.asarray([3, 0, 4, 2, 1])
    permute = lambda leaf: put(leaf, 0, leaf[0, order])
    conditioning = self.conditioning.replace(
        label=permute(self.conditioning.label),
        text=permute(self.conditioning.text),
        self_cond=permute(self.conditioning.self_cond))
    out = self.apply(
        self.params, permute(self.x), permute(self.timestep), conditioning)
    expected = permute(self.apply(
        self.params, self.x, self.timestep, self.conditioning))
    np.testing.assert_allclose(out, expected, atol=1e-5)

  def test_a_video_row_is_the_same_beside_images_or_alone(self):
    video = lambda leaf: leaf[1:, :1]
    alone = self.apply(
        self.params, self.x[1:], video(self.timestep),
        types.Conditioning(
            label=video(self.conditioning.label),
            text=video(self.conditioning.text),
            text_mask=video(self.conditioning.text_mask),
            self_cond=self.conditioning.self_cond[1:]))
    spread = lambda leaf: put(leaf, 1, leaf[1, :1])
    beside = self.apply(
        self.params, self.x, spread(self.timestep),
        self.conditioning.replace(
            label=spread(self.conditioning.label),
            text=spread(self.conditioning.text)))
    np.testing.assert_allclose(beside[1:], alone, atol=1e-5)

  @pytest.mark.slow
  def test_a_batch_of_images_equals_an_image_model(self):
    """One that was built for one frame and attends inside frames alone."""
    _, variables, apply = build(**JOINT)
    image_model = denoiser_lib.Denoiser(
        **JOINT | dict(spacetime_window=(1, 1, 1)))
    shapes = jax.eval_shape(
        image_model.init, jax.random.key(0), np.zeros((1, 1, *SHAPE[2:])),
        np.ones((1, 1)), types.Conditioning())
    # The first frame's time embedding; of one token's window no bias matters.
    params = interpolate.fit_positions(variables['params'], shapes['params'])
    conditioning = self.conditioning.replace(is_image=np.ones(B, bool))
    out = apply(variables, self.x, self.timestep, conditioning)
    single = lambda leaf: leaf.reshape(B * T, 1, *leaf.shape[2:])
    alone = jit(image_model.apply)(
        {'params': params}, single(self.x), single(self.timestep),
        types.Conditioning(
            label=single(conditioning.label), text=single(conditioning.text),
            text_mask=single(conditioning.text_mask),
            self_cond=single(conditioning.self_cond)))
    np.testing.assert_allclose(out, alone.reshape(SHAPE), atol=2e-5)


class ExecutionTest(parameterized.TestCase):

  def test_scan_equals_a_loop_over_the_stacked_parameters(self):
    model, params, apply = build(**JOINT)
    args = inputs()
    options = blocks.LayerOptions(
        width=16, num_heads=2, mlp_width=32, spatial_window=(1, 4, 4),
        spacetime_window=(5, 2, 2), text_window='spatial', lora_rank=2,
        use_text=True, use_qk_norm=True, use_relative_bias=True,
        activation='gelu', attention_form='xla', passes_form='plain',
        flat_products=False, keeps_activation=False, dtype=jnp.float32)

    class Looped(denoiser_lib.Denoiser):

      def _layers(self, x, context, order):
        del order
        stacked = self.variables['params']['layers']
        for pair in range(self.depth // 2):
          own = jax.tree.map(lambda leaf, i=pair: leaf[i], stacked)
          for name in ('spatial', 'spacetime'):
            layer = blocks.Layer(
                options, is_spacetime=name == 'spacetime', parent=None)
            x = layer.apply({'params': own[name]}, x, context)
        return x

    looped = Looped(**{
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in ('parent', 'name')})
    np.testing.assert_allclose(
        jit(looped.apply)(params, *args), apply(params, *args), atol=2e-5)

  def test_layers_are_traced_once(self):
    # Of a width that no other test's model has.
    model = denoiser_lib.Denoiser(**SMALL | dict(mlp_width=40))
    with mock.patch.object(
        blocks.passes, 'norm', side_effect=blocks.passes.norm) as norm:
      jax.eval_shape(model.init, jax.random.key(0), np.zeros(SHAPE),
                     np.ones((B, 1)), types.Conditioning())
    self.assertEqual(norm.call_count, 2)  # Spatial and spatiotemporal.

  @parameterized.parameters(
      dict(remat_policy='full'), dict(remat_policy='minimal', scan_unroll=2))
  @pytest.mark.slow
  def test_execution_changes_neither_value_nor_gradient(self, **options):
    _, params, _ = build(**SMALL)
    x, timestep, _ = inputs()

    def value_and_grad(**options):
      model = denoiser_lib.Denoiser(**SMALL, **options)
      loss = lambda p: jnp.square(
          model.apply(p, x, timestep, types.Conditioning())).mean()
      return jit(jax.value_and_grad(loss))(params)

    if not hasattr(ExecutionTest, 'plain'):
      ExecutionTest.plain = value_and_grad()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-3),
        value_and_grad(**options), ExecutionTest.plain)

  @pytest.mark.slow
  def test_bfloat16_is_near_float32(self):
    _, params, apply = build(**JOINT)
    args = inputs()
    exact = apply(params, *args)
    model = denoiser_lib.Denoiser(**JOINT, dtype=jnp.bfloat16)
    rough = jit(model.apply)(params, *args)
    self.assertEqual(rough.dtype, jnp.float32)
    error = np.sqrt(np.square(rough - exact).mean())
    self.assertLess(float(error / exact.std()), 0.03)


class ConditionsTest(parameterized.TestCase):

  def with_all_conditions(self):
    """A model of all conditions, its inputs, and null values of them all."""
    options = dict(JOINT, low_res_factor=2, use_noise_level=True)
    _, params, apply = build(**options)
    x, timestep, conditioning = inputs()
    null = types.Conditioning(
        label=np.full((B, 1), 4),
        text=conditioning.text, text_mask=np.zeros((B, 1, 3), bool),
        self_cond=np.zeros(SHAPE), frame_cond=np.zeros(SHAPE),
        frame_mask=np.zeros((B, T)), low_res_level=np.zeros((B, 1)),
        low_res=np.zeros((B, T, 2, 2, C)), is_image=np.zeros(B, bool))
    return functools.partial(apply, params, x, timestep), conditioning, null

  def test_absent_conditions_are_null_ones(self):
    call, _, null = self.with_all_conditions()
    np.testing.assert_allclose(
        call(types.Conditioning()), call(null), atol=1e-5)

  @parameterized.parameters(
      'label', 'text', 'self_cond', 'frame_cond', 'frame_mask', 'low_res',
      'low_res_level')
  def test_every_condition_is_seen(self, name):
    call, conditioning, null = self.with_all_conditions()
    values = dict(
        label=conditioning.label, text_mask=conditioning.text_mask,
        self_cond=np.ones(SHAPE), frame_cond=np.ones(SHAPE),
        frame_mask=np.ones((B, T)), low_res=np.ones((B, T, 2, 2, C)),
        low_res_level=np.full((B, 1), 0.2))
    changed = 'text_mask' if name == 'text' else name
    difference = call(null.replace(**{changed: values[changed]})) - call(null)
    self.assertTrue(np.all(np.abs(difference).max((1, 2, 3, 4)) > 1e-4))

  def test_a_condition_that_the_model_lacks_is_refused(self):
    _, params, apply = build(**SMALL)
    x, timestep, conditioning = inputs()
    with self.assertRaisesRegex(ValueError, 'built without label'):
      apply(params, x, timestep, conditioning)

  @pytest.mark.slow
  def test_own_windows_of_text_attention(self):
    options = dict(JOINT, text_window='own')
    _, params, apply = build(**options)
    _, spatial_params, spatial = build(**JOINT)
    self.assertEqual(*map(jax.tree.structure, (params, spatial_params)))
    args = inputs()
    self.assertGreater(
        float(np.abs(apply(params, *args) - spatial(params, *args)).max()),
        1e-3)
    with self.assertRaisesRegex(ValueError, '5 texts'):
      apply(params, *inputs(num_conditions=T))

  @parameterized.parameters(
      (dict(depth=3), 'depth'), (dict(num_heads=3), 'num_heads'),
      (dict(patch=3), 'patch 3'), (dict(activation='tanh'), 'tanh'),
      (dict(spacetime_window=(5, 3, 3)), r'\(5, 3, 3\)'),
      (dict(remat_policy='some'), 'some'),
      (dict(attention_form='fast'), 'fast'),
      (dict(text_window='wide'), 'wide'), (dict(low_res_factor=3), '3'))
  def test_settings_that_do_not_fit_are_refused(self, options, message):
    model = denoiser_lib.Denoiser(**{**SMALL, **options})
    with self.assertRaisesRegex(ValueError, message):
      jax.eval_shape(model.init, jax.random.key(0), np.zeros(SHAPE),
                     np.ones((B, 1)), types.Conditioning())


class Speed(nn.Module):
  """One number that modulates."""
  width: int
  column, shape, null, drop_probability = 'speed', (), 0.5, 0.1

  @nn.compact
  def __call__(self, value):
    return nn.Dense(self.width)(value[..., None])


class Words(Speed):
  """Two tokens of three numbers each."""
  column, shape = 'words', (2, 3)

  @nn.compact
  def __call__(self, value):
    return nn.Dense(self.width)(value)


class Wrong(Speed):

  def __call__(self, value):
    return value


class OwnConditionTest(parameterized.TestCase):

  @parameterized.parameters(
      (Speed, SMALL), (Words, SMALL), (Words, JOINT), (Speed, JOINT))
  def test_it_is_seen_and_left_out(self, condition, options):
    both = (Speed, Words)
    model, variables, call = build(**options, conditions=both)
    x, timestep, conditioning = inputs()
    if 'text_width' not in options:
      conditioning = types.Conditioning()
    own = {one.column: np.full((B, 1, *one.shape), one.null, np.float32)
           for one in both}
    own[condition.column][0] = np.random.default_rng(3).standard_normal(
        (1, *condition.shape))
    seen = call(variables, x, timestep, conditioning.replace(own=own))
    absent = call(variables, x, timestep, conditioning)
    self.assertGreater(np.abs(seen[0] - absent[0]).max(), 1e-3)
    np.testing.assert_allclose(seen[1], absent[1], atol=1e-5)
    hidden = {one.column: np.zeros((B, 1), bool) for one in both}
    masked = call(variables, x, timestep, conditioning.replace(
        own=own, own_mask=hidden))
    np.testing.assert_allclose(masked, absent, atol=1e-5)

  def test_parameters_of_the_others_stay_where_they_are(self):
    _, plain, _ = build(**JOINT)
    _, own, _ = build(**JOINT, conditions=(Speed, Words))
    added = set(own['params']) - set(plain['params'])
    self.assertEqual(added, {'condition_speed', 'condition_words'})
    shapes = lambda tree: jax.tree.map(np.shape, tree)
    self.assertEqual(shapes(plain['params']), {
        name: leaf for name, leaf in shapes(own['params']).items()
        if name not in added})

  def test_what_does_not_fit_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Wrong embeds speed as'):
      build(**SMALL, conditions=(Wrong,))
    model, variables, _ = build(**SMALL)
    with self.assertRaisesRegex(ValueError, 'built without speed'):
      model.apply(variables, np.zeros(SHAPE), np.ones((B, 1)),
                  types.Conditioning(own=dict(speed=np.ones((B, 1)))))


class LowRankTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_full_rank_equals_one_mlp_a_layer(self):
    """W_1 + W_b W_a with W_a = 1 and W_b = W_i - W_1 is any W_i."""
    _, separate, apply_separate = build(**SMALL, lora_rank=0)
    model, low_rank, apply_low_rank = build(**SMALL, lora_rank=16)
    own = {name: layer['modulation'] for name, layer
           in separate['params']['layers'].items()}
    params = {**separate['params'],
              'modulation': low_rank['params']['modulation']}
    shared = params['modulation']
    params['layers'] = {}
    for name, layer in separate['params']['layers'].items():
      # The bias is shared: A_1's is the only one.
      layer = dict(layer)
      layer['modulation'] = dict(
          down=dict(kernel=np.broadcast_to(np.eye(16), (2, 16, 16))),
          up=dict(kernel=own[name]['kernel'] - shared['kernel']))
      params['layers'][name] = layer
      own[name]['bias'] = np.broadcast_to(
          shared['bias'], own[name]['bias'].shape)
    x, timestep, _ = inputs()
    np.testing.assert_allclose(
        apply_low_rank({'params': params}, x, timestep, types.Conditioning()),
        apply_separate(separate, x, timestep, types.Conditioning()),
        atol=1e-4)
    del model


if __name__ == '__main__':
  absltest.main()
