"""The whole denoiser against NumPy, with every condition, at a tiny size."""
import dataclasses
import functools

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import numpy as np

from tests.models import numpy_denoiser
from walt_jax.core import types
from walt_jax.models import denoiser as denoiser_lib

ROWS, FRAMES, SIZE, CHANNELS = 3, 3, 4, 2
SHAPE = (FRAMES, SIZE, SIZE, CHANNELS)
TEXT = 5
BASE = dict(
    width=12, depth=4, num_heads=2, mlp_width=16, patch=1,
    spatial_window=(1, 2, 4), spacetime_window=(3, 2, 2), num_classes=4,
    text_width=TEXT)
UPSCALER = dict(
    width=12, depth=2, num_heads=3, mlp_width=16, patch=2,
    spatial_window=(1, 2, 2), spacetime_window=(3, 2, 1), text_width=TEXT,
    text_window='own', low_res_factor=2, use_noise_level=True,
    linear_skip=True, lora_rank=0, use_qk_norm=False, use_relative_bias=False,
    activation='relu2')


class Speed(nn.Module):
  """A condition that modulates."""
  width: int
  column, shape, null, drop_probability = 'speed', (), 0.5, 0.1

  @nn.compact
  def __call__(self, value):
    return nn.Dense(self.width, name='dense')(value[..., None])


class Places(nn.Module):
  """A condition of two tokens."""
  width: int
  column, shape, null, drop_probability = 'places', (2, 3), 0.0, 0.1

  @nn.compact
  def __call__(self, value):
    return nn.Dense(self.width, name='dense')(value)


# Conditions of all rows, by name of the case.
CASES = {
    # Videos and a row of images; one condition of each kind a frame.
    'joint': (BASE, FRAMES, (
        'label', 'text', 'self_cond', 'frame_cond', 'is_image')),
    # Videos alone, with nothing said of them: null values.
    'nothing': (BASE, 1, ()),
    'super_resolution': (UPSCALER, 1, (
        'text', 'self_cond', 'frame_cond', 'low_res')),
    'own': (BASE | dict(text_width=0, frame_condition=False,
                        self_condition=False, conditions=(Speed, Places)),
            1, ('label', 'own')),
}


def make(case: str):
  """The model, parameters without zeros, and the inputs of a batch."""
  options, num_conditions, given = CASES[case]
  random = np.random.default_rng(3)
  normal = lambda *shape: random.standard_normal(shape).astype(np.float32)
  model = denoiser_lib.Denoiser(**options)
  shapes = jax.eval_shape(
      model.init, jax.random.key(0), np.zeros((1, *SHAPE)), np.ones((1, 1)),
      types.Conditioning())['params']
  params = jax.tree_util.tree_map_with_path(
      lambda path, leaf: (path[-1].key == 'scale') + (
          leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 0.5) * normal(
              *leaf.shape), shapes)

  rows = (ROWS, num_conditions)
  mask = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], np.float32)
  values = dict(
      label=dict(label=random.integers(0, 5, rows)),
      text=dict(text=normal(*rows, 3, TEXT),
                text_mask=random.random((*rows, 3)) < 0.6),
      self_cond=dict(self_cond=normal(ROWS, *SHAPE)),
      frame_cond=dict(
          frame_mask=mask,
          frame_cond=mask[..., None, None, None] * normal(ROWS, *SHAPE)),
      is_image=dict(is_image=np.array([False, True, False])),
      low_res=dict(
          low_res=normal(ROWS, FRAMES, SIZE // 2, SIZE // 2, CHANNELS),
          low_res_level=random.random(rows).astype(np.float32)),
      own=dict(
          own=dict(speed=normal(*rows), places=normal(*rows, 2, 3)),
          own_mask=dict(speed=np.array([[True], [False], [True]]))))
  conditioning = types.Conditioning(**functools.reduce(
      lambda a, b: a | b, (values[name] for name in given), {}))
  x_t, timestep = normal(ROWS, *SHAPE), random.random(rows, np.float32)
  return model, params, x_t, timestep, conditioning


def reference(model, params, x_t, timestep, conditioning) -> np.ndarray:
  """The same in NumPy, a row after the other."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  settings = numpy_denoiser.Settings(
      model.spatial_window, model.spacetime_window, model.patch,
      model.low_res_factor, own_text_window=model.text_window == 'own',
      activation=model.activation, frames=model.frame_condition,
      self_condition=model.self_condition, linear_skip=model.linear_skip)
  plain = {field.name: getattr(conditioning, field.name)
           for field in dataclasses.fields(conditioning)
           if field.name not in ('own', 'own_mask')}
  found = []
  for b in range(ROWS):
    values = {name: np.asarray(value[b]) for name, value in plain.items()
              if value is not None}
    if conditioning.own:
      # A null speed is 0.5; every row has places.
      speed = np.where(conditioning.own_mask['speed'][b],
                       conditioning.own['speed'][b], 0.5)
      dense = params['condition_speed']['dense']
      values['vectors'] = speed[:, None] @ dense['kernel'] + dense['bias']
      dense = params['condition_places']['dense']
      values['tokens'] = (
          conditioning.own['places'][b] @ dense['kernel'] + dense['bias'])
    found.append(numpy_denoiser.denoise(
        params, settings, numpy_denoiser.Row(x_t[b], timestep[b], **values)))
  return np.stack(found)


class ReferenceTest(parameterized.TestCase):

  @parameterized.named_parameters((name, name) for name in CASES)
  def test_equals_numpy(self, case):
    model, params, x_t, timestep, conditioning = make(case)
    call = jax.jit(model.apply, compiler_options={
        'xla_backend_optimization_level': 0,
        'xla_llvm_disable_expensive_passes': True})
    found = np.asarray(call({'params': params}, x_t, timestep, conditioning))
    expected = reference(model, params, x_t, timestep, conditioning)
    self.assertGreater(expected.std(), 0.1)
    np.testing.assert_allclose(
        found, expected, atol=3e-5 * np.abs(expected).max())


if __name__ == '__main__':
  absltest.main()
