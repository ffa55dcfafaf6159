"""Frame prediction on moving digits: long clips and image to video, small.

The quickstart's base, which also learns to continue from 1 or 2 given latent
frames (section 4.3). It trains on 17 frames out of longer clips, in which
digits leave on one side and enter on the other, with the quickstart's
tokenizer:

  walt data render moving_digits --split train --num 2048 --heldout 64 \
    --num_frames 41 --labels digit --clips 0 --output RUN/data/rollout
  walt train --config configs/digits_rollout.py --workdir RUN/rollout \
    --config.tokenizer.workdir=RUN/tokenizer \
    --config.data.path=RUN/data/rollout
  walt sample --workdir RUN/rollout --num_frames 41 --out OUT \
    --prompt 'a seven moves left'

`smoke` trains a tiny one on a fixed random tokenizer in seconds.
"""
from ml_collections import config_dict

VARIANTS = ('base', 'smoke')


def get_config(variant: str = 'base') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  steps = 4_000
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'denoiser'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.data = dict(
      name='clips', path='', num_frames=17, height=32, width=32,
      frame_rate=0.0, batch_size=8, image_rows=0, flip=False,
      random_crop=False, num_workers=0)
  config.tokenizer = dict(workdir='', random=config_dict.ConfigDict())
  config.latents = dict(frames=5, height=8, width=8, channels=32)
  config.text = dict(name='minilm', path='', max_tokens=8, width=384)
  config.model = dict(
      width=128, depth=4, num_heads=4, mlp_width=512, patch=2,
      spatial_window=(1, 4, 4), spacetime_window=(5, 4, 4), num_classes=10,
      lora_rank=2, use_qk_norm=True, use_relative_bias=True,
      position_init_scale=1.0, self_condition=False, frame_condition=True,
      low_res_factor=0, use_noise_level=False, text_window='spatial',
      activation='relu2', remat_policy='none', scan_unroll=1, dtype='float32')
  config.diffusion = dict(
      schedule='linear', zero_terminal_snr=True, prediction='v',
      # A third of the rows each: nothing given, one latent frame, two.
      self_condition_probability=0.0, frame_condition_probability=0.67,
      frame_condition_lengths=(1, 2), drop_label=0.2, drop_text=0.1,
      drop_frames=0.05, max_low_res_level=0.0, weighting='mse', snr_cap=5.0)
  config.optimizer = dict(
      name='muon', peak_lr=8e-3, muon_lr_ratio=1.0, schedule='linear',
      warmup_steps=50, decay_steps=steps, accumulation_steps=1)
  config.ema = (0.99,)
  config.sampler = dict(
      sampler='ddim', num_steps=25, guidance=dict(text=2.5))
  config.train = dict(
      num_steps=steps, log_every=20, save_every=1_000, eval_every=1_000,
      eval_batches=4, eval_samples=4)
  if variant == 'smoke':
    _shrink(config)
  return config


def _shrink(config: config_dict.ConfigDict) -> None:
  """A tiny model on a fixed random tokenizer."""
  config.data.update(
      name='moving_digits', difficulty='quick', num_clips=64, crop_sizes=(),
      labels='digit')
  config.tokenizer.random = dict(seed=0, model=dict(
      base_channels=16, channel_multipliers=(1,), time_downsample=(),
      blocks_per_level=1, middle_blocks=0, stem_patch=(4, 4, 4),
      num_groups=4, latent_channels=32))
  config.text.update(name='', max_tokens=0, width=0)
  config.model.update(width=32, depth=2, num_heads=2, mlp_width=64)
  config.optimizer.update(
      name='adamw', peak_lr=3e-3, warmup_steps=2, decay_steps=8)
  config.sampler.num_steps = 2
  del config.sampler.guidance  # By text.
  config.train.update(num_steps=4, log_every=1, save_every=2, eval_every=4,
                      eval_batches=1, eval_samples=2)
