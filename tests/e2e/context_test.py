"""`walt sample --mesh context=..`: one clip's tokens on several devices."""
import json
import pathlib
import re
import tempfile

from absl.testing import absltest
import jax
import numpy as np

from tests.e2e import tiny
from walt_jax.core import exports
from walt_jax.core import run_files
from walt_jax.media import samples as samples_lib


def with_two_heads(folder: pathlib.Path) -> pathlib.Path:
  """An export of the tiny base whose one head became two: what is cut over
  devices needs more heads than one."""
  one, two = folder / 'one', folder / 'two'
  result = tiny.walt('export', '--workdir', tiny.run('base'), '--out', one)
  assert not result.code, result.err

  def leaf(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if re.search(r'(query|key|value)/kernel$', name):
      return x.reshape(*x.shape[:-2], 2, -1)
    if re.search(r'(query|key|value)/bias$', name):
      return x.reshape(*x.shape[:-2], 2, -1)
    if name.endswith('/out/kernel'):
      return x.reshape(*x.shape[:-3], 2, -1, x.shape[-1])
    if re.search(r'(query|key)_norm/scale$', name):
      return x[..., :x.shape[-1] // 2]
    if name.endswith('relative_bias'):
      return np.concatenate([x, 1 - x], -1)
    return x

  params, config = exports.load_export(one)
  config['model']['num_heads'] = 2
  # Three steps hardly move what begins at zero: tokens would change nothing.
  rng = np.random.default_rng(0)
  exports.save_export(two, jax.tree.map(
      lambda x: x + rng.normal(0, .2, x.shape).astype(x.dtype),
      jax.tree_util.tree_map_with_path(leaf, params)), config)
  exports.copy_export(one / run_files.TOKENIZER, two / run_files.TOKENIZER)
  return two


class ContextTest(absltest.TestCase):

  def test_a_clip_on_four_devices_is_that_of_one(self):
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      base = with_two_heads(folder)
      clips = {}
      for mesh, devices in (('data=1', 1), ('data=2,context=2', 4)):
        out = folder / mesh
        result = tiny.walt(
            'sample', '--workdir', base, '--out', out, '--prompt',
            'a seven moves left', '--guidance', 'text=3', '--steps', 2,
            '--mesh', mesh, devices=devices)
        self.assertEqual(result.code, 0, result.err)
        clips[devices] = samples_lib.read_samples(out).clips()[0]
      said = json.loads((out / 'samples.json').read_text())
      self.assertEqual(said['settings']['mesh'], dict(
          data=2, fsdp=1, tensor=1, context=2))
    # Pixels of one step of 255 are at the edge of two.
    apart = np.abs(clips[1].astype(int) - clips[4])
    self.assertLessEqual(apart.max(), 1)
    self.assertLess(apart.mean(), .01)
    self.assertGreater(clips[1].std(), 5)


if __name__ == '__main__':
  absltest.main()
