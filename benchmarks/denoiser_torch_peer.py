"""The denoiser as a PyTorch user would write it, for the accelerator benchmark.

Needs torch alone; run from the project's root. A training step is forward,
backward and fused AdamW on the squared error of v, for latents
[B, 5, 16, 16, 8] and the windows of W.A.L.T, with relative bias and QK norm;
`torch.compile` on a GPU. It serves timings as
`accelerator.turns` asks for them.
"""
import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.accelerator import turns

_LATENTS = 8
_INPUTS = 3 * _LATENTS + 1  # Noisy, the last estimate, given frames, mask.
_FRAMES = 5


class Attention(nn.Module):
  """Window attention with a bias a head and pair of tokens."""

  def __init__(self, width, heads, window):
    super().__init__()
    self.heads, self.window = heads, window
    self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
    self.query_norm = nn.LayerNorm(width // heads)
    self.key_norm = nn.LayerNorm(width // heads)
    tokens = window[0] * window[1] * window[2]
    self.bias = nn.Parameter(torch.zeros(heads, tokens, tokens))

  def forward(self, x, grid):
    """Maps [B, tokens, D] to the same shape."""
    batch, _, width = x.shape
    (t, h, w), (a, b, c) = grid, self.window
    x = x.view(batch, t // a, a, h // b, b, w // c, c, width)
    x = x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, a * b * c, width)
    q, k, v = self.qkv(x).view(
        *x.shape[:2], 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
    q, k = self.query_norm(q).to(v.dtype), self.key_norm(k).to(v.dtype)
    bias = self.bias.to(v.dtype)[None].expand(x.shape[0], -1, -1, -1)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    y = self.out(y.transpose(1, 2).reshape(x.shape))
    y = y.view(batch, t // a, h // b, w // c, a, b, c, width)
    return y.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, -1, width)


class Layer(nn.Module):
  """Attention and MLP, modulated by AdaLN-LoRA of rank 2."""

  def __init__(self, width, heads, window):
    super().__init__()
    self.attention = Attention(width, heads, window)
    self.norm = nn.LayerNorm(width, elementwise_affine=False)
    self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False)
    self.mlp = nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(approximate='tanh'),
        nn.Linear(4 * width, width))
    self.down = nn.Linear(width, 2, bias=False)
    self.up = nn.Linear(2, 6 * width, bias=False)

  def forward(self, x, embedding, shared, grid):
    vectors = shared + self.up(self.down(embedding))
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (
        vectors.unsqueeze(1).chunk(6, -1))
    y = self.attention(self.norm(x) * (1 + scale) + shift, grid)
    x = x + gate * y
    y = self.mlp(self.mlp_norm(x) * (1 + mlp_scale) + mlp_shift)
    return x + mlp_gate * y


class Denoiser(nn.Module):
  """Predicts v of noisy latents."""

  def __init__(self, depth, width, heads, side):
    super().__init__()
    self.grid = (_FRAMES, side, side)
    self.inputs = nn.Linear(_INPUTS, width)
    self.output = nn.Linear(width, _LATENTS)
    self.position = nn.Parameter(
        0.02 * torch.randn(_FRAMES * side * side, width))
    self.time = nn.Sequential(
        nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
    self.shared = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
    windows = ((1, side, side), (_FRAMES, side // 2, side // 2))
    self.layers = nn.ModuleList(
        Layer(width, heads, windows[index % 2]) for index in range(depth))
    self.norm = nn.LayerNorm(width, elementwise_affine=False)

  def forward(self, z, t):
    """Maps [B, T, H, W, inputs] and times [B] to [B, T, H, W, 8]."""
    frequency = torch.exp(-torch.arange(128, device=z.device) * (9.21 / 128))
    angle = frequency * t[:, None] * 1000
    embedding = self.time(torch.cat([angle.cos(), angle.sin()], -1))
    shared = self.shared(embedding)
    x = self.inputs(z.flatten(1, 3)) + self.position
    for layer in self.layers:
      x = layer(x, embedding, shared, self.grid)
    return self.output(self.norm(x)).view(*z.shape[:4], -1)


def main():
  """Serves timings of the training step."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  for name in ('depth', 'width', 'heads', 'batch', 'side'):
    parser.add_argument(f'--{name}', type=int, required=True)
  args = parser.parse_args()
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.backends.cuda.matmul.allow_tf32 = True
  torch.set_num_threads(1)  # A GPU needs no more; a CPU is compared so.
  model = Denoiser(args.depth, args.width, args.heads, args.side).to(device)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
  shape = (args.batch, _FRAMES, args.side, args.side)
  z = torch.randn(*shape, _INPUTS, device=device)
  target = torch.randn(*shape, _LATENTS, device=device)
  t = torch.rand(args.batch, device=device)
  forward = torch.compile(model) if device == 'cuda' else model

  def step():
    with torch.autocast(device, torch.bfloat16):
      loss = F.mse_loss(forward(z, t).float(), target)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  def wait():
    if device == 'cuda':
      torch.cuda.synchronize()

  began = time.perf_counter()
  step()
  wait()
  compile_seconds = time.perf_counter() - began
  if device == 'cuda':
    torch.cuda.reset_peak_memory_stats()
    step()
  turns.serve(dict(
      torch=torch.__version__, compile_seconds=round(compile_seconds, 1),
      parameters=sum(p.numel() for p in model.parameters()),
      peak_bytes=(torch.cuda.max_memory_allocated() if device == 'cuda'
                  else None)), step, wait=wait)


if __name__ == '__main__':
  main()
