"""Writers beside the files: absent, failing, and what W&B is told."""
import contextlib
import io
import pathlib
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.core import run_files
from walt_jax.training import logging
from walt_jax.training import sinks


class FakeWandB:
  """The part of W&B's package that is used; notes what it is told."""

  def __init__(self):
    self.calls = []
    self.fails = False

  def init(self, **arguments):
    self.calls.append(('init', arguments))
    return self

  def define_metric(self, name, step_metric):
    self.calls.append(('define_metric', name, step_metric))

  def log(self, values):
    if self.fails:
      raise RuntimeError('no network\nat all')
    self.calls.append(('log', values))

  def Image(self, image):  # noqa: N802
    return image.shape

  def finish(self):
    self.calls.append(('finish',))


class SinksTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'base')
    self.out = io.StringIO()

  def packages(self, **found):
    """Imports these and no other package."""
    def import_module(name):
      if name not in found:
        raise ImportError(f'No module named {name!r}')
      return found[name]
    self.enterContext(mock.patch.object(
        sinks.importlib, 'import_module', import_module))

  def write(self, *writers, steps=(1, 2)):
    with contextlib.redirect_stdout(self.out):
      writer = logging.Writer(
          self.workdir, writers=writers, config={'seed': 3})
      for step in steps:
        writer.write_scalars(step, {'train/loss': 0.5 * step})
      writer.write_images(2, {'grid': np.zeros((4, 6, 3), np.uint8)})
      writer.close()

  @parameterized.parameters('tensorboard', 'wandb')
  def test_an_absent_package_is_told_in_one_line(self, name):
    self.packages()
    self.write(name)
    (line,) = self.out.getvalue().splitlines()
    self.assertRegex(line, f'^No .*No module named.*metrics.jsonl has.*{name}')
    self.assertLen(run_files.read_metrics(self.workdir).lines, 2)

  def test_a_run_of_wandb_is_continued(self):
    wandb = FakeWandB()
    self.packages(wandb=wandb)
    self.write('wandb')
    self.write('wandb', steps=(2, 3))
    (_, first), (_, second) = (
        call for call in wandb.calls if call[0] == 'init')
    self.assertEqual(first['id'], second['id'])
    self.assertEqual((first['name'], first['resume'], first['config']),
                     ('base', 'allow', {'seed': 3}))
    self.assertIn(('define_metric', '*', 'step'), wandb.calls)
    self.assertEqual(
        [call[1] for call in wandb.calls if call[0] == 'log'][:3],
        [{'train/loss': 0.5, 'step': 1}, {'train/loss': 1.0, 'step': 2},
         {'grid': (4, 6, 3), 'step': 2}])
    self.assertEqual(wandb.calls.count(('finish',)), 2)
    self.assertEqual(self.out.getvalue(), '')

  def test_a_writer_that_fails_is_told_once_and_left(self):
    wandb = FakeWandB()
    wandb.fails = True
    clu = types.SimpleNamespace(SummaryWriter=mock.MagicMock())
    self.packages(**{'wandb': wandb, 'clu.metric_writers': clu})
    self.write('wandb', 'tensorboard')
    (line,) = self.out.getvalue().splitlines()
    self.assertRegex(line, 'No W&B run from here on .*no network at all')
    tensorboard = clu.SummaryWriter.return_value
    self.assertEqual(tensorboard.write_scalars.call_count, 2)
    shape = tensorboard.write_images.call_args.args[1]['grid'].shape
    self.assertEqual(shape, (1, 4, 6, 3))


if __name__ == '__main__':
  absltest.main()
