"""Text to video, super-resolution to 17 x 256 x 448, 1.3B (Table 8).

  walt train --config configs/t2v_sr1.py --workdir runs/sr1 \
    --config.data.path=data/t2v --config.tokenizer.workdir=runs/tokenizer \
    --config.text.path=T5_XL_ENCODER
  walt sample --workdir runs/base_9x16,runs/sr1 --out samples \
    --prompt 'a dog surfs'

It takes the latents of the clip at half the size, with noise added up to
timestep 0.3. A quarter of the rows of a batch are images (ours). Variants:
`t2v_sr1` (default) and `smoke`, a minute on a CPU, which needs nothing else.
"""
from ml_collections import config_dict

VARIANTS = ('t2v_sr1', 'smoke')


def get_config(variant: str = 't2v_sr1') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'super_resolution'
  config.init_from = ''
  config.mesh = dict(data=1, fsdp=-1, tensor=1)  # -1: all remaining devices.
  config.data = dict(
      name='clips', path='', image_path='', weights=(), num_frames=17,
      height=256, width=448, frame_rate=8.0, strides=(1,), batch_size=512,
      image_rows=128, flip=False, random_crop=False, num_workers=8)
  config.tokenizer = dict(workdir='', random=config_dict.ConfigDict())
  config.latents = dict(frames=5, height=32, width=56, channels=8)
  config.text = dict(  # XL.
      name='t5', path='', max_tokens=64, width=2048, dtype='bfloat16')
  config.model = dict(
      width=1408, depth=40, num_heads=16, mlp_width=5632, patch=2,
      spatial_window=(1, 16, 28), spacetime_window=(5, 8, 14),
      num_classes=0, lora_rank=2, use_qk_norm=True, use_relative_bias=True,
      self_condition=True, frame_condition=True, low_res_factor=2,
      use_noise_level=True, text_window='spatial', activation='gelu',
      remat_policy='minimal', scan_unroll=1, dtype='bfloat16')
  config.diffusion = dict(
      schedule='linear', zero_terminal_snr=True, prediction='v',
      self_condition_probability=0.9, frame_condition_probability=0.25,
      frame_condition_lengths=(1, 2), drop_label=0.1, drop_text=0.1,
      drop_frames=0.1, max_low_res_level=0.3, weighting='mse', snr_cap=5.0)
  config.optimizer = dict(
      name='adafactor', peak_lr=5e-4, schedule='cosine',
      warmup_steps=5_000, decay_steps=675_000, b1=0.9, weight_decay=0.0,
      clip_norm=1.0,
      accumulation_steps=1)
  config.ema = ()
  config.sampler = dict(
      sampler='ddim', num_steps=50,
      guidance=dict(text=7.5))  # Ours: the paper guides, and names no scale.
  config.train = dict(
      num_steps=675_000, log_every=100, save_every=5_000, eval_every=10_000,
      eval_batches=4, eval_samples=4)
  if variant == 'smoke':
    _shrink(config)
  return config


def _shrink(config: config_dict.ConfigDict) -> None:
  """A tiny model on moving digits, with a fixed random tokenizer."""
  config.data.update(
      name='moving_digits', height=64, width=112, batch_size=4, image_rows=2,
      num_workers=0, flip=False, difficulty='quick', num_clips=64,
      crop_sizes=(), labels='digit_direction')
  config.tokenizer.random = dict(seed=0, model=dict(
      base_channels=16, channel_multipliers=(1,), time_downsample=(),
      blocks_per_level=1, middle_blocks=0, stem_patch=(4, 8, 8),
      num_groups=4, latent_channels=8))
  config.latents.update(height=8, width=14)
  config.text.update(name='minilm', max_tokens=8, width=384, dtype='float32')
  config.model.update(
      width=32, depth=2, num_heads=4, mlp_width=64, remat_policy='none',
      spatial_window=(1, 4, 7), spacetime_window=(5, 2, 7),
      dtype='float32')
  config.optimizer.update(warmup_steps=2, decay_steps=8, peak_lr=2e-3)
  config.sampler.num_steps = 2
  config.train.update(num_steps=4, log_every=1, save_every=2, eval_every=4,
                      eval_batches=1, eval_samples=2)
