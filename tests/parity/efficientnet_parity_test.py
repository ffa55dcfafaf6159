"""EfficientNet-Lite against a plain PyTorch module with random weights."""
import pathlib
import tempfile

from absl.testing import parameterized
import jax
import numpy as np
import pytest

torch = pytest.importorskip('torch')
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from tests.parity import evaluation_parity_test as peers  # noqa: E402
from walt_jax.pretrained import efficientnet  # noqa: E402

# (outputs of a block, kernel, expansion, stride, blocks) of each stage.
_STAGES = {
    efficientnet.LITE0: (
        (16, 3, 1, 1, 1), (24, 3, 6, 2, 2), (40, 5, 6, 2, 2),
        (80, 3, 6, 2, 3), (112, 5, 6, 1, 3), (192, 5, 6, 2, 4),
        (320, 3, 6, 1, 1)),
    efficientnet.LITE2: (
        (16, 3, 1, 1, 1), (24, 3, 6, 2, 3), (48, 5, 6, 2, 3),
        (88, 3, 6, 2, 4), (120, 5, 6, 1, 4), (208, 5, 6, 2, 5),
        (352, 3, 6, 1, 1))}


def _same(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
  """TensorFlow's "SAME" padding: more behind than before."""
  pads = []
  for extent in reversed(x.shape[2:]):
    size, stride = conv.kernel_size[0], conv.stride[0]
    total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
    pads += [total // 2, total - total // 2]
  return conv(F.pad(x, pads))


def _norm(width: int) -> nn.BatchNorm2d:
  return nn.BatchNorm2d(width, eps=1e-3)


class Block(nn.Module):

  def __init__(self, inputs, outputs, size, expansion, stride):
    super().__init__()
    width = inputs * expansion
    if expansion > 1:
      self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
      self._bn0 = _norm(width)
    self._depthwise_conv = nn.Conv2d(
        width, width, size, stride, groups=width, bias=False)
    self._bn1 = _norm(width)
    self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
    self._bn2 = _norm(outputs)

  def forward(self, x):
    y = x
    if hasattr(self, '_expand_conv'):
      y = F.relu6(self._bn0(self._expand_conv(y)))
    y = F.relu6(self._bn1(_same(self._depthwise_conv, y)))
    y = self._bn2(self._project_conv(y))
    return x + y if x.shape == y.shape else y


class Lite(nn.Module):

  def __init__(self, stages):
    super().__init__()
    self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
    self._bn0 = _norm(32)
    blocks, inputs = [], 32
    for outputs, size, expansion, stride, count in stages:
      for number in range(count):
        blocks.append(Block(inputs, outputs, size, expansion,
                            1 if number else stride))
        inputs = outputs
    self._blocks = nn.ModuleList(blocks)
    self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
    self._bn1, self._fc = _norm(1280), nn.Linear(1280, 1000)

  def forward(self, x):
    x = F.relu6(self._bn0(_same(self._conv_stem, x)))
    maps = []
    for block in self._blocks:
      y = block(x)
      if y.shape[2] < x.shape[2]:
        maps.append(x)
      x = y
    x = F.relu6(self._bn1(self._conv_head(x)))
    return maps, self._fc(x.mean((2, 3)))


class EfficientnetParityTest(parameterized.TestCase):

  @parameterized.parameters(*_STAGES)
  def test_maps_and_logits(self, name):
    model = peers.randomise(Lite(_STAGES[name]))
    images = np.random.default_rng(0).integers(
        0, 256, (2, 70, 54, 3)).astype(np.uint8)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
      maps, logits = model(x)
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'lite.pth'
      torch.save(model.state_dict(), path)
      params, _ = efficientnet.load(path, name=name)
    ours = jax.jit(efficientnet.features)(params, images)
    pairs = [(o, t.permute(0, 2, 3, 1)) for o, t in zip(
        ours[:-1], maps, strict=True)]
    pairs.append((jax.jit(efficientnet.logits)(params, images), logits))
    for found, expected in pairs:
      expected = expected.numpy()
      self.assertEqual(found.shape, expected.shape)
      self.assertLess(np.abs(found - expected).max()
                      / np.abs(expected).max(), 1e-4)
