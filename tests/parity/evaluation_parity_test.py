"""Evaluation networks against PyTorch with the same random weights.

I3D against an independent PyTorch module that names and orders its parts as
the common port does, InceptionV3 against pytorch-fid's, C3D against a plain
one. Weights go through files, so that the reader is compared as well.
"""
import collections
import pathlib
import tempfile

from absl.testing import parameterized
import jax
import numpy as np
import pytest

torch = pytest.importorskip('torch')
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from walt_jax.metrics import resizing  # noqa: E402
from walt_jax.pretrained import c3d  # noqa: E402
from walt_jax.pretrained import i3d  # noqa: E402
from walt_jax.pretrained import inception  # noqa: E402

_MIXED = {
    'Mixed_3b': (192, 64, 96, 128, 16, 32, 32),
    'Mixed_3c': (256, 128, 128, 192, 32, 96, 64),
    'Mixed_4b': (480, 192, 96, 208, 16, 48, 64),
    'Mixed_4c': (512, 160, 112, 224, 24, 64, 64),
    'Mixed_4d': (512, 128, 128, 256, 24, 64, 64),
    'Mixed_4e': (512, 112, 144, 288, 32, 64, 64),
    'Mixed_4f': (528, 256, 160, 320, 32, 128, 128),
    'Mixed_5b': (832, 256, 160, 320, 32, 128, 128),
    'Mixed_5c': (832, 384, 192, 384, 48, 128, 128)}


def _pad_same(x, window, stride):
  pads = []
  for extent, size, step in zip(x.shape[2:], window, stride, strict=True):
    total = max((-(-extent // step) - 1) * step + size - extent, 0)
    pads = [total // 2, total - total // 2] + pads
  return F.pad(x, pads)


class Unit3D(nn.Module):

  def __init__(self, inputs, outputs, size, stride=1, plain=False):
    super().__init__()
    self.size, self.stride = (size,) * 3, (stride,) * 3
    self.conv3d = nn.Conv3d(inputs, outputs, size, stride, bias=plain)
    self.bn = None if plain else nn.BatchNorm3d(outputs, eps=1e-3)

  def forward(self, x):
    x = self.conv3d(_pad_same(x, self.size, self.stride))
    return x if self.bn is None else F.relu(self.bn(x))


def _pool(x, window, stride):
  return F.max_pool3d(_pad_same(x, window, stride), window, stride)


class Mixed(nn.Module):

  def __init__(self, inputs, b0, b1a, b1b, b2a, b2b, b3):
    super().__init__()
    self.b0 = Unit3D(inputs, b0, 1)
    self.b1a, self.b1b = Unit3D(inputs, b1a, 1), Unit3D(b1a, b1b, 3)
    self.b2a, self.b2b = Unit3D(inputs, b2a, 1), Unit3D(b2a, b2b, 3)
    self.b3b = Unit3D(inputs, b3, 1)

  def forward(self, x):
    return torch.cat([
        self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)),
        self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))], 1)


class TorchI3D(nn.Module):

  def __init__(self):
    super().__init__()
    self.logits = Unit3D(1024, 400, 1, plain=True)  # First, as in the port.
    self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, 2)
    self.Conv3d_2b_1x1 = Unit3D(64, 64, 1)
    self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
    for name, widths in _MIXED.items():
      self.add_module(name, Mixed(*widths))

  def forward(self, x):
    x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
    x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    for name in _MIXED:
      if name == 'Mixed_4b':
        x = _pool(x, (3, 3, 3), (2, 2, 2))
      if name == 'Mixed_5b':
        x = _pool(x, (2, 2, 2), (2, 2, 2))
      x = getattr(self, name)(x)
    return self.logits(F.avg_pool3d(x, (2, 7, 7), 1)).mean((2, 3, 4))


def randomise(model):
  """Weights that keep activations of order one, norms that matter."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, value in model.state_dict().items():
      if not value.is_floating_point():
        continue
      noise = torch.randn(value.shape, generator=generator)
      if value.ndim > 1:
        value.copy_(noise * (1.5 / value[0].numel()) ** 0.5)
      elif 'var' in name:
        value.copy_(noise.abs() + 0.5)
      elif 'mean' in name or name.endswith('bias'):
        value.copy_(0.2 * noise)
      else:
        value.copy_(1 + 0.2 * noise)
  return model.eval()


class EvaluationParityTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))
    self.rng = np.random.default_rng(0)

  def close(self, ours, theirs):
    ours, theirs = np.asarray(ours), theirs.numpy()
    self.assertGreater(theirs.std(), 1e-3)
    gap = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f'{self.id().rsplit(".", 1)[-1]}: largest gap {gap:.1e} of the '
          f'largest value {np.abs(theirs).max():.3g}')
    self.assertLess(gap, 1e-4)

  @parameterized.parameters(
      ('stacked', False), ('stacked', True), ('native', False))
  def test_i3d(self, form, script):
    model = randomise(TorchI3D())
    path = self.folder / 'i3d.pt'
    clips = self.rng.uniform(-1, 1, (2, 11, 224, 224, 3)).astype(np.float32)
    x = torch.from_numpy(clips).permute(0, 4, 1, 2, 3)
    with torch.no_grad():
      theirs = model(x)
      if script:
        torch.jit.save(torch.jit.trace(model, x[:1]), path)
      else:
        torch.save(model.state_dict(), path)
    params, info = i3d.load(path)
    self.assertEqual(info.name, 'i3d-unknown')
    run = jax.jit(lambda p, c: i3d.features(p, c, conv_form=form))
    self.close(run(params, clips), theirs)

  def test_inception(self):
    module = pytest.importorskip('pytorch_fid.inception')
    model = randomise(_fid_inception(module))
    path = self.folder / 'pt_inception.pth'
    torch.save(model.state_dict(), path)
    images = self.rng.integers(0, 256, (2, 64, 80, 3)).astype(np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    # As in pytorch_fid.inception.InceptionV3.forward.
    x = 2 * F.interpolate(x, size=(299, 299), mode='bilinear',
                          align_corners=False) - 1
    found = {}
    model.avgpool.register_forward_hook(
        lambda _, inputs, output: found.update(pooled=output.flatten(1)))
    model.Mixed_6d.branch1x1.register_forward_hook(
        lambda _, inputs, output: found.update(spatial=output))
    with torch.no_grad():
      logits = model(x) - model.fc.bias
    params, info = inception.load(path)
    self.assertEqual(info.name, inception.NAME)
    ours = jax.jit(inception.features)(
        params, resizing.resize(images.astype(np.float32), 299,
                                grid='half-pixel') * (2 / 255) - 1)
    self.close(ours.pooled, found['pooled'])
    self.close(ours.logits, logits)
    self.close(ours.spatial, found['spatial'].permute(0, 2, 3, 1)[
        ..., :7].flatten(1))

  def test_c3d(self):
    model = random_c3d()
    mean = self.rng.uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
    clips = self.rng.integers(0, 256, (2, 16, 40, 50, 3)).astype(np.uint8)
    with torch.no_grad():
      theirs = c3d_logits(model, mean, clips)
    params, _ = c3d.load(*save_c3d(self.folder, model, mean))
    ours = jax.jit(c3d.logits)(params, resizing.resize(
        clips.astype(np.float32), 112, grid='corners'))
    self.close(ours, theirs)


C3D_CONVS = dict(
    conv1a=(3, 64), conv2a=(64, 128), conv3a=(128, 256), conv3b=(256, 256),
    conv4a=(256, 512), conv4b=(512, 512), conv5a=(512, 512),
    conv5b=(512, 512))
C3D_DENSE = dict(fc6=(8192, 4096), fc7=(4096, 4096), fc8=(4096, 101))


def random_c3d() -> nn.ModuleDict:
  """C3D's layers with random weights."""
  layers = collections.OrderedDict()
  for name, (inputs, outputs) in C3D_CONVS.items():
    layers[name] = nn.Conv3d(inputs, outputs, 3, padding=1)
  for name, sizes in C3D_DENSE.items():
    layers[name] = nn.Linear(*sizes)
  return randomise(nn.ModuleDict(layers))


def save_c3d(folder: pathlib.Path, model: nn.ModuleDict,
             mean: np.ndarray) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes the weights and the mean clip as TGAN names them."""
  weights, means = folder / 'conv3d_deepnetA_ucf.npz', folder / 'mean2.npz'
  state = {name.replace('.weight', '/W').replace('.bias', '/b'): v.numpy()
           for name, v in model.state_dict().items()}
  np.savez(weights, **state)
  np.savez(means, mean=mean)
  return weights, means


def c3d_logits(model: nn.ModuleDict, mean: np.ndarray,
               clips: np.ndarray) -> torch.Tensor:
  """TGAN-v2's C3DVersion1UCF101 of clips uint8 [N, 16, H, W, 3]."""
  count, frames, height, width, _ = clips.shape
  x = torch.from_numpy(clips).float() / 127.5 - 1  # Its x is in [-1, 1].
  x = x.flip(-1).permute(0, 1, 4, 2, 3).reshape(
      count * frames, 3, height, width) * 127.5
  x = F.interpolate(x, size=(112, 112), mode='bilinear', align_corners=True)
  x = x.reshape(count, frames, 3, 112, 112).transpose(1, 2)
  x = x + 127.5 - torch.from_numpy(mean[None, :, :, 8:120, 8:120])
  for name in C3D_CONVS:
    x = F.relu(model[name](x))
    if name == 'conv1a':
      x = F.max_pool3d(x, (1, 2, 2))
    elif name in ('conv2a', 'conv3b', 'conv4b', 'conv5b'):
      x = F.max_pool3d(x, 2, ceil_mode=True)
  x = F.relu(model['fc6'](x.flatten(1)))
  return model['fc8'](F.relu(model['fc7'](x)))


def _fid_inception(module):
  """pytorch-fid's network without its download."""
  original = module.load_state_dict_from_url
  module.load_state_dict_from_url = lambda *args, **kwargs: {}
  load = nn.Module.load_state_dict
  nn.Module.load_state_dict = lambda self, state, **kwargs: None
  try:
    return module.fid_inception_v3()
  finally:
    module.load_state_dict_from_url = original
    nn.Module.load_state_dict = load
