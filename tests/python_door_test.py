"""The public names of `walt_jax`, and the notebook that shows them."""
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
import jax
import numpy as np
import pytest

from tests.e2e import tiny
import walt_jax
from walt_jax.core import errors
from walt_jax.parallel import mesh as mesh_lib

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_NOTEBOOK = _ROOT / 'examples' / 'sample_clips.ipynb'
_PROMPT = 'a seven moves left'


class ImportTest(absltest.TestCase):

  def test_importing_the_package_imports_nothing_heavy(self):
    code = ('import sys, walt_jax; walt_jax.__version__; '
            "print({'jax', 'numpy', 'flax'} & set(sys.modules))")
    found = subprocess.run([sys.executable, '-c', code], cwd=_ROOT, text=True,
                           capture_output=True, check=True)
    self.assertEqual(found.stdout.strip(), 'set()')

  def test_every_public_name_is_there_and_documented(self):
    api = (_ROOT / 'docs' / 'api.md').read_text()
    for name in walt_jax.__all__:
      self.assertIsNotNone(getattr(walt_jax, name), name)
      self.assertIn(name, dir(walt_jax))
      self.assertIn(f'`{name}', api)
    with self.assertRaisesRegex(AttributeError, 'fvdd'):
      _ = walt_jax.fvdd


class SampleTest(absltest.TestCase):

  @pytest.mark.slow
  def test_draws_what_the_command_draws(self):
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    stages = f'{tiny.run("base")},{tiny.run("sr")}'
    result = tiny.walt(
        'sample', '--workdir', stages, '--out', out / 'samples', '--prompt',
        _PROMPT, '--num_samples', 2, '--seed', 3, '--guidance', 'text=2;none')
    self.assertEqual(result.code, 0, result.err)
    want = [np.load(file) for file in sorted((out / 'samples').glob('0*.npy'))
            if file.stem.isdigit()]
    found = walt_jax.load(stages, mesh=one_device()).sample(
        _PROMPT, num_samples=2, seed=3, guidance=2)
    self.assertEqual(found.shape, (2, 5, 32, 32, 3))
    np.testing.assert_array_equal(found, np.stack(want))

  def test_what_a_stage_cannot_do_is_one_line(self):
    sampler = walt_jax.load(tiny.run('base'), mesh=one_device())
    with self.assertRaisesRegex(errors.UserError, 'zebra'):
      sampler.sample(label='zebra')
    with self.assertRaisesRegex(errors.UserError, 'config.json'):
      walt_jax.load('no/such/folder')

  def test_weights_are_those_of_an_export(self):
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    workdir = tiny.run('base')
    self.assertEqual(tiny.walt(
        'export', '--workdir', workdir, '--out', out / 'export').code, 0)
    jax.tree.map(np.testing.assert_array_equal,
                 walt_jax.load_params(workdir),
                 walt_jax.load_params(out / 'export'))


class ScoresTest(absltest.TestCase):

  def test_equal_and_unlike_clips(self):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 255, (2, 3, 16, 16, 3), np.uint8)
    found = walt_jax.reconstruction_scores(clips, clips)
    self.assertEqual(found['psnr'], 100.0)
    self.assertAlmostEqual(found['ssim'], 1.0, places=5)
    # A shift of 25.5 grey levels is a tenth of the range: 20 dB.
    flat = np.full((1, 2, 16, 16, 3), 100, np.uint8)
    found = walt_jax.reconstruction_scores(flat, flat + 51)
    self.assertAlmostEqual(found['psnr'], 20 * np.log10(5), places=3)
    with self.assertRaisesRegex(ValueError, 'uint8'):
      walt_jax.fvd(clips / 255.0, clips)


class NotebookTest(absltest.TestCase):

  @pytest.mark.slow
  def test_every_cell_runs(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    runs = root / 'runs' / 'quickstart'
    runs.mkdir(parents=True)
    for name, stage in dict(tokenizer='tokenizer', base='base',
                            sr1='sr').items():
      (runs / name).symlink_to(tiny.run(stage))
    cells = json.loads(_NOTEBOOK.read_text())['cells']
    code = [''.join(cell['source']) for cell in cells
            if cell['cell_type'] == 'code']
    names: dict = {}
    with (contextlib.chdir(root),
          contextlib.redirect_stdout(io.StringIO())):
      for source in code:
        exec(compile(source, str(_NOTEBOOK), 'exec'), names)
    self.assertEqual(names['clips'].shape, (4, 5, 16, 16, 3))
    self.assertEqual(names['large'].shape, (1, 5, 32, 32, 3))
    self.assertEqual(names['decoded'].shape, names['clips'].shape)


def one_device() -> jax.sharding.Mesh:
  return mesh_lib.make_mesh(devices=jax.devices()[:1])


if __name__ == '__main__':
  absltest.main()
