"""Rows of the plans of absent chips."""
import json

from absl.testing import absltest
from absl.testing import parameterized

from benchmarks import harness
from benchmarks import plans
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.planning import ledger
from walt_jax.planning import places


def _plan(fits=True):
  parts = {ledger.ATTENTION_CORE: .1, ledger.WINDOWS: .05,
           ledger.MLP_PRODUCTS: .85}
  return dict(
      mesh=dict(data=1, fsdp=4, tensor=1), global_batch=128,
      remat_policy='minimal', attention_forms=dict(spatial='xla'),
      compiler_options={}, commit='c', programs=[dict(
          fits=fits, hbm_needed_bytes=2**30, hbm_capacity_bytes=2**34,
          compile_seconds=1., predicted_mfu=.5, roofline_seconds=.1,
          roofline_slow_seconds=.2, weight_rings=0, ledger=dict(
              seconds=1., compute_seconds=.9, collective_seconds=.1,
              hidden_collective_seconds=.05, refusals=[],
              compute_by_part={name: dict(seconds=seconds)
                       for name, seconds in parts.items()}))])


def _rows():
  return json.loads((harness.RESULTS / 'plans.json').read_text())['rows']


class PlansTest(parameterized.TestCase):

  def test_attention_is_the_core_and_what_moves_windows(self):
    found = plans.row(plans.CASES['ucf101_l'], _plan())
    self.assertAlmostEqual(found['attention_share'], .15)
    self.assertEqual(found['seconds'], 1.)

  def test_what_does_not_fit_has_no_time(self):
    found = plans.row(plans.CASES['ucf101_l'], _plan(fits=False))
    self.assertNotIn('seconds', found)

  @parameterized.parameters(*plans.CASES)
  def test_cases_can_be_planned(self, name):
    case = plans.CASES[name]
    places.parse(case.topology)
    schema.of(config_lib.load(case.config, [
        tuple(one.split('=', 1)) for one in case.overrides]))

  @parameterized.parameters(*_rows())
  def test_what_was_planned_is_as_wanted(self, name):
    row = _rows()[name]
    self.assertEmpty(row['refusals'])
    self.assertEqual(row['weight_rings'], 0)  # No loop of partial products.
    for form in row['attention'].values():
      self.assertStartsWith(form, 'fused')
    if row['wanted_ms'] is not None:
      self.assertLess(1e3 * row['seconds'], row['wanted_ms'])
    # Heads of 64 fill a quarter of a v6e's product units.
    limit = .26 if name == 't2v_sr2' else .2
    self.assertLessEqual(round(row['attention_share'], 2), limit)


if __name__ == '__main__':
  absltest.main()
