"""metrics.jsonl reads back exactly and survives restarts."""
import math
import pathlib
import tempfile

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np

from walt_jax.core import run_files
from walt_jax.training import logging


class WriterTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))

  def test_floats_read_back_exactly(self):
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 500, dtype=np.uint32)
    values = [v for v in bits.view(np.float32) if math.isfinite(v)]
    values += [np.float32(1e-45), np.float64(0.1), 1 / 3, -0.0]
    writer = logging.Writer(self.workdir, writers=())
    writer.write_scalars(3, {f'v{i}': v for i, v in enumerate(values)})
    writer.close()
    (line,) = run_files.read_metrics(self.workdir).lines
    self.assertEqual(line['step'], 3)
    for index, value in enumerate(values):
      self.assertEqual(line[f'v{index}'], value)

  def test_kinds_of_numbers(self):
    writer = logging.Writer(self.workdir, writers=())
    writer.write_scalars(1, {
        'int': jnp.int32(4), 'bool': np.bool_(True), 'nan': jnp.nan,
        'half': jnp.bfloat16(0.5)})
    (line,) = run_files.read_metrics(self.workdir).lines
    self.assertEqual((line['int'], line['bool'], line['half']), (4, 1, 0.5))
    self.assertTrue(math.isnan(line['nan']))
    with self.assertRaisesRegex(ValueError, 'scalar'):
      writer.write_scalars(1, {'vector': np.ones(2)})

  def test_resume_drops_later_and_cut_lines(self):
    writer = logging.Writer(self.workdir, writers=())
    for step in (1, 2, 3):
      writer.write_scalars(step, {'a': step})
    with open(self.workdir / 'metrics.jsonl', 'a') as file:
      file.write('{"step": 2, "a"')
    writer.resume(2)
    writer.write_scalars(3, {'a': 30})
    self.assertEqual(
        [line['a'] for line in run_files.read_metrics(self.workdir).lines],
        [1, 2, 30])

  def test_images_are_png(self):
    writer = logging.Writer(self.workdir, writers=())
    writer.write_images(7, {'a/b': np.zeros((2, 3, 3), np.uint8)})
    self.assertTrue(
        (self.workdir / 'eval' / 'step_00000007_a_b.png').exists())
    with self.assertRaisesRegex(ValueError, 'not uint8'):
      writer.write_images(7, {'x': np.zeros((2, 3, 3), np.float32)})


if __name__ == '__main__':
  absltest.main()
