"""Metrics by name, and one of the user's own."""
import json
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from tests.e2e import tiny
from walt_jax.commands.flags import evaluate as flags
from walt_jax.core import extensions
from walt_jax.evaluation import catalog
from walt_jax.evaluation import metric
from walt_jax.metrics import scores

# Shown in docs/architecture.md.
OWN = pathlib.Path(__file__).parents[1] / 'extensions' / 'own'
BAD = '''
import my_metric


class Broken(my_metric.Brightness):
  def evaluate(self, inputs):
    return dict(value=float('nan'))


class NoMetric:
  takes = ()
'''


class CatalogTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    (self.folder / 'bad_metric.py').write_text(BAD)
    self.enterContext(mock.patch.object(
        sys, 'path', [str(OWN), str(self.folder), *sys.path]))
    self.addCleanup(sys.modules.pop, 'bad_metric', None)
    self.out = self.folder / 'result.json'

  def array(self, name, value, size=16):
    path = self.folder / f'{name}.npy'
    np.save(path, np.full((2, 5, size, size, 3), value, np.uint8))
    return path

  def test_flags_name_every_metric(self):
    self.assertEqual(list(flags.METRICS), list(catalog.METRICS))
    self.assertEqual(flags.BESIDE, tuple(scores.BESIDE))
    for name, found in catalog.METRICS.items():
      missing = extensions.members(metric.Metric) - set(dir(found))
      self.assertEmpty(missing, name)

  def test_a_metric_of_ones_own(self):
    result = tiny.walt(
        'evaluate', 'my_metric:Brightness', '--real', self.array('a', 10),
        '--generated', self.array('b', 17), '--json', self.out)
    self.assertEqual(result.code, 0, result.err)
    found = json.loads(self.out.read_text())
    self.assertEqual(list(found.pop('sets')), ['real', 'generated'])
    self.assertEqual(found.pop('made_by')['command'],
                     'evaluate my_metric:Brightness')
    self.assertEqual(found, dict(
        metric='my_metric:Brightness', protocol='quick', value=7.0,
        num_generated=2, differences=[]))

  @pytest.mark.slow
  def test_a_metric_of_ones_own_draws_samples(self):
    result = tiny.walt(
        'evaluate', 'my_metric:Brightness', '--real', self.array('a', 0),
        '--workdir', tiny.run('base'), '--num_samples', 3, '--steps', 2,
        '--json', self.out)
    self.assertEqual(result.code, 0, result.err)
    found = json.loads(self.out.read_text())
    self.assertEqual(found['num_generated'], 3)
    self.assertGreater(found['value'], 0)

  @pytest.mark.slow
  def test_control_draws_samples(self):
    result = tiny.walt(
        'evaluate', 'control', '--workdir',
        f'{tiny.run("base")},{tiny.run("sr")}', '--num_samples', 3, '--steps',
        2, '--json', self.out)
    self.assertEqual(result.code, 0, result.err)
    found = json.loads(self.out.read_text())
    self.assertEqual((found['num_generated'], found['digit']['total']), (3, 3))

  @parameterized.parameters(
      ('bad_metric:Broken', "a finite number 'value'"),
      ('bad_metric:NoMetric', 'lacks evaluate'),
      ('my_metric:Absent', 'has no class Absent'),
      ('no_such_module:Metric', 'cannot be imported'),
      ('fvx', "invalid choice: 'fvx'"), ('a b:c', 'module:Class'))
  def test_refusals(self, name, said):
    clips = self.array('a', 0)
    result = tiny.walt('evaluate', name, '--real', clips, '--generated',
                       clips, '--json', self.out)
    self.assertEqual(result.code, 2, result.err)
    self.assertRegex(result.err, rf'\Awalt: error: [^\n]*{said}[^\n]*\n\Z')
    self.assertFalse(self.out.exists())


if __name__ == '__main__':
  absltest.main()
