"""The PyTorch side of `cpu_speed`, eager, float32, on one core.

  python -m benchmarks.cpu_torch_peer CASE OPTIONS [WEIGHTS CLIPS]

Needs torch and NumPy alone. OPTIONS is JSON; the tokenizer's weights and clips
are those of the other side. It serves timings as `cpu_speed` asks for them.
"""
import json
import math
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import denoiser_torch_peer
from benchmarks import tokenizer_torch_peer
from benchmarks.accelerator import turns

_FRAMES, _INPUTS, _LATENTS = 5, 25, 8


def _denoiser(case, options):
  """A step of the denoiser: 'forward', 'train' or 'sample'."""
  model = denoiser_torch_peer.Denoiser(
      options['depth'], options['width'], options['heads'], options['side'])
  shape = (options['batch'], _FRAMES, options['side'], options['side'])
  z, target = torch.randn(*shape, _INPUTS), torch.randn(*shape, _LATENTS)
  times = torch.rand(options['batch'])
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

  @torch.no_grad()
  def forward():
    model(z, times)

  def train():
    F.mse_loss(model(z, times), target).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  @torch.no_grad()
  def sample():
    x, rest = target, z[..., _LATENTS:]
    count = options['samples']
    for index in range(count):
      now, then = (0.5 * math.pi * (1 - (index + i) / count) for i in (0, 1))
      v = model(torch.cat([x, rest], -1), times)
      x_0 = math.cos(now) * x - math.sin(now) * v
      eps = math.sin(now) * x + math.cos(now) * v
      x = math.cos(then) * x_0 + math.sin(then) * eps

  return dict(forward=forward, train=train, sample=sample)[case]


def _tokenizer(case, options, weights_file, clips_file):
  """A step of the tokenizer: 'encode', 'decode' or 'gan'."""
  peer = tokenizer_torch_peer
  weights = dict(np.load(weights_file))
  autoencoder = peer.Autoencoder(weights, options['model'])
  discriminator = peer.Discriminator(weights, options['discriminator'])
  pixels = torch.from_numpy(np.load(clips_file)).permute(
      0, 4, 1, 2, 3).contiguous(memory_format=torch.channels_last_3d)
  with torch.no_grad():
    latents = autoencoder.encode(pixels)
  optimizers = [torch.optim.Adam(m.parameters(), 1e-4, betas=(0.0, 0.99))
                for m in (autoencoder, discriminator)]

  @torch.no_grad()
  def encode():
    autoencoder.encode(pixels)

  @torch.no_grad()
  def decode():
    autoencoder.decode(latents)

  def gan():
    for optimizer in optimizers:
      optimizer.zero_grad(set_to_none=True)
    peer.players_step(
        autoencoder, discriminator, pixels, options['adversarial_weight'])
    for optimizer in optimizers:
      optimizer.step()

  return dict(encode=encode, decode=decode, gan=gan)[case]


def main():
  """Serves timings: processor milliseconds of steps, and peak memory."""
  case, text, *files = sys.argv[1:]
  torch.set_num_threads(1)
  make = _tokenizer if files else _denoiser
  step = make(case, json.loads(text), *files)
  step()
  turns.serve(dict(torch=torch.__version__), step, time.process_time)


if __name__ == '__main__':
  main()
