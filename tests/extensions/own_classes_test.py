"""Classes outside `walt_jax`, one file each: they train and they sample."""
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from tests.e2e import tiny
from walt_jax.core import run_files

OWN = pathlib.Path(__file__).parent / 'own'
CONDITION = 'my_condition:Speed'
SAMPLER = 'my_sampler:Trapezoid'
SOURCE = 'my_source:MovingBars'
TOKENIZER = 'my_tokenizer:Blocks'


class OwnClassesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.enterContext(mock.patch.object(sys, 'path', [str(OWN), *sys.path]))

  def train(self, *flags, code=0, conditions=(CONDITION,), **changed):
    """Trains two steps of a base on clips of moving bars."""
    workdir = self.folder / 'base'
    values = dict(
        data__name=SOURCE, sampler__sampler=SAMPLER, sampler__num_steps=2,
        model__num_classes=2, model__conditions=conditions) | changed
    result = tiny.walt(*tiny.flags('base', workdir, 2, **values), *flags)
    self.assertEqual(result.code, code, result.err)
    return workdir, result

  def sample(self, workdir, *flags):
    """Draws one clip; returns it, or the line that says what is wrong."""
    out = self.folder / f'out_{len(list(self.folder.iterdir()))}'
    result = tiny.walt('sample', '--workdir', workdir, '--out', out,
                       '--label', 'right', *flags)
    if result.code:
      return result.err
    return np.load(out / '00000.npy')

  @pytest.mark.slow
  def test_they_train_and_sample(self):
    workdir, _ = self.train()
    lines = run_files.read_metrics(workdir).lines
    self.assertTrue(any('eval/v_loss' in line for line in lines), lines)
    clip = self.sample(workdir, '--allow_code')
    self.assertEqual(clip.shape, (5, 16, 16, 3))
    # The flag's own sampler wins over the config's, and needs no leave.
    other = self.sample(workdir, '--allow_code', '--sampler', 'ddim')
    self.assertTrue((clip != other).any())
    # A base that has taken two steps heeds a condition a little.
    for flags in (('--condition', 'speed=3'),
                  ('--condition', 'speed=3', '--guidance', 'speed=9')):
      guided = self.sample(workdir, '--allow_code', *flags)
      self.assertTrue((clip != guided).any(), flags)
    self.assertIn("data.name is 'my_source:MovingBars'", self.sample(workdir))

  @pytest.mark.slow
  def test_a_tokenizer_trains_and_serves(self):
    config = self.folder / 'my_tokenizer_config.py'
    config.write_text(
        'from configs import quickstart\n'
        'def get_config():\n'
        "  config = quickstart.get_config('tokenizer')\n"
        f'  config.model = dict(name={TOKENIZER!r})\n'
        '  return config\n')
    tokenizer = self.folder / 'tokenizer'
    result = tiny.walt(
        'train', '--config', config, '--workdir', tokenizer,
        *tiny.overrides({
            'data.name': SOURCE, 'data.num_frames': 5, 'data.height': 16,
            'data.width': 16, 'data.batch_size': 8, 'train.num_steps': 2,
            'train.eval_batches': 1, 'statistics.num_batches': 1}))
    self.assertEqual(result.code, 0, result.err)
    values = dict(tokenizer__workdir=tokenizer, train__eval_every=0)
    workdir, result = self.train(code=2, **values)
    self.assertRegex(result.err, f"name is '{TOKENIZER}'.*--allow_code")
    self.assertFalse(workdir.exists())
    workdir, _ = self.train('--allow_code', **values)
    self.assertIn('--allow_code', self.sample(workdir))
    self.assertEqual(
        self.sample(workdir, '--allow_code').shape, (5, 16, 16, 3))
    self.assertRegex(tiny.walt('plan', '--config', config).err,
                     'built-in tokenizer alone')

  def test_values_that_do_not_fit_are_a_line(self):
    workdir, _ = self.train(train__eval_every=0)
    for flag, message in (
        ('--condition=wind=1', "condition 'wind': no stage .* known: speed"),
        ('--condition=speed=1,2', "'speed' takes 1 numbers, not 2"),
        ('--guidance=spee=2', 'conditioned on label, speed, text')):
      self.assertRegex(self.sample(workdir, '--allow_code', flag), message)

  @parameterized.parameters(
      ('my_source:MovingBars', 'lacks .*column, drop_prob.*Condition'),
      ('my_condition:Sped', 'no class Sped; it has: Speed'))
  def test_a_line_says_what_is_wrong_with_a_condition(self, name, message):
    workdir, result = self.train(code=2, conditions=(name,))
    self.assertRegex(result.err, rf'^walt: error: .*{name}.*{message}.*\n$')
    self.assertFalse(workdir.exists())

  def test_data_without_its_column_are_a_line(self):
    workdir, result = self.train(
        code=2, data__name='moving_digits', model__num_classes=40)
    self.assertRegex(
        result.err, "Speed reads 'speed', which the examples of 'moving_di")
    self.assertFalse(workdir.exists())

  @parameterized.parameters(
      ('data__name', 'my_source:Missing', 'no class Missing; it has: MovingB'),
      ('data__name', 'my_sampler:Trapezoid', 'lacks __getitem__, __len__, cla'),
      ('data__name', 'my_missing:A', "No module named 'my_missing'"),
      ('sampler__sampler', 'my_source:MovingBars', 'lacks init, rows, step'),
      ('sampler__sampler', 'heun', 'module:Class'))
  def test_a_line_says_what_is_wrong(self, key, name, message):
    workdir, result = self.train(code=2, **{key: name})
    self.assertRegex(result.err, rf'^walt: error: .*{name}.*{message}.*\n$')
    self.assertFalse(workdir.exists())


if __name__ == '__main__':
  absltest.main()
