"""Charges added up: loops, branches, hidden collectives, parts of a model."""
from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.planning import hlo
from walt_jax.planning import ledger

_TEXT = '''
%small (p: f32[4]) -> f32[4] {
  ROOT %s1 = f32[4]{0} exp(%p)
}

%large (p: f32[4]) -> f32[4] {
  %l1 = f32[4]{0} exp(%p)
  ROOT %l2 = f32[4]{0} exp(%l1)
}

%condition (p: (s32[])) -> pred[] {
  %n = s32[] constant(5)
}

%body (p: (s32[])) -> (s32[]) {
  %start = (f32[4]{0}, f32[8]{0}) all-gather-start(%x), channel_id=1
  %b1 = f32[4]{0} exp(%x)
  %b2 = f32[4]{0} exp(%b1)
  %done = f32[8]{0} all-gather-done(%start)
  %b3 = f32[4]{0} exp(%b2)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %w = (s32[]) while(%a), condition=%condition, body=%body
  %c = f32[4]{0} conditional(%p, %a, %a), branch_computations={%small, %large}
  %second = (f32[4]{0}, f32[8]{0}) all-gather-start(%c), channel_id=2
  ROOT %e = f32[4]{0} exp(%c)
  %d = f32[8]{0} all-gather-done(%second)
}
'''


def _charge(unused_computation, one):
  seconds = {'exp': 1., 'all-gather-start': 1.5}
  if one.opcode not in seconds:
    return None
  return ledger.Charge(
      one.name, one.opcode.removesuffix('-start'), 'rest', '', '', 1,
      seconds[one.opcode], 16, 2, 'a test')


class LedgerTest(parameterized.TestCase):

  @parameterized.parameters(
      (96, .25, ['96 .* 100, more than 3%']), (98, .25, []), (124, .25, []),
      (126, .25, ['126 .* 100, more than 25%']), (102, .03, []),
      (104, .03, ['104 .* 100, more than 3%']))
  def test_products_that_are_missing_or_too_many(self, flops, above, reasons):
    charge = ledger.Charge('a', 'product', 'rest', '', '', 1, 1., 0, flops, '')
    checked = ledger.checked(
        ledger.Ledger((charge,)), executed_flops=100, needed_bytes=0,
        capacity_bytes=1, tolerance_above=above)
    self.assertLen(checked.refusals, len(reasons))
    for found, reason in zip(checked.refusals, reasons, strict=True):
      self.assertRegex(found, reason)

  def test_loops_branches_and_hidden_collectives(self):
    found = ledger.charge_program(hlo.parse(_TEXT), _charge)
    times = {one.name: one.times for one in found.charges}
    self.assertEqual(times, dict(
        start=5, b1=5, b2=5, b3=5, l1=1, l2=1, second=1, e=1))
    self.assertEqual(found.compute_seconds, 15 + 2 + 1)
    self.assertEqual(found.collective_seconds, 6 * 1.5)
    self.assertEqual(found.seconds, 27)
    # Two kernels of the loop hide its gather; one of 1 s hides the other's.
    self.assertEqual(found.hidden_seconds, 5 * 1.5 + 1)
    self.assertEqual(found.overlapped_seconds, 27 - 8.5)
    self.assertEqual((found.bytes, found.flops, found.kernels), (288, 48, 24))
    self.assertEqual(found.by_kind(), {
        'exp': ledger.Total(18., 288, 36, 18),
        'all-gather': ledger.Total(9., 96, 12, 6)})
    values = found.refused('too large').as_json(2)
    self.assertEqual(values['refusals'], ['too large'])
    # All that is equal is one charge; the second gather is hidden less.
    self.assertEqual([(one['kind'], one['times'])
                      for one in values['charges']],
                     [('exp', 18), ('all-gather', 5)])
    self.assertEqual(values['by_part']['rest']['seconds'], 27)

  def test_a_loop_without_a_count_is_an_error(self):
    with self.assertRaisesRegex(ledger.UncountedError, 'loop w'):
      ledger.charge_program(
          hlo.parse(_TEXT.replace('constant(5)', 'iota()')), _charge)

  _LAYER = ('jit(step)/transpose(jvp(Denoiser))/Denoiser._layers/while/body/'
            'closed_call/layers/layers/checkpoint/')

  @parameterized.parameters(
      ('spatial/attention/vmap(BTNH,BSNH->BNTS)/dot_general',
       ledger.ATTENTION_CORE),
      ('spacetime/attention/window_attention_backward/pallas_call',
       ledger.ATTENTION_CORE),
      ('spatial/attention/attention.queries/query_norm/mul', ledger.QK_NORM),
      ('spatial/attention/attention.queries/query/add', ledger.PROJECTIONS),
      ('spatial/attention/attention.tokens/out/dot_general',
       ledger.PROJECTIONS),
      ('spacetime/attention/transpose', ledger.WINDOWS),
      ('spacetime/attention/ktyx,xab->ktyab/dot_general',
       ledger.RELATIVE_BIAS),
      ('spacetime/mlp/mlp_in/dot_general', ledger.MLP_PRODUCTS),
      ('spacetime/mlp/mlp_in/reduce_sum', ledger.MLP_PASSES),
      ('spatial/spatial._modulation/add', ledger.MODULATION),
      ('spatial/mlp_norm/mul', ledger.NORMS),
      ('rematted_computation/spatial/add', ledger.RESIDUAL),
  )
  def test_parts_of_a_layer(self, name, part):
    self.assertEqual(ledger.part_of(self._LAYER + name), part)

  @parameterized.parameters(
      ('layers/spatial/norm/reduce_sum', ledger.NORMS),
      ('jit(step)/jvp(Denoiser)/Denoiser._layers/while/body/'
       'jit(dynamic_update_index_in_dim)/dynamic_update_slice',
       ledger.SCAN_RESIDUALS),
      ('jit(step)/transpose(jvp(Denoiser))/Denoiser._layers/broadcast_in_dim',
       ledger.SCAN_RESIDUALS),
      ('jit(step)/jit(_where)/select_n', ledger.UPDATE),
      ('jit(step)/mul', ledger.UPDATE),
      ('jit(step)/jvp(Denoiser)/time_embedding/add', ledger.ENDS),
      ('jit(step)/jvp(vmap(jit(_normal)))/jit(_uniform)/vmap()/xor',
       ledger.REST),
      ('', ledger.REST),
  )
  def test_parts_outside_of_layers(self, name, part):
    self.assertEqual(ledger.part_of(name), part)
    self.assertIn(part, ledger.PARTS)


if __name__ == '__main__':
  absltest.main()
