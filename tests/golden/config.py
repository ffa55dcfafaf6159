"""The configs that the golden runs were begun with; not to be changed.

They stand here in full, as in the file of a user who began a run before an
upgrade: what `configs/` says today is no matter.

  walt train --config tests/golden/config.py:base --workdir WORKDIR ..
"""
from ml_collections import config_dict

VARIANTS = ('tokenizer', 'base', 'sr')


def get_config(variant: str) -> config_dict.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'unknown variant {variant!r}; known: {VARIANTS}')
  if variant == 'tokenizer':
    return _tokenizer()
  return _base() if variant == 'base' else _super_resolution()


def _train() -> dict:
  return dict(num_steps=2, log_every=1, save_every=0, eval_every=0,
              eval_batches=1, eval_samples=2)


def _optimizer(name: str, **options) -> dict:
  return dict(name=name, peak_lr=3e-3, schedule='linear', warmup_steps=1,
              decay_steps=8) | options


def _tokenizer() -> config_dict.ConfigDict:
  """5x16x16 pixels of moving digits to 2x4x4 latents, with a GAN at once."""
  config = config_dict.ConfigDict()
  config.seed = 0
  config.stage = 'tokenizer'
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.data = dict(
      name='moving_digits', path='', num_frames=5, height=16, width=16,
      frame_rate=0.0, batch_size=4, image_rows=0, flip=False,
      random_crop=False, num_workers=0, difficulty='quick', num_clips=32,
      crop_sizes=(), labels='digit_direction')
  config.model = dict(
      base_channels=8, channel_multipliers=(1,), time_downsample=(),
      blocks_per_level=0, middle_blocks=1, latent_channels=4,
      stem_patch=(4, 4, 4), num_groups=4, adaptive_decoder=True,
      norm='group', kernel_size=(1, 3, 3), stem_kernel=(1, 1, 1),
      head_kernel=(1, 1, 1), dtype='float32')
  config.losses = dict(
      reconstruction='l2', perceptual_weight=0.0,
      adversarial='non_saturating', adversarial_weight=0.1,
      adaptive_weight=True, adversarial_start=0, lecam_weight=0.001,
      r1_weight=0.0)
  config.perceptual = dict(path='')
  config.discriminator = dict(
      base_channels=4, channel_multipliers=(1, 2),
      time_downsample=(False, True), dtype='float32')
  config.optimizer = _optimizer('adamw', b1=0.0)
  config.discriminator_optimizer = _optimizer('adamw', b1=0.0)
  config.ema = (0.9, 0.99)
  config.statistics = dict(num_batches=2)
  config.train = _train()
  return config


def _denoiser(stage: str, size: int) -> config_dict.ConfigDict:
  """Latents of 5 frames of this height and width."""
  config = config_dict.ConfigDict()
  config.seed = 1
  config.stage = stage
  config.init_from = ''
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.data = dict(
      name='clips', path='prepared', num_frames=5, height=size, width=size,
      frame_rate=0.0, batch_size=4, image_rows=0, flip=False,
      random_crop=False, num_workers=0)
  config.tokenizer = dict(
      workdir='tokenizer', random=config_dict.ConfigDict())
  config.latents = dict(frames=2, height=size // 4, width=size // 4, channels=4)
  config.text = dict(name='', path='', max_tokens=0, width=0)
  config.model = dict(
      width=16, depth=2, num_heads=1, mlp_width=32, patch=1,
      spatial_window=(1, 4, 4), spacetime_window=(2, 2, 2), num_classes=2,
      lora_rank=2, use_qk_norm=True, use_relative_bias=True,
      position_init_scale=1.0, self_condition=True, frame_condition=False,
      low_res_factor=0, linear_skip=True, use_noise_level=False,
      text_window='spatial', activation='relu2', remat_policy='none',
      scan_unroll=1, dtype='float32')
  config.diffusion = dict(
      schedule='linear', zero_terminal_snr=True, prediction='v',
      self_condition_probability=0.5, frame_condition_probability=0.0,
      frame_condition_lengths=(1,), drop_label=0.2, drop_text=0.1,
      drop_frames=0.1, max_low_res_level=0.3, weighting='mse', snr_cap=5.0)
  config.ema = (0.9,)
  config.sampler = dict(sampler='dpmpp_2m', num_steps=2, factorized=False)
  config.train = _train()
  return config


def _base() -> config_dict.ConfigDict:
  """Images and clips from the latent cache, by label and caption, by Muon."""
  config = _denoiser('denoiser', 16)
  config.data.update(name='latents', path='cache', image_rows=2)
  config.text.update(name='minilm', max_tokens=8, width=384)
  config.model.update(frame_condition=True)
  config.diffusion.update(frame_condition_probability=0.5)
  config.optimizer = _optimizer('muon', muon_lr_ratio=1.0, accumulation_steps=1)
  return config


def _super_resolution() -> config_dict.ConfigDict:
  """To 32x32 pixels, from prepared clips that are cropped and mirrored."""
  config = _denoiser('super_resolution', 32)
  config.data.update(flip=True, random_crop=True)
  config.model.update(patch=2, low_res_factor=2, use_noise_level=True)
  config.optimizer = _optimizer(
      'adafactor', min_factored=16, accumulation_steps=1)
  return config
