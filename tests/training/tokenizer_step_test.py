"""Tests of the tokenizer's train step."""
import dataclasses
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.e2e import tiny
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import discriminator
from walt_jax.tokenizer import feature_discriminator
from walt_jax.training import guard
from walt_jax.training import tokenizer_step

MODULE = autoencoder.Autoencoder(
    base_channels=8, channel_multipliers=(1,), time_downsample=(),
    blocks_per_level=1, middle_blocks=0, latent_channels=3,
    norm='position', adaptive_decoder=False, stem_patch=(4, 4, 4),
    stem_kernel=(1, 1, 1), head_kernel=(1, 1, 1), conv_form='stacked')
SMALL = dict(base_channels=4, channel_multipliers=(1,),
             time_downsample=(True,))
DISCRIMINATORS = {
    'videos': discriminator.Discriminator(kind='video', **SMALL),
    'images': discriminator.Discriminator(kind='image', **SMALL)}
# One step of it moves parameters by minus the gradient exactly.
OPTIMIZER = optax.sgd(1.0)
KEY = jax.random.key(0)
WEIGHT = 0.1
LECAM = 0.5
# Moving averages of the logits before the step.
ANCHORS = {'real': 0.6, 'fake': -0.9}


def _jit(function):
  """Compiles in half the time; the programs run in milliseconds anyhow."""
  return jax.jit(function,
                 compiler_options={'xla_backend_optimization_level': 0})


def _pixels(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _batch(images=True):
  return types.Batch(
      videos=types.Rows(pixels=_pixels(2, 5, 8, 8, 3)),
      images=types.Rows(pixels=_pixels(1, 2, 8, 8, 3)) if images else None)


def _random_state(module=MODULE, discriminators=None, step=0):
  """The state that `create_state` shapes, with random parameters."""
  state = jax.eval_shape(lambda key: tokenizer_step.create_state(
      key, module, OPTIMIZER, discriminators=discriminators,
      discriminator_optimizer=OPTIMIZER, ema_decays=(0.9,),
      clip_shape=(5, 8, 8)), KEY)
  rng = np.random.default_rng(1)
  draw = lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
  params = jax.tree.map(draw, state.params)
  extra = dict(zeros.extra)
  if discriminators:
    extra['lecam'] = {kind: {side: np.float32(mean)
                             for side, mean in ANCHORS.items()}
                      for kind in discriminators}
  return zeros.replace(step=jnp.asarray(step), params=params, extra=extra,
                       ema={'0.9': params['autoencoder']})


@functools.cache
def _plain_step():
  return _jit(tokenizer_step.make_tokenizer_step(
      MODULE, tokenizer_step.TokenizerLosses(), OPTIMIZER))


@functools.cache
def _gan_step():
  """Videos and images."""
  losses = tokenizer_step.TokenizerLosses(
      adversarial_weight=WEIGHT, lecam_weight=LECAM)
  return _jit(tokenizer_step.make_tokenizer_step(
      MODULE, losses, OPTIMIZER, discriminators=DISCRIMINATORS,
      discriminator_optimizer=OPTIMIZER))


@jax.jit
def _decode(params, clip):
  return MODULE.apply({'params': params}, clip)[0]


def _clips():
  scale = lambda x: jnp.asarray(x, jnp.float32) / 127.5 - 1.0
  return {'videos': scale(_pixels(2, 5, 8, 8, 3)),
          'images': scale(_pixels(1, 2, 8, 8, 3)).reshape(2, 1, 8, 8, 3)}


def _moved(side, logits):
  """The moving average after a step that saw these logits."""
  return 0.999 * ANCHORS[side] + 0.001 * jax.lax.stop_gradient(logits.mean())


def _lecam(real, fake):
  """Each side may leave the other's average behind, not run away from it."""
  above = jnp.maximum(real - _moved('fake', fake), 0)
  below = jnp.maximum(_moved('real', real) - fake, 0)
  return jnp.mean(above ** 2) + jnp.mean(below ** 2)


def _logits(params, clips):
  return {kind: DISCRIMINATORS[kind].apply({'params': params[kind]},
                                           clips[kind]) for kind in clips}


@_jit
def _reference_gradients(params):
  """Each player's gradient by itself, the other one a constant."""
  clips = _clips()
  share = {'videos': 5 / 6, 'images': 1 / 6}  # 10 frames, and 2.

  def generator(autoencoder_params):
    decoded = {k: _decode(autoencoder_params, x) for k, x in clips.items()}
    fake = _logits(params['discriminator'], decoded)
    return sum(share[k] * (
        jnp.abs(decoded[k] - clips[k]).mean() +
        WEIGHT * jax.nn.softplus(-fake[k]).mean()) for k in clips)

  def critic(discriminator_params):
    real = _logits(discriminator_params, clips)
    fake = _logits(discriminator_params, {
        k: _decode(params['autoencoder'], x) for k, x in clips.items()})
    return sum(jax.nn.softplus(-real[k]).mean() +
               jax.nn.softplus(fake[k]).mean() +
               LECAM * _lecam(real[k], fake[k]) for k in clips)

  return {'autoencoder': jax.grad(generator)(params['autoencoder']),
          'discriminator': jax.grad(critic)(params['discriminator'])}


def _assert_close(a, b, atol=1e-5):
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=atol,
                                 rtol=1e-4), a, b)


def _config(variant, *overrides):
  return schema.of(config_lib.load(
      f'{tiny.ROOT}/configs/tokenizer_video.py:{variant}', overrides))


class TokenizerStepTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_each_player_follows_its_own_gradient(self):
    state = _random_state(discriminators=DISCRIMINATORS, step=1)
    after, metrics = _gan_step()(state, _batch(), KEY)
    moved = jax.tree.map(lambda old, new: old - new, state.params,
                         after.params)
    _assert_close(moved, _reference_gradients(state.params))
    _assert_close(after.ema['0.9'], jax.tree.map(
        lambda new, old: 0.1 * new + 0.9 * old,
        after.params['autoencoder'], state.params['autoencoder']))
    for name in ('logit_gap', 'image_logit_gap', 'discriminator_accuracy',
                 'discriminator_grad_norm', 'adversarial', 'psnr',
                 'image_psnr', 'grad_norm', 'loss'):
      self.assertTrue(np.isfinite(metrics[name]), name)
    self.assertAlmostEqual(float(metrics['adversarial_weight']), WEIGHT)
    clips = _clips()
    judged = dict(
        real=_logits(state.params['discriminator'], clips),
        fake=_logits(state.params['discriminator'], {
            kind: _decode(state.params['autoencoder'], clip)
            for kind, clip in clips.items()}))
    for kind, sides in after.extra['lecam'].items():
      for side, mean in sides.items():
        self.assertAlmostEqual(
            float(mean), float(_moved(side, judged[side][kind])), 5)

  @pytest.mark.slow
  def test_a_step_without_discriminators_leaves_those_of_the_state(self):
    state = _random_state(discriminators=DISCRIMINATORS)
    after, _ = _plain_step()(state, _batch(), KEY)
    for name in ('params', 'opt_state'):
      jax.tree.map(np.testing.assert_array_equal,
                   getattr(state, name)['discriminator'],
                   getattr(after, name)['discriminator'])
    jax.tree.map(np.testing.assert_array_equal, state.extra, after.extra)
    alone = _random_state().replace(
        params={'autoencoder': state.params['autoencoder']})
    alone, _ = _plain_step()(alone, _batch(), KEY)
    self.assertEqual(set(alone.params), {'autoencoder'})
    _assert_close(alone.params['autoencoder'], after.params['autoencoder'])

  @pytest.mark.slow
  def test_a_config_chooses_feature_maps(self):
    config = _config('ucf101_small')
    _, stage = tokenizer_runs.bare_stage(config, 'cpu')
    self.assertIn('stem', stage.frozen)  # EfficientNet's, for a GAN alone.
    state = jax.eval_shape(stage.init, KEY)
    sources = [state.params['discriminator']['videos'][f'source_{index}']
               ['kernel'].shape[-2] for index in range(4)]
    self.assertEqual(sources, [4 * 4 * 3, 2 * 2 * 16, 24, 40])
    batch = types.Batch(videos=types.Rows(pixels=jax.ShapeDtypeStruct(
        (4, 5, 64, 64, 3), jnp.uint8)))
    _, metrics = jax.eval_shape(stage.train_step, state, batch, KEY,
                                stage.frozen)
    self.assertIn('discriminator_accuracy', metrics)
    self.assertNotIn('perceptual', metrics)
    for change in (dict(height=68), dict(buckets=((64, 64), (64, 68)))):
      changed = dataclasses.replace(
          config, data=dataclasses.replace(config.data, **change))
      with self.assertRaisesRegex(errors.UserError, '17.* cells; train on'):
        tokenizer_runs.bare_stage(changed, 'cpu')

  @pytest.mark.slow
  def test_a_run_begins_without_its_discriminators(self):
    config = _config('smoke', ('losses.adversarial_start', '2'))
    _, stage = tokenizer_runs.bare_stage(config, 'cpu')
    state = jax.eval_shape(stage.init, KEY)
    batch = types.Batch(videos=types.Rows(pixels=jax.ShapeDtypeStruct(
        (2, 9, 32, 32, 3), jnp.uint8)))

    def judges(step):
      chosen = stage.at_step(step).train_step
      _, metrics = jax.eval_shape(chosen, state, batch, KEY, stage.frozen)
      return 'discriminator_accuracy' in metrics

    self.assertEqual([judges(step) for step in range(4)],
                     [False, False, True, True])

  @pytest.mark.slow
  def test_a_discriminator_judges_features_of_both_sides(self):
    module = feature_discriminator.FeatureDiscriminator(
        base_channels=4, feature_maps=1)
    weights = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    features = lambda w, x: [x[:, ::2, ::2] @ w, x[:, ::4, ::4] @ w]
    shapes = lambda size: [(size[0] // 2, size[1] // 2, 6)]
    state = jax.jit(lambda: tokenizer_step.create_state(
        KEY, MODULE, OPTIMIZER, discriminators={'videos': module},
        discriminator_optimizer=OPTIMIZER, clip_shape=(5, 8, 8),
        map_shapes=shapes))()
    step = _jit(tokenizer_step.make_tokenizer_step(
        MODULE, tokenizer_step.TokenizerLosses(
            adversarial_weight=WEIGHT, lecam_weight=0.0), OPTIMIZER,
        discriminators={'videos': module}, discriminator_optimizer=OPTIMIZER,
        features=features))
    after, _ = step(state, _batch(images=False), KEY, weights)
    moved = jax.tree.map(lambda old, new: old - new, state.params,
                         after.params)
    real = _clips()['videos']

    def judge(params, clips):
      maps = features(weights, clips.reshape(-1, 8, 8, 3))[0]
      return module.apply({'params': params['videos']}, clips,
                          [maps.reshape(2, 5, 4, 4, 6)])

    def generator(params):
      decoded = _decode(params, real)
      return jnp.abs(decoded - real).mean() + WEIGHT * jax.nn.softplus(
          -judge(state.params['discriminator'], decoded)).mean()

    def critic(params):
      decoded = _decode(state.params['autoencoder'], real)
      return (jax.nn.softplus(-judge(params, real)).mean() +
              jax.nn.softplus(judge(params, decoded)).mean())

    _assert_close(moved, {
        'autoencoder': _jit(jax.grad(generator))(state.params['autoencoder']),
        'discriminator': _jit(jax.grad(critic))(
            state.params['discriminator'])})

  @parameterized.parameters('autoencoder', 'discriminator')
  def test_the_guard_sees_either_player_fail(self, part):
    healthy = _random_state(discriminators=DISCRIMINATORS, step=1)
    _, metrics = _gan_step()(healthy, _batch(), KEY)
    self.assertTrue(guard.all_finite(metrics))
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan),
                          healthy.params[part])
    state = healthy.replace(params=healthy.params | {part: broken})
    _, metrics = _gan_step()(state, _batch(), KEY)
    self.assertFalse(guard.all_finite(metrics))

  @pytest.mark.slow
  def test_all_options_together(self):
    module = MODULE.clone(bottleneck='kl')
    videos = {'videos': DISCRIMINATORS['videos']}
    losses = tokenizer_step.TokenizerLosses(
        reconstruction='l2', kl_weight=0.1, perceptual_weight=0.5,
        perceptual_frames=2, adversarial='hinge', adaptive_weight=True,
        lecam_weight=0.1, r1_weight=1.0)
    step = _jit(tokenizer_step.make_tokenizer_step(
        module, losses, OPTIMIZER, discriminators=videos,
        discriminator_optimizer=OPTIMIZER,
        features=lambda params, x: [x @ params]))
    features = np.random.default_rng(2).normal(size=(3, 4))
    state = _random_state(module, videos)
    after, metrics = step(state, _batch(images=False), KEY,
                          features.astype(np.float32))
    for name, value in metrics.items():
      self.assertTrue(np.isfinite(value), name)
    for name in ('r1', 'perceptual', 'kl', 'reconstruction',
                 'adversarial_weight'):
      self.assertGreater(metrics[name], 0.0, name)
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()),
                         after.params, state.params)
    self.assertGreater(np.mean(jax.tree.leaves(moved)), 0.9)

  def test_reconstruction_improves(self):
    state, step = _random_state(), _plain_step()
    state = state.replace(params=jax.tree.map(lambda x: 0.5 * x,
                                              state.params))
    state, first = step(state, _batch(), KEY)
    for _ in range(20):
      state, metrics = step(state, _batch(), KEY)
    self.assertLess(metrics['reconstruction'], first['reconstruction'])
    self.assertEqual(int(state.step), 21)

  def test_missing_parts_are_named(self):
    losses = tokenizer_step.TokenizerLosses(perceptual_weight=1.0)
    with self.assertRaisesRegex(ValueError, 'features'):
      tokenizer_step.make_tokenizer_step(MODULE, losses, OPTIMIZER)
    with self.assertRaisesRegex(ValueError, 'discriminator_optimizer'):
      tokenizer_step.make_tokenizer_step(
          MODULE, tokenizer_step.TokenizerLosses(), OPTIMIZER,
          discriminators=DISCRIMINATORS)
    with self.assertRaisesRegex(ValueError, 'need features'):
      tokenizer_step.make_tokenizer_step(
          MODULE, tokenizer_step.TokenizerLosses(), OPTIMIZER,
          discriminators={
              'videos': feature_discriminator.FeatureDiscriminator()},
          discriminator_optimizer=OPTIMIZER)
    with self.assertRaisesRegex(ValueError, 'neither'):
      tokenizer_step.clips_of(types.Batch())


if __name__ == '__main__':
  absltest.main()
