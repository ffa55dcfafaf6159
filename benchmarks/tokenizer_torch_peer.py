"""The tokenizer in PyTorch, channels last, for `tokenizer_speed`.

Needs torch and NumPy only. Reads the weights and clips that `tokenizer_speed`
wrote, writes latents, pixels, logits and gradients, and milliseconds of
encoding, decoding and a training step of both players. The network is that of
`Autoencoder` with norm 'group' and the adaptive decoder; the step takes the
same forward and backward passes (one of the autoencoder, of the
discriminator one for the autoencoder and two for itself).
"""
import json
import math
import statistics
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

_BLUR = (0.25, 0.5, 0.25)


def _parameter(array: np.ndarray) -> nn.Parameter:
  return nn.Parameter(torch.from_numpy(np.ascontiguousarray(array)))


class Conv(nn.Module):
  """A convolution; `causal` pads time with the first frame, else zeros."""

  def __init__(self, weights, path, strides=(1, 1, 1), causal=True):
    super().__init__()
    kernel = weights[f'{path}/kernel']  # [kt, kh, kw, C, D]
    self.weight = nn.Parameter(torch.from_numpy(kernel).permute(
        4, 3, 0, 1, 2).contiguous(memory_format=torch.channels_last_3d))
    bias = f'{path}/bias'
    self.bias = _parameter(weights[bias]) if bias in weights else None
    self.strides, self.causal = strides, causal
    self.size = kernel.shape[:3]

  def forward(self, x):
    """Maps [B, C, T, H, W] to [B, D, T', H', W']."""
    taps, rows, columns = self.size
    if self.causal and taps > 1:
      first = x[:, :, :1].expand(-1, -1, taps - 1, -1, -1)
      x = torch.cat([first, x], dim=2)
    time_padding = 0 if self.causal else taps // 2
    if self.strides[1:] == (1, 1):
      padding = (time_padding, rows // 2, columns // 2)
    else:
      total = rows - self.strides[1]
      before, after = total // 2, total - total // 2
      x = F.pad(x, (before, after, before, after))
      padding = (time_padding, 0, 0)
    weight, bias = self.weight.to(x.dtype), self.bias
    bias = None if bias is None else bias.to(x.dtype)
    return F.conv3d(x, weight, bias, self.strides, padding)


def frame_group_norm(x, groups, weight=None, bias=None):
  """GroupNorm of each frame of [B, C, T, H, W] on its own, in float32."""
  b, c, t, h, w = x.shape
  y = x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w)
  y = F.group_norm(y.float(), min(groups, c), weight, bias, eps=1e-6)
  return y.to(x.dtype).reshape(b, t, c, h, w).permute(0, 2, 1, 3, 4)


class Norm(nn.Module):
  """Per-frame GroupNorm with scale and bias."""

  def __init__(self, weights, path, groups):
    super().__init__()
    self.weight = _parameter(weights[f'{path}/scale'])
    self.bias = _parameter(weights[f'{path}/bias'])
    self.groups = groups

  def forward(self, x):
    """Normalises [B, C, T, H, W]."""
    return frame_group_norm(x, self.groups, self.weight, self.bias)


class AdaptiveNorm(nn.Module):
  """A norm modulated by each latent frame's mean and deviation."""

  def __init__(self, weights, path, groups):
    super().__init__()
    self.weight = _parameter(weights[f'{path}/modulation/kernel'].T)
    self.bias = _parameter(weights[f'{path}/modulation/bias'])
    self.groups = groups

  def forward(self, x, latents):
    """Normalises [B, C, T, H, W] given latents [B, c, t, h, w]."""
    style = latents.float()
    mean = style.mean((3, 4))
    variance = style.var((3, 4), unbiased=False)
    style = torch.cat([mean, torch.sqrt(variance + 1e-6)], dim=1)
    modulation = F.linear(style.transpose(1, 2), self.weight, self.bias)
    frames, cells = x.shape[2], latents.shape[2]
    factor = (frames - 1) // (cells - 1) if cells > 1 else 1
    modulation = modulation.repeat_interleave(factor, 1)[:, factor - 1:]
    scale, shift = modulation.transpose(1, 2)[..., None, None].to(
        x.dtype).chunk(2, dim=1)
    return frame_group_norm(x, self.groups) * (1 + scale) + shift


class Block(nn.Module):
  """Norm, SiLU and convolution, twice, around a shortcut."""

  def __init__(self, weights, path, groups):
    super().__init__()
    self.norms = nn.ModuleList(
        Norm(weights, f'{path}/norm_{i}', groups) for i in (1, 2))
    self.convs = nn.ModuleList(
        Conv(weights, f'{path}/conv_{i}') for i in (1, 2))
    shortcut = f'{path}/shortcut'
    self.shortcut = (Conv(weights, shortcut)
                     if f'{shortcut}/kernel' in weights else nn.Identity())

  def forward(self, x):
    """Maps [B, C, T, H, W] to [B, D, T, H, W]."""
    y = x
    for norm, conv in zip(self.norms, self.convs, strict=True):
      y = conv(F.silu(norm(y)))
    return self.shortcut(x) + y


def depth_to_space(x, factor):
  """Unstacks channels (pt, ph, pw, D); the first group keeps one frame."""
  pt, ph, pw = factor
  b, c, t, h, w = x.shape
  d = c // (pt * ph * pw)
  x = x.reshape(b, pt, ph, pw, d, t, h, w).permute(0, 4, 5, 1, 6, 2, 7, 3)
  x = x.reshape(b, d, t * pt, h * ph, w * pw)[:, :, pt - 1:]
  return x.contiguous(memory_format=torch.channels_last_3d)


class Autoencoder(nn.Module):
  """Encoder and decoder of `walt_jax.tokenizer.autoencoder`."""

  def __init__(self, weights, config):
    super().__init__()
    levels, groups = len(config['channel_multipliers']), config['num_groups']
    self.strides = [(2 if halve else 1, 2, 2)
                    for halve in config['time_downsample']]
    block = lambda path: Block(weights, path, groups)
    blocks = lambda path: nn.ModuleList(
        block(f'{path}_{i}') for i in range(config['blocks_per_level']))
    middle = lambda side: nn.ModuleList(
        block(f'{side}/middle_block_{i}')
        for i in range(config['middle_blocks']))
    self.stem = Conv(weights, 'encoder/stem')
    self.down_blocks = nn.ModuleList(
        blocks(f'encoder/level_{level}_block') for level in range(levels))
    self.downs = nn.ModuleList(
        Conv(weights, f'encoder/level_{level}_down', strides)
        for level, strides in enumerate(self.strides))
    self.encoder_middle = middle('encoder')
    self.encoder_norm = Norm(weights, 'encoder/norm', groups)
    self.outputs = Conv(weights, 'encoder/outputs')
    self.inputs = Conv(weights, 'decoder/inputs')
    self.decoder_middle = middle('decoder')
    self.up_blocks = nn.ModuleList(
        blocks(f'decoder/level_{level}_block') for level in range(levels))
    self.adaptive = nn.ModuleList(
        AdaptiveNorm(weights, f'decoder/level_{level}_adaptive', groups)
        for level in range(levels))
    self.ups = nn.ModuleList(
        Conv(weights, f'decoder/level_{level}_up')
        for level in range(1, levels))
    self.decoder_norm = Norm(weights, 'decoder/norm', groups)
    self.head = Conv(weights, 'decoder/head')

  def encode(self, x):
    """Maps pixels [B, 3, 1+T, H, W] to latents [B, c, 1+t, h, w]."""
    x = self.stem(x)
    for level, blocks in enumerate(self.down_blocks):
      for block in blocks:
        x = block(x)
      if level < len(self.downs):
        x = self.downs[level](x)
    for block in self.encoder_middle:
      x = block(x)
    return self.outputs(F.silu(self.encoder_norm(x)))

  def decode(self, latents):
    """Maps latents [B, c, 1+t, h, w] to pixels [B, 3, 1+T, H, W]."""
    x = self.inputs(latents)
    for block in self.decoder_middle:
      x = block(x)
    for level in reversed(range(len(self.up_blocks))):
      x = self.adaptive[level](x, latents)
      for block in self.up_blocks[level]:
        x = block(x)
      if level > 0:
        x = depth_to_space(self.ups[level - 1](x), self.strides[level - 1])
    return self.head(F.silu(self.decoder_norm(x)))

  def forward(self, x):
    """Maps pixels to reconstructed pixels."""
    return self.decode(self.encode(x))


def blur_downsample(x, strides):
  """Low-passes and subsamples [B, C, T, H, W] on axes with a stride."""
  for axis, stride in enumerate(strides, start=2):
    if stride == 1 or x.shape[axis] == 1:
      continue
    length = x.shape[axis]
    ends = (x.narrow(axis, 0, 1), x, x.narrow(axis, length - 1, 1))
    padded = torch.cat(ends, dim=axis)
    pick = lambda tap, axis=axis, length=length, stride=stride, y=padded: (
        y.narrow(axis, tap, length)[
            (slice(None),) * axis + (slice(None, None, stride),)])
    x = sum(weight * pick(tap) for tap, weight in enumerate(_BLUR))
  return x


class Discriminator(nn.Module):
  """The 3D patch discriminator of `walt_jax.tokenizer.discriminator`."""

  def __init__(self, weights, config):
    super().__init__()
    conv = lambda name: Conv(weights, f'discriminator/{name}', causal=False)
    self.strides = [(2 if halve else 1, 2, 2)
                    for halve in config['time_downsample']]
    self.inputs = conv('inputs')
    parts = ('conv_1', 'conv_2', 'shortcut')
    self.levels = nn.ModuleList(
        nn.ModuleList(conv(f'level_{level}_{part}') for part in parts)
        for level in range(len(self.strides)))
    self.mix, self.logits = conv('mix'), conv('logits')

  def forward(self, x):
    """Maps pixels [B, 3, T, H, W] to float32 logits [B, 1, T', H', W']."""
    x = F.leaky_relu(self.inputs(x), 0.2)
    for strides, (one, two, shortcut) in zip(
        self.strides, self.levels, strict=True):
      y = blur_downsample(F.leaky_relu(one(x), 0.2), strides)
      y = F.leaky_relu(two(y), 0.2)
      x = (shortcut(blur_downsample(x, strides)) + y) * math.sqrt(0.5)
    return self.logits(F.leaky_relu(self.mix(x), 0.2)).float()


def players_step(autoencoder, discriminator, pixels, adversarial_weight):
  """Gradients of both players, into `.grad`."""
  decoded = autoencoder(pixels).float()
  target = pixels.float()
  loss = torch.square(decoded - target).mean()
  (pull,) = torch.autograd.grad(loss, decoded, retain_graph=True)
  judged = decoded.detach().requires_grad_()
  fooled = F.softplus(-discriminator(judged.to(pixels.dtype))).mean()
  (push,) = torch.autograd.grad(fooled, judged)
  decoded.backward(pull + adversarial_weight * push)
  real = discriminator(pixels)
  fake = discriminator(decoded.detach().to(pixels.dtype))
  (F.softplus(-real).mean() + F.softplus(fake).mean()).backward()


def _milliseconds(call, device, repeats):
  sync = torch.cuda.synchronize if device == 'cuda' else lambda: None
  for _ in range(2):
    call()
  sync()
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    call()
    sync()
    times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)


def main():
  """Arguments: weights, clips, results, options as JSON."""
  weights_file, clips_file, results_file, options = sys.argv[1:]
  options = json.loads(options)
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.backends.cudnn.benchmark = True
  dtype = getattr(torch, options['dtype'])
  weights = dict(np.load(weights_file))
  autoencoder = Autoencoder(weights, options['model']).to(device)
  discriminator = Discriminator(weights, options['discriminator']).to(device)
  pixels = torch.from_numpy(np.load(clips_file)).permute(0, 4, 1, 2, 3).to(
      device, dtype).contiguous(memory_format=torch.channels_last_3d)
  with torch.no_grad():
    latents = autoencoder.encode(pixels)
    decoded = autoencoder.decode(latents)
    logits = discriminator(pixels)
  players_step(autoencoder, discriminator, pixels,
               options['adversarial_weight'])
  gradient = lambda module: math.sqrt(sum(
      float(p.grad.double().square().sum()) for p in module.parameters()))
  last = lambda x: x.float().permute(0, 2, 3, 4, 1).cpu().numpy()
  np.savez(results_file, latents=last(latents), pixels=last(decoded),
           logits=last(logits)[..., 0],
           gradients=[gradient(autoencoder), gradient(discriminator)])
  optimizers = [torch.optim.Adam(m.parameters(), 1e-4, betas=(0.0, 0.99),
                                 **(dict(fused=True) if device == 'cuda'
                                    else {}))
                for m in (autoencoder, discriminator)]
  encode, decode, step = autoencoder.encode, autoencoder.decode, players_step
  if options['compile']:
    encode, decode = torch.compile(encode), torch.compile(decode)
    autoencoder.compile()
    discriminator.compile()

  def train():
    for optimizer in optimizers:
      optimizer.zero_grad(set_to_none=True)
    step(autoencoder, discriminator, pixels, options['adversarial_weight'])
    for optimizer in optimizers:
      optimizer.step()

  @torch.no_grad()
  def apply(function, x):
    return function(x)

  repeats = options['repeats']
  print(json.dumps(dict(
      version=torch.__version__, device=device, threads=torch.get_num_threads(),
      encode=_milliseconds(lambda: apply(encode, pixels), device, repeats),
      decode=_milliseconds(lambda: apply(decode, latents), device, repeats),
      train_step=_milliseconds(train, device, repeats))))


if __name__ == '__main__':
  main()
