"""One training step of the tokenizer and, with a GAN, its discriminators."""
from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from walt_jax.core import distances
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import ranges
from walt_jax.core import types
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.tokenizer import feature_discriminator
from walt_jax.tokenizer import losses
from walt_jax.tokenizer import statistics
from walt_jax.training import state as train_state

Metrics = dict[str, jax.Array]
Params = Any
TrainState = train_state.TrainState
# Images [N, H, W, 3] in [-1, 1] to feature maps, given frozen parameters.
FeatureFn = Callable[[Params, jax.Array], list[jax.Array]]
Discriminator = (discriminator_lib.Discriminator |
                 feature_discriminator.FeatureDiscriminator)
LECAM_DECAY = 0.999


@dataclasses.dataclass(frozen=True)
class TokenizerLosses:
  """What the tokenizer minimises.

  Attributes:
    reconstruction: Error of pixels in [-1, 1], of weight 1: 'l1' (absolute) or
      'l2' (squared). MAGVIT's are in [0, 1], where the squared error is a
      quarter: its weights, times 4, are these.
    kl_weight: Weight of the KL divergence ('kl' bottleneck).
    perceptual_weight: Weight of the perceptual distance; 0 for none.
    perceptual_frames: Frames of each clip that the perceptual distance is
      measured on, drawn anew each step.
    adversarial: Form of the adversarial loss: 'hinge' or 'non_saturating'.
    adversarial_weight: Weight of the adversarial loss (MAGVIT's 0.1 is 0.4
      here).
    adaptive_weight: Whether `adversarial_weight` is multiplied further, so that
      the adversarial gradient at the decoded pixels is as long as that of the
      reconstruction.
    adversarial_start: First step with discriminators in play; up to it, runs
      train by a step that is made without them (`Stage.opening`).
    lecam_weight: Weight of LeCam regularisation; 0 for none.
    r1_weight: Weight of the gradient penalty at real clips, half of its
      squared norm; 0 for none (MAGVIT's cost of 10 is 80 here).
  """
  reconstruction: Literal['l1', 'l2'] = 'l1'
  kl_weight: ranges.Weight = 1e-6
  perceptual_weight: ranges.Weight = 0.0
  perceptual_frames: ranges.Frames = 4
  adversarial: Literal['hinge', 'non_saturating'] = 'non_saturating'
  adversarial_weight: ranges.Weight = 0.1
  adaptive_weight: bool = False
  adversarial_start: ranges.Natural = 0
  lecam_weight: ranges.Weight = 0.001
  r1_weight: ranges.Weight = 0.0

  def __post_init__(self):
    for name, known in (('reconstruction', ('l1', 'l2')),
                        ('adversarial', ('hinge', 'non_saturating'))):
      if getattr(self, name) not in known:
        raise ValueError(f'losses.{name}={getattr(self, name)!r} is none of '
                         f'{", ".join(known)}.')


def create_state(
    key: jax.Array,
    autoencoder: autoencoder_lib.Autoencoder,
    optimizer: optax.GradientTransformation,
    *,
    discriminators: Mapping[str, Discriminator] | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    ema_decays: tuple[float, ...] = (),
    clip_shape: tuple[int, int, int] = (5, 32, 32),
    map_shapes: feature_discriminator.MapShapes | None = None,
) -> TrainState:
  """Builds the state at step 0; pure, to be jitted.

  `params` and `opt_state` have the entries 'autoencoder' and, with a GAN,
  'discriminator' (by kind: 'videos', 'images'). Averages are of the
  autoencoder's parameters alone. `extra` holds LeCam's running means, by kind.

  Args:
    key: Draws the parameters.
    autoencoder: The network.
    optimizer: Optimizer of the autoencoder.
    discriminators: Discriminators by the rows they judge, 'videos', 'images'.
    discriminator_optimizer: Optimizer of all discriminators.
    ema_decays: One average of the autoencoder for each.
    clip_shape: Frames, rows and columns of any clip that fits.
    map_shapes: Shapes of the feature maps of the frozen network, where used.
  """
  discriminators = dict(discriminators or {})
  keys = jax.random.split(key, 1 + len(discriminators))
  clip = jnp.zeros((1, *clip_shape, 3))
  params = {'autoencoder': autoencoder.init(keys[0], clip)['params']}
  opt_state = {'autoencoder': optimizer.init(params['autoencoder'])}
  zero = lambda dtype: jnp.zeros((), dtype)
  extra = {}
  if discriminators:
    params['discriminator'] = {
        kind: module.init(one, clip, feature_discriminator.zero_maps(
            module.feature_maps, clip, map_shapes))['params']
        for one, (kind, module) in zip(
            keys[1:], sorted(discriminators.items()), strict=True)}
    opt_state['discriminator'] = discriminator_optimizer.init(
        params['discriminator'])
    extra['lecam'] = {
        kind: {'real': zero(jnp.float32), 'fake': zero(jnp.float32)}
        for kind in discriminators}
  ema = {str(decay): jax.tree.map(jnp.array, params['autoencoder'])
         for decay in ema_decays}
  return TrainState(step=zero(jnp.int32), params=params, opt_state=opt_state,
                    ema=ema, extra=extra)


def clips_of(batch: types.Batch) -> dict[str, jax.Array]:
  """Pixels in [-1, 1] by kind; each image becomes a clip of one frame."""
  clips = {}
  if batch.videos is not None:
    clips['videos'] = pixels_lib.to_unit_range(batch.videos.pixels)
  if batch.images is not None:
    pixels = pixels_lib.to_unit_range(batch.images.pixels)
    clips['images'] = pixels.reshape(-1, 1, *pixels.shape[2:])
  if not clips:
    raise ValueError('A batch holds neither videos nor images.')
  return clips


def make_tokenizer_step(
    autoencoder: autoencoder_lib.Autoencoder,
    options: TokenizerLosses,
    optimizer: optax.GradientTransformation,
    *,
    discriminators: Mapping[str, Discriminator] | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    features: FeatureFn | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Builds `train_step(state, batch, key, feature_params=None)`.

  Both players are updated in one step from one forward pass: the
  discriminators judge the decoded clips as they were before the
  autoencoder's update. Rows of images and of videos weigh by their number of
  pixels. Every loss and every gradient's norm is among the metrics, which is
  what the loop's guard looks at.

  Args:
    autoencoder: The network.
    options: Losses and their weights.
    optimizer: Optimizer of the autoencoder.
    discriminators: Discriminators by rows, 'videos' or 'images'; None trains
      without a GAN, and leaves those of the state as they are. A kind of rows
      without discriminator has no GAN loss.
    discriminator_optimizer: Optimizer of all discriminators.
    features: Network of the perceptual loss and of discriminators with feature
      maps; its parameters are the step's last argument.

  Returns:
    The pure update `(state, batch, key, feature_params) -> (state, metrics)`.
    `key` is this step's own.
  """
  discriminators = dict(discriminators or {})
  if options.perceptual_weight and features is None:
    raise ValueError('perceptual_weight is set, but no features were given.')
  if features is None and any(d.feature_maps for d in discriminators.values()):
    raise ValueError('Discriminators with feature_maps need features.')
  if discriminators and discriminator_optimizer is None:
    raise ValueError('Discriminators need a discriminator_optimizer.')

  def forward(params, clips, key):
    """Decodes every kind of clips; the posteriors go to the KL."""
    decoded, posteriors = {}, {}
    for index, (kind, pixels) in enumerate(clips.items()):
      posterior = autoencoder.apply({'params': params}, pixels,
                                    method='encode')
      latents = statistics.sample_posterior(
          posterior, jax.random.fold_in(key, index))
      decoded[kind] = autoencoder.apply({'params': params}, latents,
                                        method='decode')
      posteriors[kind] = posterior
    return decoded, posteriors

  def reconstruction_loss(outputs, clips, key, feature_params):
    decoded, posteriors = outputs
    sizes = {kind: pixels.size for kind, pixels in clips.items()}
    total, metrics = 0.0, {}
    for index, (kind, pixels) in enumerate(clips.items()):
      share = sizes[kind] / sum(sizes.values())
      parts = {'reconstruction': losses.reconstruction(
          decoded[kind], pixels, options.reconstruction)}
      loss = parts['reconstruction']
      if posteriors[kind].logvar is not None:
        parts['kl'] = losses.kl(posteriors[kind])
        loss += options.kl_weight * parts['kl']
      if options.perceptual_weight:
        parts['perceptual'] = losses.perceptual(
            lambda x: features(feature_params, x),
            *_some_frames(jax.random.fold_in(key, index),
                          (decoded[kind], pixels), options.perceptual_frames))
        loss += options.perceptual_weight * parts['perceptual']
      total += share * loss
      parts['psnr'] = distances.psnr(
          jnp.clip(decoded[kind], -1.0, 1.0), pixels, peak=2.0).mean()
      prefix = '' if kind == 'videos' or len(clips) == 1 else 'image_'
      metrics |= {prefix + name: value for name, value in parts.items()}
    return total, metrics

  def judge(kind, params, pixels, feature_params):
    """Logits of one kind of clips."""
    module = discriminators[kind]
    maps = []
    if module.feature_maps:
      maps = feature_discriminator.frame_maps(
          lambda x: features(feature_params, x)[:module.feature_maps], pixels)
    return module.apply({'params': params[kind]}, pixels, maps)

  def adversarial_loss(decoded, params, feature_params):
    sizes = {kind: decoded[kind].size for kind in decoded
             if kind in discriminators}
    return sum(
        size / sum(sizes.values()) * losses.generator_loss(
            judge(kind, params, decoded[kind], feature_params),
            options.adversarial)
        for kind, size in sizes.items())

  def discriminator_loss(params, decoded, clips, means, feature_params):
    total, metrics, new_means = 0.0, {}, dict(means)
    kinds = [kind for kind in clips if kind in discriminators]
    for kind in kinds:
      apply = lambda x, kind=kind: judge(kind, params, x, feature_params)
      real, fake = apply(clips[kind]), apply(decoded[kind])
      loss = losses.discriminator_loss(real, fake, options.adversarial)
      parts = {
          'discriminator_loss': loss,
          'logit_gap': real.mean() - fake.mean(),
          'discriminator_accuracy': 0.5 * ((real > 0).mean() +
                                           (fake < 0).mean())}
      new_means[kind] = {
          side: optax.incremental_update(
              jax.lax.stop_gradient(logits.mean()), means[kind][side],
              1.0 - LECAM_DECAY)
          for side, logits in (('real', real), ('fake', fake))}
      if options.lecam_weight:
        parts['lecam'] = losses.lecam(real, fake, new_means[kind]['real'],
                                      new_means[kind]['fake'])
        loss += options.lecam_weight * parts['lecam']
      if options.r1_weight:
        parts['r1'] = losses.r1(apply, clips[kind])
        loss += options.r1_weight * parts['r1']
      total += loss
      prefix = '' if kind == 'videos' or len(kinds) == 1 else 'image_'
      metrics |= {prefix + name: value for name, value in parts.items()}
    return total, (metrics, new_means)

  def adversarial_update(state, outputs, clips, pixel_grads, feature_params):
    """Gradients of both players."""
    decoded, _ = outputs
    params = state.params['discriminator']
    loss, grads = jax.value_and_grad(adversarial_loss)(
        decoded, params, feature_params)
    weight = jnp.asarray(options.adversarial_weight, jnp.float32)
    if options.adaptive_weight:
      weight *= losses.adaptive_weight(pixel_grads, grads)
    grads = jax.tree.map(lambda g: weight * g, grads)
    (d_loss, (metrics, means)), d_grads = jax.value_and_grad(
        discriminator_loss, has_aux=True)(
            params, decoded, clips, state.extra['lecam'], feature_params)
    updates, opt_state = discriminator_optimizer.update(
        d_grads, state.opt_state['discriminator'], params)
    metrics |= {'adversarial': loss, 'adversarial_weight': weight,
                'discriminator_total': d_loss,
                'discriminator_grad_norm': optax.tree.norm(d_grads)}
    return (grads, optax.apply_updates(params, updates), opt_state, means,
            metrics)

  def train_step(state: TrainState, batch: types.Batch, key: jax.Array,
                 feature_params: Params = None
                 ) -> tuple[TrainState, Metrics]:
    key_latents, key_frames = jax.random.split(key)
    clips = clips_of(batch)
    params = dict(state.params)
    opt_state = dict(state.opt_state)
    extra = dict(state.extra)
    outputs, pull_back = jax.vjp(
        lambda p: forward(p, clips, key_latents), params['autoencoder'])
    (loss, metrics), cotangents = jax.value_and_grad(
        reconstruction_loss, has_aux=True)(
            outputs, clips, key_frames, feature_params)
    if any(kind in discriminators for kind in clips):
      (pixel_grads, params['discriminator'], opt_state['discriminator'],
       extra['lecam'], gan_metrics) = adversarial_update(
           state, outputs, clips, cotangents[0], feature_params)
      cotangents = (jax.tree.map(jnp.add, cotangents[0], pixel_grads),
                    cotangents[1])
      metrics |= gan_metrics
    (grads,) = pull_back(cotangents)
    grad_norm = optax.tree.norm(grads)
    updates, opt_state['autoencoder'] = optimizer.update(
        grads, opt_state['autoencoder'], params['autoencoder'])
    params['autoencoder'] = optax.apply_updates(params['autoencoder'],
                                                updates)
    state = dataclasses.replace(
        state, step=state.step + 1, params=params, opt_state=opt_state,
        extra=extra,
        ema=train_state.update_ema(state.ema, params['autoencoder']))
    return state, metrics | {'loss': loss, 'grad_norm': grad_norm}

  return train_step


def _some_frames(key, clips, count):
  """The same few frames of every clip, as images [N, H, W, 3]."""
  frames = losses.pick_frames(key, clips[0].shape[1], count)
  return tuple(clip[:, frames].reshape(-1, *clip.shape[2:]) for clip in clips)
