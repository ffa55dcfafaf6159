"""The image tokenizer, 256 x 256 to 32 x 32 x 8, of ImageNet (Table 8).

  walt data prepare --input ILSVRC2012 --split_folders --num_frames 1 \
    --size 256 --output data/imagenet
  walt train --config configs/tokenizer_image.py --workdir runs/tokenizer \
    --config.data.path=data/imagenet

The video tokenizer without time: its blocks span one frame, every clip is
one image, and the discriminator is two-dimensional. Variants: `imagenet`
(default; 270 epochs of 1,281,167 images) and `smoke`, a minute on a CPU, which
needs nothing else. Losses and discriminator follow MAGVIT-v2, with deep
features of EfficientNet-Lite0 (ours).
"""
from ml_collections import config_dict

VARIANTS = ('imagenet', 'smoke')


def get_config(variant: str = 'imagenet') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  steps = 4 if variant == 'smoke' else 1_351_000
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'tokenizer'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)  # -1: all remaining devices.
  config.data = dict(
      name='clips', path='', image_path='', weights=(), num_frames=1,
      height=256, width=256, buckets=(), frame_rate=0.0, strides=(1,),
      batch_size=256, image_rows=256, flip=True, random_crop=True,
      num_workers=8)
  config.model = dict(
      base_channels=128, channel_multipliers=(1, 1, 2, 4),
      time_downsample=(False, False, False), blocks_per_level=4,
      middle_blocks=4, latent_channels=8, bottleneck='plain', norm='group',
      num_groups=32, adaptive_decoder=True, kernel_size=(1, 3, 3),
      stem_kernel=(1, 3, 3), head_kernel=(1, 3, 3), remat=True,
      dtype='bfloat16')
  config.losses = dict(
      reconstruction='l2', perceptual_weight=0.1, perceptual_frames=1,
      adversarial='non_saturating', adversarial_weight=0.1,
      adaptive_weight=False, adversarial_start=0, lecam_weight=0.001,
      r1_weight=0.0)
  config.perceptual = dict(path='')
  config.discriminator = dict(
      base_channels=128, channel_multipliers=(2, 4, 4, 4, 4),
      time_downsample=(False, False, False, False, False), dtype='bfloat16')
  config.optimizer = dict(
      name='adamw', peak_lr=1e-4, schedule='cosine', warmup_steps=5_000,
      decay_steps=steps, b1=0.0, b2=0.99, weight_decay=0.0, clip_norm=1.0)
  config.discriminator_optimizer = dict(
      name='adamw', peak_lr=1e-4, schedule='cosine', warmup_steps=5_000,
      decay_steps=steps, b1=0.0, b2=0.99, weight_decay=0.0, clip_norm=1.0)
  config.ema = (0.999,)
  config.statistics = dict(num_batches=64)
  config.train = dict(
      num_steps=steps, log_every=100, save_every=5_000, eval_every=5_000,
      eval_batches=4, eval_samples=4)
  if variant == 'smoke':
    _shrink(config)
  return config


def _shrink(config: config_dict.ConfigDict) -> None:
  """A tiny network on single frames of moving digits."""
  config.data.update(
      name='moving_digits', height=32, width=32, batch_size=4, image_rows=4,
      flip=False, random_crop=False, num_workers=0, difficulty='quick',
      num_clips=64, crop_sizes=(), labels='digit_direction')
  config.model.update(
      base_channels=8, channel_multipliers=(1, 2), time_downsample=(False,),
      blocks_per_level=1, middle_blocks=0, num_groups=4, stem_patch=(1, 4, 4),
      remat=False, dtype='float32')
  config.losses.perceptual_weight = 0.0
  config.discriminator.update(
      base_channels=8, channel_multipliers=(1, 2),
      time_downsample=(False, False), dtype='float32')
  for optimizer in (config.optimizer, config.discriminator_optimizer):
    optimizer.update(peak_lr=1e-3, warmup_steps=1)
  config.ema = (0.9,)
  config.statistics.num_batches = 4
  config.train.update(log_every=1, save_every=2, eval_every=4, eval_batches=1,
                      eval_samples=2)
