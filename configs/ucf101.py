"""Class-conditional UCF-101, 17 x 128 x 128 (Table 8).

  walt data prepare --input UCF-101 --annotations ucfTrainTestlist \
    --clip_frames 2000 --output data/ucf101
  walt train --config configs/tokenizer_video.py --workdir runs/tokenizer \
    --config.data.path=data/ucf101
  walt train --config configs/ucf101.py:VARIANT --workdir runs/VARIANT \
    --config.data.path=data/ucf101 --config.tokenizer.workdir=runs/tokenizer
  walt evaluate fvd --workdir runs/VARIANT --protocol ucf101-magvit \
    --real data/ucf101 --json fvd.json

Its videos stay whole (none has 2,000 frames): the protocol draws clips of them
as training does.

Variants and the paper's FVD: `xl` (default) 36 +- 2, `l` 46 +- 2, and the
ablations of Table 3, each L for 35,000 steps:

  ablation_patch_1, _2, _4                    60.7, 134.4, 461.8
  ablation_window_5x4x4, _5x8x8, _5x16x16     56.9, 59.6, 55.3
  ablation_window_full                        59.9 (1.20 steps/s; the others
                                              2.24, 2.00 and 1.75)
  ablation_self_cond_0, _30, _60, _90         109.9, 76.0, 60.0, 61.4
  ablation_lora_2, _4, _16, _64, _256         60.7, 56.6, 55.5, 54.4, 52.5
  ablation_adaln_separate                     none printed; 458M parameters
  ablation_no_qk_norm                         59.0
  ablation_no_latent_norm                     67.9
  ablation_no_zero_snr                        91.0
  ablation_latent_4, _8, _16, _32             reconstruction 37.7, 17.1, 8.2,
                                              3.5; generation is best at 8-16

The last four need a tokenizer of as many channels (configs/tokenizer_video.py
with --config.model.latent_channels=4). `smoke` trains a tiny model on any
prepared data in a minute on a CPU, with a fixed random tokenizer unless one is
given.
"""
from ml_collections import config_dict

# What each ablation changes in L.
ABLATIONS = {
    'patch_1': {},
    'patch_2': {'model.patch': 2, 'model.spatial_window': (1, 8, 8)},
    'patch_4': {'model.patch': 4, 'model.spatial_window': (1, 4, 4),
                'model.spacetime_window': (5, 4, 4)},
    'window_5x4x4': {'model.spacetime_window': (5, 4, 4)},
    'window_5x8x8': {},
    'window_5x16x16': {'model.spacetime_window': (5, 16, 16)},
    'window_full': {'model.spatial_window': (5, 16, 16),
                    'model.spacetime_window': (5, 16, 16)},
    'self_cond_0': {'model.self_condition': False,
                    'diffusion.self_condition_probability': 0.0},
    'self_cond_30': {'diffusion.self_condition_probability': 0.3},
    'self_cond_60': {'diffusion.self_condition_probability': 0.6},
    'self_cond_90': {},
    'lora_2': {},
    'lora_4': {'model.lora_rank': 4},
    'lora_16': {'model.lora_rank': 16},
    'lora_64': {'model.lora_rank': 64},
    'lora_256': {'model.lora_rank': 256},
    'adaln_separate': {'model.lora_rank': 0},
    'no_qk_norm': {'model.use_qk_norm': False},
    'no_latent_norm': {'tokenizer.normalise': False},
    'no_zero_snr': {'diffusion.zero_terminal_snr': False},
    'latent_4': {'latents.channels': 4},
    'latent_8': {},
    'latent_16': {'latents.channels': 16},
    'latent_32': {'latents.channels': 32},
}
VARIANTS = ('xl', 'l', *(f'ablation_{name}' for name in ABLATIONS), 'smoke')


def get_config(variant: str = 'xl') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'denoiser'
  config.init_from = ''
  config.mesh = dict(data=1, fsdp=-1, tensor=1)  # -1: all remaining devices.
  config.data = dict(
      name='clips', path='', image_path='', weights=(), num_frames=17,
      height=128, width=128, frame_rate=0.0, strides=(1,), batch_size=256,
      image_rows=0, flip=True, random_crop=False, num_workers=8)
  config.tokenizer = dict(workdir='', random=config_dict.ConfigDict())
  config.latents = dict(frames=5, height=16, width=16, channels=8)
  config.text = dict(name='', path='', max_tokens=0, width=0)
  config.model = dict(
      width=1152, depth=28, num_heads=16, mlp_width=4608, patch=1,
      spatial_window=(1, 16, 16), spacetime_window=(5, 8, 8),
      num_classes=101, lora_rank=2, use_qk_norm=True, use_relative_bias=True,
      self_condition=True, frame_condition=False, low_res_factor=0,
      text_window='spatial', activation='gelu', remat_policy='minimal',
      scan_unroll=0, dtype='bfloat16')
  config.diffusion = dict(
      schedule='linear', zero_terminal_snr=True, prediction='v',
      self_condition_probability=0.9, self_condition_group=16,
      frame_condition_probability=0.0, frame_condition_lengths=(1, 2),
      drop_label=0.1, drop_text=0.1,
      drop_frames=0.1, max_low_res_level=0.0, weighting='mse', snr_cap=5.0)
  config.optimizer = dict(
      name='adamw', peak_lr=5e-4, schedule='cosine', warmup_steps=5_000,
      decay_steps=60_000, b1=0.9, b2=0.99, weight_decay=0.0, clip_norm=1.0,
      accumulation_steps=1)
  config.ema = (0.9999,)
  config.sampler = dict(sampler='ddim', num_steps=50)
  config.train = dict(
      num_steps=60_000, log_every=100, save_every=5_000, eval_every=5_000,
      eval_batches=4, eval_samples=4)
  if variant not in ('xl', 'smoke'):
    # What it keeps fits 32 rows a chip of 80 GB, about 13 of 16 GB.
    config.model.update(
        width=1024, depth=24, mlp_width=4096, remat_policy='matmuls')
  if variant.startswith('ablation_'):
    config.optimizer.decay_steps = config.train.num_steps = 35_000
    for key, value in ABLATIONS[variant.removeprefix('ablation_')].items():
      section, name = key.split('.')
      config[section][name] = value
  if variant == 'smoke':
    config.data.update(height=32, width=32, batch_size=4, num_workers=0)
    config.tokenizer.random = dict(seed=0, model=dict(
        base_channels=16, channel_multipliers=(1,), time_downsample=(),
        blocks_per_level=1, middle_blocks=0, stem_patch=(4, 8, 8),
        num_groups=4, latent_channels=8))
    config.latents.update(height=4, width=4)
    config.model.update(
        width=32, depth=2, num_heads=4, mlp_width=64, remat_policy='none',
        spatial_window=(1, 4, 4), spacetime_window=(5, 2, 2),
        dtype='float32')
    config.diffusion.self_condition_group = 1
    config.optimizer.update(warmup_steps=10, decay_steps=200, peak_lr=2e-3)
    config.ema = (0.95,)
    config.sampler.num_steps = 10
    config.train.update(num_steps=200, log_every=20, save_every=100,
                        eval_every=100, eval_batches=2)
  return config
