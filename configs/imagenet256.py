"""Class-conditional ImageNet, 256 x 256 (Table 8; FID 2.56, IS 215.1).

An image is a video of one frame; both kinds of layers attend to all of it.

  walt data prepare --input ILSVRC2012 --split_folders --num_frames 1 \
    --size 256 --output data/imagenet
  walt train --config configs/tokenizer_image.py --workdir runs/tokenizer \
    --config.data.path=data/imagenet
  walt train --config configs/imagenet256.py --workdir runs/imagenet \
    --config.data.path=data/imagenet --config.tokenizer.workdir=runs/tokenizer
  walt evaluate fid --workdir runs/imagenet --protocol imagenet-adm \
    --real VIRTUAL_imagenet256_labeled.npz \
    --network classify_image_graph_def.pb --json fid.json

The two files are those of guided-diffusion's evaluations: statistics of the
real images, and InceptionV3 (docs/evaluation.md). IS, sFID, precision and
recall stand beside FID in the result.

With guidance on a power-cosine schedule (sampler.guidance.label, which the
paper does not name, and .schedule) the paper reports FID 2.40, IS 290.5.
350 epochs of 1,281,167 images. Variants: `imagenet256` (default) and `smoke`,
a minute on a CPU, which needs nothing else.
"""
from ml_collections import config_dict

VARIANTS = ('imagenet256', 'smoke')


def get_config(variant: str = 'imagenet256') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'denoiser'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)  # -1: all remaining devices.
  config.data = dict(
      name='clips', path='', image_path='', weights=(), num_frames=1,
      height=256, width=256, frame_rate=0.0, strides=(1,), batch_size=1024,
      image_rows=0, flip=True, random_crop=False, num_workers=8)
  config.tokenizer = dict(workdir='', random=config_dict.ConfigDict())
  config.latents = dict(frames=1, height=32, width=32, channels=8)
  config.text = dict(name='', path='', max_tokens=0, width=0)
  config.model = dict(
      width=1024, depth=24, num_heads=16, mlp_width=4096, patch=1,
      spatial_window=(1, 32, 32), spacetime_window=(1, 32, 32),
      num_classes=1000, lora_rank=0, use_qk_norm=True, use_relative_bias=True,
      self_condition=True, frame_condition=False, low_res_factor=0,
      text_window='spatial', activation='gelu',
      remat_policy='matmuls', scan_unroll=0, dtype='bfloat16')
  config.diffusion = dict(
      schedule='linear', zero_terminal_snr=True, prediction='v',
      self_condition_probability=0.9, frame_condition_probability=0.0,
      frame_condition_lengths=(1, 2), drop_label=0.1, drop_text=0.1,
      drop_frames=0.1, max_low_res_level=0.0, weighting='mse', snr_cap=5.0)
  config.optimizer = dict(
      name='adamw', peak_lr=5e-4, schedule='cosine', warmup_steps=5_000,
      decay_steps=438_000, b1=0.9, b2=0.99, weight_decay=0.0, clip_norm=1.0,
      accumulation_steps=1)
  config.ema = (0.9999,)
  config.sampler = dict(sampler='ddim', num_steps=50)
  config.train = dict(
      num_steps=438_000, log_every=100, save_every=5_000, eval_every=5_000,
      eval_batches=4, eval_samples=4)
  if variant == 'smoke':
    _shrink(config)
  return config


def _shrink(config: config_dict.ConfigDict) -> None:
  """A tiny model on moving digits, with a fixed random tokenizer."""
  config.data.update(
      name='moving_digits', height=32, width=32, batch_size=4,
      num_workers=0, flip=False, difficulty='quick', num_clips=64,
      crop_sizes=(), labels='digit_direction')
  config.tokenizer.random = dict(seed=0, model=dict(
      base_channels=16, channel_multipliers=(1,), time_downsample=(),
      blocks_per_level=1, middle_blocks=0, stem_patch=(4, 8, 8),
      num_groups=4, latent_channels=8))
  config.latents.update(height=4, width=4)
  config.model.update(
      width=32, depth=2, num_heads=4, mlp_width=64, remat_policy='none',
      spatial_window=(1, 4, 4), spacetime_window=(1, 4, 4),
      dtype='float32')
  config.optimizer.update(warmup_steps=2, decay_steps=8, peak_lr=2e-3)
  config.ema = (0.95,)
  config.sampler.num_steps = 2
  config.train.update(num_steps=4, log_every=1, save_every=2, eval_every=4,
                      eval_batches=1, eval_samples=2)
