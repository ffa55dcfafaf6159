"""The quickstart: every stage, small, on moving digits, on two cores.

  walt train --config configs/quickstart.py:tokenizer --workdir RUN/tokenizer
  walt train --config configs/quickstart.py:base --workdir RUN/base \
    --config.tokenizer.workdir=RUN/tokenizer --config.data.path=RUN/latents/32

`make quickstart` runs these and all the commands around them in order.

Variants: `tokenizer`, `base` (17x32x32), `sr1` (17x64x64), `sr2`
(17x128x128); `smoke` trains a tiny denoiser on a fixed random tokenizer in
seconds and needs nothing else. Each of the first four has a `_long` twin for
`make quickstart_long`: an hour, and digits with free lanes, speeds and
backgrounds.
"""
from ml_collections import config_dict

STAGES = ('tokenizer', 'base', 'sr1', 'sr2')
VARIANTS = (*STAGES, *(f'{stage}_long' for stage in STAGES), 'smoke')


def get_config(variant: str = 'base') -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  stage, _, long = variant.partition('_')
  if stage == 'tokenizer':
    return _tokenizer(bool(long))
  return _smoke() if stage == 'smoke' else _denoiser(stage, bool(long))


def _tokenizer(long: bool) -> config_dict.ConfigDict:
  """17x32x32 pixels to 5x8x8 latents; all its work is done at 5x8x8."""
  steps = 3_000 if long else 1_500
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'tokenizer'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.data = dict(
      name='moving_digits', path='', num_frames=17, height=32, width=32,
      frame_rate=0.0, batch_size=4, image_rows=0, flip=False,
      random_crop=False, num_workers=0,
      difficulty='free' if long else 'quick', num_clips=2048,
      crop_sizes=(64, 128), labels='digit')
  config.model = dict(
      base_channels=64, channel_multipliers=(1,), time_downsample=(),
      blocks_per_level=0, middle_blocks=2, latent_channels=_channels(long),
      stem_patch=(4, 4, 4), num_groups=8, adaptive_decoder=False,
      norm='position', kernel_size=(1, 3, 3), stem_kernel=(1, 1, 1),
      head_kernel=(1, 1, 1), linear_ends=True, dtype='float32')
  config.losses = dict(reconstruction='l2')
  config.perceptual = dict(path='')
  config.discriminator = config_dict.ConfigDict()
  config.optimizer = dict(
      name='adamw', peak_lr=8e-3, schedule='linear', warmup_steps=50,
      decay_fraction=0.7, decay_steps=steps)
  config.discriminator_optimizer = config_dict.ConfigDict()
  config.ema = (0.98,)
  config.statistics = dict(num_batches=64)
  config.train = dict(
      num_steps=steps, log_every=20, save_every=1_000, eval_every=1_000,
      eval_batches=8, eval_samples=4)
  return config


def _denoiser(stage: str, long: bool) -> config_dict.ConfigDict:
  """Label and caption to 5x8x8 latents, or these to twice, four times that."""
  level = ('base', 'sr1', 'sr2').index(stage)
  size = 32 * 2**level
  steps = ((9_000, 1_000, 1_000) if long else (1_300, 800, 450))[level]
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'super_resolution' if level else 'denoiser'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.data = dict(
      name='latents', path='', num_frames=17, height=size, width=size,
      frame_rate=0.0, batch_size=4 if level else 8, image_rows=0, flip=False,
      random_crop=False, num_workers=0)
  if not level:  # So many rows learn first frames, the others what follows.
    config.data.image_rows = 6 if long else 4
  config.tokenizer = dict(workdir='', random=config_dict.ConfigDict())
  config.latents = dict(
      frames=5, height=size // 4, width=size // 4, channels=_channels(long))
  config.text = dict(name='minilm', path='', max_tokens=8, width=384)
  config.model = dict(
      width=128, depth=4, num_heads=4, mlp_width=512, patch=2,
      spatial_window=(1, 4, 4), spacetime_window=(5, 4, 4), num_classes=10,
      lora_rank=2, use_qk_norm=True, use_relative_bias=True,
      position_init_scale=1.0, self_condition=False, frame_condition=not level,
      low_res_factor=0, linear_skip=True, use_noise_level=False,
      text_window='spatial', activation='relu2', remat_policy='none',
      scan_unroll=1, dtype='float32')
  config.diffusion = dict(
      schedule='linear', zero_terminal_snr=True, prediction='v',
      # 0: a second pass a step would cost a third of the steps.
      self_condition_probability=0.0,
      frame_condition_probability=0.0 if level else 0.9,
      frame_condition_lengths=(1,), drop_label=0.2, drop_text=0.1,
      drop_frames=0.0, max_low_res_level=0.3, weighting='mse', snr_cap=5.0)
  config.optimizer = dict(
      # Half of AdamW's steps suffice (docs/measurements/training.md).
      name='muon', peak_lr=8e-3, muon_lr_ratio=1.0, schedule='linear',
      warmup_steps=50, decay_steps=steps, accumulation_steps=1)
  config.ema = (0.998 if long else 0.99,)
  # First order steps leave noise that a short run has not learnt to remove. A
  # super-resolution stage takes one step, to the mean of what could be.
  config.sampler = dict(
      sampler='dpmpp_2m', num_steps=1 if level else 12, factorized=not level)
  if not level:
    config.sampler.guidance = (dict(label=4.5, text=4.5) if long else
                               dict(label=1.5, text=1.75))
  config.train = dict(
      num_steps=steps, log_every=20, save_every=max(steps // 2, 1),
      eval_every=max(steps // 2, 1), eval_batches=4, eval_samples=4)
  if level:
    # What is left to draw is local: two layers, windows of 8 x 8 tokens. It is
    # much the same at any size: sr2 begins with sr1's weights.
    config.text.update(name='', max_tokens=0, width=0)
    config.model.update(
        depth=2, spatial_window=(1, 8, 8), position_init_scale=0.02,
        low_res_factor=2, use_noise_level=True)
    config.optimizer.peak_lr = 5e-3
  return config


def _channels(long: bool) -> int:
  """Many keep what super-resolution needs; few are quick to learn to draw."""
  return 6 if long else 32


def _smoke() -> config_dict.ConfigDict:
  """The machinery alone: a random tokenizer and a tiny denoiser."""
  config = _denoiser('base', long=False)
  config.data = _tokenizer(long=False).data
  config.data.update(num_clips=64, crop_sizes=(), batch_size=8)
  config.tokenizer.random = dict(seed=0, model=_tokenizer(long=False).model)
  config.tokenizer.random.model.update(base_channels=16, middle_blocks=0)
  config.text = dict(name='', path='', max_tokens=0, width=0)
  config.model.update(
      width=32, depth=2, num_heads=2, mlp_width=64, frame_condition=False)
  config.diffusion.update(frame_condition_probability=0.0, drop_frames=0.1,
                          frame_condition_lengths=(1, 2))
  config.sampler = dict(sampler='dpmpp_2m', num_steps=2, factorized=False)
  config.optimizer.update(
      name='adamw', peak_lr=3e-3, warmup_steps=2, decay_steps=8)
  config.train.update(num_steps=4, log_every=1, save_every=2, eval_every=4,
                      eval_batches=1, eval_samples=2)
  return config
