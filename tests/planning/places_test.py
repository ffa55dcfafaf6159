"""Plans for absent devices of any kind: names, programs, the page."""
import dataclasses
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests.planning import gpu_texts
from tests.planning import gpu_topology_test
from walt_jax.builders import attention_forms
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.planning import aot
from walt_jax.planning import collectives
from walt_jax.planning import gpu_programs
from walt_jax.planning import gpu_topology
from walt_jax.planning import ledger
from walt_jax.planning import page
from walt_jax.planning import places
from walt_jax.planning import programs
from walt_jax.planning import roofline
from walt_jax.planning import topology
from walt_jax.planning import topology_plan

_SMOKE = 'configs/ucf101.py:smoke'


def load(*overrides):
  return schema.of(config_lib.load(_SMOKE, list(overrides)))


def _charge(name, part, seconds, **values):
  return ledger.Charge(**dict(
      dict(name=name, kind='product', part=part, op_name=f'jit(step)/{name}',
           shape='bf16[2]', times=2, seconds=seconds, bytes=0, flops=10**12,
           how='cycles'), **values))


def found(*refusals):
  """A program of two kernels and a collective that is hidden in part."""
  place = places.Place(
      'v5e:2x2', topology.CHIPS['v5e'], 4, (), lambda *_: None, ('a note',))
  charged = ledger.Ledger((
      _charge('core', ledger.ATTENTION_CORE, .25),
      _charge('mlp', ledger.MLP_PRODUCTS, .1),
      _charge('gather', ledger.MLP_PRODUCTS, .05, kind='all-gather',
              hidden_seconds=.02)), refusals)
  return programs.Found(
      'train step', place, aot.Compiled(1., 2**30, 2**20, []), charged,
      executed_flops=2 * 10**14, model_flops=10**14)


class ProgramsTest(absltest.TestCase):

  def test_predicted_times_and_mfu(self):
    values = found().as_json()
    self.assertAlmostEqual(values['predicted_seconds'], .8)
    self.assertAlmostEqual(values['predicted_overlapped_seconds'], .76)
    self.assertAlmostEqual(
        values['predicted_mfu'], 1e14 / (.8 * 4 * 197e12))
    self.assertAlmostEqual(values['roofline_seconds'], 2e14 / (4 * 197e12))
    json.dumps(values)
    lines = '\n'.join(programs.table([values], num_charges=1))
    self.assertIn('0.8 s', lines)
    self.assertIn('attention core', lines)
    self.assertIn('jit(step)/core', lines)
    self.assertNotIn('jit(step)/mlp', lines)

  def test_a_refused_total_is_no_prediction(self):
    values = found('it <lies>').as_json()
    self.assertIsNone(values['predicted_seconds'])
    self.assertIsNone(values['predicted_overlapped_mfu'])
    self.assertIn('it <lies>', '\n'.join(programs.table([values], 0)))
    self.assertIn('it &lt;lies&gt;', page.page(dict(
        config='c', parameters_by_part={}, programs=[values])))

  def test_the_page_has_a_bar_by_part(self):
    text = page.page(dict(
        config='c', parameters_by_part={}, programs=[found().as_json()]))
    self.assertIn('title="attention core: 500.000 ms" style="width:62.50%',
                  text)
    self.assertIn('>62.5%<', text)
    self.assertIn('jit(step)/gather', text)


class PlacesTest(gpu_topology_test.WithoutCache):

  @parameterized.parameters(
      ('h100:0',), ('h100',), ('h100:8', '--sweep'), ('gpu:8', '--ledger'),
      ('l4:1', '--no_train_step', '--no_sampler'))
  def test_user_errors(self, name, *flags):
    self.assertEqual(cli.main(
        ['plan', '--config', _SMOKE, '--topology', name, *flags]), 2)

  def test_what_needs_a_gpu_is_refused(self):
    config = load(('model.attention_form', 'cudnn'),
                  ('model.dtype', 'bfloat16'))
    with self.assertRaisesRegex(errors.UserError, "'cudnn'.*auto"):
      topology_plan.topology_plan(config, 'h100:1', {})

  def test_links_between_hosts_are_slower(self):
    chip = places.gpu_chip(gpu_topology.CHIPS['h100'])
    one = collectives.Collective(
        'all-reduce', 'f32[1]', 4, 4, group_size=8, count=1, op_name='')
    self.assertEqual(roofline.collective_bandwidth(chip, 8, one), 450e9)
    self.assertEqual(roofline.collective_bandwidth(chip, 8, dataclasses.replace(
        one, between_slices=True)), 50e9)

  @gpu_topology_test.needs_wheels
  def test_plan_for_a_gpu(self):
    """The step of another program stands for the config's own: compiling
    that takes a minute."""
    gpus = gpu_topology.get_gpus('h100:1')
    real = gpu_programs.compile_program
    traced = gpu_texts.CASES['layers'].traced(gpus.devices)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(
        gpu_programs, 'compile_program',
        lambda unused_traced, gpus: real(traced, gpus)):
      path = pathlib.Path(folder) / 'plan.json'
      self.assertEqual(cli.main([
          'plan', '--config', _SMOKE, '--topology', 'h100:1', '--no_sampler',
          '--json', str(path), '--html', str(path.with_suffix('.html'))]), 0)
      plan = json.loads(path.read_text())
    self.assertIs(plan['fits'], True)
    self.assertEqual(plan['hbm_capacity_bytes'], 72 * 2**30)
    step = plan['programs'][0]
    self.assertEqual(plan['predicted_step_seconds'], step['ledger']['seconds'])
    self.assertAlmostEqual(
        sum(part['seconds'] for part in step['ledger']['by_part'].values()),
        step['ledger']['seconds'])
    self.assertTrue(any('h100' in note for note in plan['prediction_notes']))


class AttentionFormsTest(absltest.TestCase):

  def test_words(self):
    self.assertEqual(attention_forms.words(load(), 'cpu'), 'attention mapped')
    tokenizer = schema.of(config_lib.load('configs/tokenizer_video.py:smoke',
                                          []))
    self.assertEqual(attention_forms.words(tokenizer, 'cpu'), '')

  def test_a_size_that_is_not_served_is_told(self):
    with mock.patch.object(
        attention_forms.fused_attention, 'refusal',
        lambda form, sizes: 'windows of 5 frames'
        if sizes.window[0] > 1 else None):
      words = attention_forms.words(load(), 'cpu')
    self.assertIn('spatial mapped, spacetime xla (', words)
    self.assertIn('windows of 5 frames', words)


if __name__ == '__main__':
  absltest.main()
