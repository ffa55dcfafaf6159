"""LPIPS against the package `lpips`, with random backbones.

Run as a program, it prints the distances in tests/pretrained/lpips_test.py.
"""
import pathlib
import tempfile

from absl.testing import parameterized
import jax
import numpy as np
import pytest

torch = pytest.importorskip('torch')
peer = pytest.importorskip('lpips')

from tests.pretrained import lpips_test  # noqa: E402
from walt_jax.pretrained import lpips  # noqa: E402


def reference(name: str, *, own_heads: bool) -> np.ndarray:
  """The package's distances of `lpips_test.images`, with random weights."""
  model = peer.LPIPS(net=name, pnet_rand=True, verbose=False)
  state = {key.split('.', 1)[1]: torch.from_numpy(value)
           for key, value in lpips_test.backbone_state(name).items()}
  # The package's slices keep torchvision's numbers.
  parts = {f'{number}.{kind}': parameter
           for key, parameter in model.net.named_parameters()
           for _, number, kind in [key.split('.')]}
  with torch.no_grad():
    for key, parameter in parts.items():
      parameter.copy_(state.pop(key))
    assert not state, list(state)
    if not own_heads:
      model.load_state_dict(
          {key: torch.from_numpy(value)
           for key, value in lpips_test.head_state(name).items()},
          strict=False)
    pair = [torch.from_numpy(images).permute(0, 3, 1, 2)
            for images in lpips_test.images()]
    return model(*pair).numpy().reshape(-1)


class LpipsParityTest(parameterized.TestCase):

  @parameterized.product(name=('alex', 'vgg'), own_heads=(True, False))
  def test_equal_to_the_package(self, name, own_heads):
    with tempfile.TemporaryDirectory() as folder:
      backbone = pathlib.Path(folder) / 'backbone.npz'
      np.savez(backbone, **lpips_test.backbone_state(name))
      heads = None
      if not own_heads:
        heads = pathlib.Path(folder) / 'heads.npz'
        np.savez(heads, **lpips_test.head_state(name))
      params, _ = lpips.load(backbone, heads)
    found = jax.jit(lpips.distance)(params, *lpips_test.images())
    expected = reference(name, own_heads=own_heads)
    self.assertGreater(expected.min(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


if __name__ == '__main__':
  for net in ('alex', 'vgg'):
    print(net, [float(value) for value in reference(net, own_heads=False)])
