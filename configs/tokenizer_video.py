"""The causal video tokenizer, 17 x 128 x 128 to 5 x 16 x 16 x 8 (Table 8).

  walt data prepare --input UCF-101 --annotations ucfTrainTestlist \
    --clip_frames 2000 --output data/ucf101
  walt train --config configs/tokenizer_video.py:ucf101 \
    --workdir runs/tokenizer --config.data.path=data/ucf101
  walt evaluate reconstruction --workdir runs/tokenizer \
    --protocol ucf101-rfvd --real data/ucf101 --json reconstruction.json

Reconstruction FVD on UCF-101 by --config.model.latent_channels (Table 3f):
4 -> 37.7, 8 -> 17.1 (the default), 16 -> 8.2, 32 -> 3.5.

Variants: `ucf101` (default; 2000 epochs of 9,537 training clips), `k600`
(270,000 steps), `t2v` (1M steps, a quarter of the rows are images, ours),
`smoke`, a minute on a CPU, which needs nothing else, and `ucf101_small`, a
small GAN on 5 x 64 x 64 pixels for two cores, with `ucf101_small_no_gan`, the
same without discriminator (benchmarks/tokenizer_gan.py compares the two).
Losses and discriminator follow MAGVIT-v2, with deep features of
EfficientNet-Lite0 and weights that are ours (docs/training.md has MAGVIT's).
"""
from ml_collections import config_dict

STEPS = {'ucf101': 74_500, 'k600': 270_000, 't2v': 1_000_000}
SMALL = ('ucf101_small', 'ucf101_small_no_gan')
VARIANTS = (*STEPS, *SMALL, 'smoke')


def get_config(variant: str = 'ucf101') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  steps = STEPS.get(variant, 4)
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'tokenizer'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)  # -1: all remaining devices.
  config.data = dict(
      name='clips', path='', image_path='', weights=(), num_frames=17,
      height=128, width=128, buckets=(),
      frame_rate=8.0 if variant == 't2v' else 0.0, strides=(1,),
      batch_size=256, image_rows=64 if variant == 't2v' else 0, flip=True,
      random_crop=True, num_workers=8)
  config.model = dict(
      base_channels=128, channel_multipliers=(1, 2, 2, 4),
      time_downsample=(False, True, True), blocks_per_level=4,
      middle_blocks=4, latent_channels=8, bottleneck='plain', norm='group',
      num_groups=32, adaptive_decoder=True, kernel_size=(3, 3, 3),
      remat=True, dtype='bfloat16')
  config.losses = dict(
      reconstruction='l2', perceptual_weight=0.1, perceptual_frames=4,
      adversarial='non_saturating', adversarial_weight=0.1,
      adaptive_weight=False, adversarial_start=0, lecam_weight=0.001,
      r1_weight=0.0)
  config.perceptual = dict(path='')
  config.discriminator = dict(
      base_channels=128, channel_multipliers=(2, 4, 4, 4, 4),
      time_downsample=(False, True, True, True, False), dtype='bfloat16')
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
  if variant in SMALL:
    _small(config)
  if variant == 'ucf101_small_no_gan':
    config.discriminator = config_dict.ConfigDict()
    config.discriminator_optimizer = config_dict.ConfigDict()
  return config


def _shrink(config: config_dict.ConfigDict) -> None:
  """A tiny network on moving digits, without a perceptual loss."""
  config.data.update(
      name='moving_digits', num_frames=9, height=32, width=32, batch_size=2,
      flip=False, random_crop=False, num_workers=0, difficulty='quick',
      num_clips=64, crop_sizes=(), labels='digit_direction')
  config.model.update(
      base_channels=8, channel_multipliers=(1, 2), time_downsample=(True,),
      blocks_per_level=1, middle_blocks=0, num_groups=4, stem_patch=(2, 4, 4),
      remat=False, dtype='float32')
  config.losses.perceptual_weight = 0.0
  config.discriminator.update(
      base_channels=8, channel_multipliers=(1, 2),
      time_downsample=(False, True), dtype='float32')
  for optimizer in (config.optimizer, config.discriminator_optimizer):
    optimizer.update(peak_lr=1e-3, warmup_steps=1)
  config.ema = (0.9,)
  config.statistics.num_batches = 4
  config.train.update(log_every=1, save_every=2, eval_every=4, eval_batches=1,
                      eval_samples=2)


def _small(config: config_dict.ConfigDict) -> None:
  """A quick network at 2 x 16 x 16 cells; a GAN from step 1000 on.

  The discriminator judges maps of EfficientNet-Lite0 beside the pixels.
  """
  steps, start = 2_400, 1_000
  config.data.update(
      num_frames=5, height=64, width=64, batch_size=4, num_workers=0)
  config.model = dict(
      base_channels=40, channel_multipliers=(1, 2), time_downsample=(True,),
      blocks_per_level=1, middle_blocks=1, latent_channels=4,
      bottleneck='plain', norm='position', num_groups=8,
      adaptive_decoder=False, kernel_size=(1, 3, 3), stem_patch=(2, 2, 2),
      stem_kernel=(1, 1, 1), head_kernel=(1, 3, 3), linear_ends=True,
      remat=False, dtype='float32')
  config.losses.update(
      reconstruction='l1', perceptual_weight=0.0, adversarial='hinge',
      adversarial_weight=2.0, adaptive_weight=True, adversarial_start=start,
      lecam_weight=0.0)
  config.discriminator = dict(
      feature_maps=3, base_channels=64, cell=4, blocks=1, dtype='float32')
  config.optimizer.update(
      peak_lr=2e-3, schedule='linear', warmup_steps=50, decay_fraction=0.7,
      decay_steps=steps, b1=0.9)
  # It counts its own steps.
  config.discriminator_optimizer.update(
      peak_lr=5e-4, schedule='constant', warmup_steps=20, b1=0.5)
  config.ema = (0.99,)
  config.statistics.num_batches = 16
  config.train.update(
      num_steps=steps, log_every=10, save_every=600, eval_every=600,
      eval_batches=2, eval_samples=2)
