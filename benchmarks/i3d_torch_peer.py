"""I3D in PyTorch, for `i3d_speed`; needs torch and NumPy only.

Reads the folded weights and clips that `i3d_speed` wrote, writes logits and
seconds a clip, pass by pass. Batch norms are folded here as well, so that both
networks carry out the same convolutions.
"""
import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

_MIXED = ('Mixed_3b', 'Mixed_3c', 'Mixed_4b', 'Mixed_4c', 'Mixed_4d',
          'Mixed_4e', 'Mixed_4f', 'Mixed_5b', 'Mixed_5c')
_POOL_BEFORE = {
    'Mixed_3b': ((1, 3, 3), (1, 2, 2)),
    'Mixed_4b': ((3, 3, 3), (2, 2, 2)),
    'Mixed_5b': ((2, 2, 2), (2, 2, 2)),
}
_LAYOUTS = {'contiguous': torch.contiguous_format,
            'channels_last': torch.channels_last_3d}


def _same(x, window, stride):
  """Pads [B, C, T, H, W] as TensorFlow's "SAME"."""
  pads = []
  for extent, size, step in zip(x.shape[2:], window, stride, strict=True):
    total = max((-(-extent // step) - 1) * step + size - extent, 0)
    pads = [total // 2, total - total // 2] + pads
  return F.pad(x, pads) if any(pads) else x


class Unit(nn.Module):
  """A convolution with its rectifier."""

  def __init__(self, kernel, bias, stride=(1, 1, 1)):
    super().__init__()
    if kernel.ndim == 2:
      kernel = kernel[None, None, None]
    weight = torch.from_numpy(np.ascontiguousarray(
        kernel.transpose(4, 3, 0, 1, 2)))
    self.weight, self.bias = nn.Parameter(weight), nn.Parameter(
        torch.from_numpy(bias))
    self.size, self.stride = tuple(weight.shape[2:]), stride

  def forward(self, x):
    """Maps [B, C, T, H, W] to its "SAME" convolution."""
    x = _same(x, self.size, self.stride)
    return F.relu_(F.conv3d(x, self.weight, self.bias, self.stride))


def _pool(x, window, stride):
  return F.max_pool3d(_same(x, window, stride), window, stride)


class Mixed(nn.Module):
  """An Inception block."""

  def __init__(self, weights, name):
    super().__init__()
    unit = lambda part: Unit(weights[f'{name}/{part}/kernel'],
                             weights[f'{name}/{part}/bias'])
    self.enter = unit('enter')
    self.branch_1, self.branch_2 = unit('branch_1'), unit('branch_2')
    self.branch_3 = unit('branch_3')

  def forward(self, x):
    """Joins the four branches on channels."""
    into_1 = self.branch_1.weight.shape[1]
    into_2 = self.branch_2.weight.shape[1]
    entered = self.enter(x)
    width = entered.shape[1] - into_1 - into_2
    first, inner_1, inner_2 = entered.split((width, into_1, into_2), 1)
    return torch.cat([
        first, self.branch_1(inner_1), self.branch_2(inner_2),
        self.branch_3(_pool(x, (3, 3, 3), (1, 1, 1)))], 1)


class I3D(nn.Module):
  """The network of `walt_jax.pretrained.i3d`."""

  def __init__(self, weights):
    super().__init__()
    get = lambda name: (weights[f'{name}/kernel'], weights[f'{name}/bias'])
    self.stem = Unit(*get('stem'), (2, 2, 2))
    self.conv_2b, self.conv_2c = Unit(*get('conv_2b')), Unit(*get('conv_2c'))
    self.mixed = nn.ModuleDict({n: Mixed(weights, n) for n in _MIXED})
    kernel, bias = get('logits')
    self.logits = nn.Linear(*kernel.shape)
    self.logits.weight = nn.Parameter(torch.from_numpy(
        np.ascontiguousarray(kernel.T)))
    self.logits.bias = nn.Parameter(torch.from_numpy(bias))

  def forward(self, x):
    """Maps [B, 3, T, 224, 224] to logits [B, 400]."""
    x = self.conv_2b(_pool(self.stem(x), (1, 3, 3), (1, 2, 2)))
    x = self.conv_2c(x)
    for name, block in self.mixed.items():
      if name in _POOL_BEFORE:
        x = _pool(x, *_POOL_BEFORE[name])
      x = block(x)
    x = F.avg_pool3d(x, (2, 7, 7), 1).mean((2, 3, 4))
    return self.logits(x)


def main(weights_path, clips_path, out_path, layout):
  """Runs a pass for each line of standard input; prints its seconds."""
  weights, clips = dict(np.load(weights_path)), np.load(clips_path)
  memory_format = _LAYOUTS[layout]
  model = I3D(weights).eval().to(memory_format=memory_format)
  x = torch.from_numpy(clips).permute(0, 4, 1, 2, 3)
  x = x.contiguous(memory_format=memory_format)
  with torch.inference_mode():
    for _ in sys.stdin:
      start = time.perf_counter()
      logits = torch.cat([model(clip[None]) for clip in x])
      seconds = (time.perf_counter() - start) / len(x)
      np.save(out_path, logits.numpy())
      print(json.dumps(dict(seconds=seconds, version=torch.__version__)),
            flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
