# ruff: noqa: E501
"""What instructions of a TPU program are charged."""
from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.planning import collectives
from walt_jax.planning import hlo
from walt_jax.planning import ledger
from walt_jax.planning import topology
from walt_jax.planning import tpu_charges

# Between two slices the hosts add up; libtpu 0.0.42, shortened.
SLICES = '''
HloModule jit_step

ENTRY %main (g: f32[256,8,128]) -> f32[256,8,128] {
  %g = f32[256,8,128]{2,1,0:T(8,128)} parameter(0)
  %id = u32[]{:T(128)} custom-call(), custom_call_target="SliceId"
  %after = token[] after-all()
  %recv = (f32[256,8,128]{2,1,0:T(8,128)}, u32[], token[]) recv(%after), channel_id=7, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-reduce.74_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send = (f32[256,8,128]{2,1,0:T(8,128)}, u32[], token[]) send(%g, %after), channel_id=8, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-reduce.74_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %sent = token[] send-done(%send), channel_id=8, is_host_transfer=true
  %got = (f32[256,8,128]{2,1,0:T(8,128)}, token[]) recv-done(%recv), channel_id=7, is_host_transfer=true
  ROOT %r = f32[256,8,128]{2,1,0:T(8,128)} get-tuple-element(%got), index=0
}
'''
V5E = topology.Slice('v5e:2x2', topology.CHIPS['v5e'], (2, 2), ())
# As libtpu 0.0.42 writes them, shortened: a loop of 12 turns over a product
# with its cycles, a copy between memories that the product hides in part, an
# all-gather that is spread over fusions.
PROGRAM = '''
HloModule jit_step

%product (p.1: bf16[128,256], p.2: bf16[256,512]) -> bf16[128,512] {
  %p.1 = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(0)
  %p.2 = bf16[256,512]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c.1 = bf16[128,512]{1,0:T(8,128)(2,1)} convolution(%p.1, %p.2), dim_labels=bf_io->bf, metadata={op_name="jit(step)/jvp(Denoiser)/layers/spatial/mlp/mlp_in/dot_general"}
}

%begin (q.1: bf16[64,512]) -> (bf16[64,512], bf16[256,512]) {
  %q.1 = bf16[64,512]{1,0:T(8,128)(2,1)} parameter(0)
  %g.1 = bf16[256,512]{1,0:T(8,128)(2,1)} all-gather(%q.1), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %s.1 = (bf16[64,512]{1,0}, bf16[256,512]{1,0}) custom-call(%q.1, %g.1), custom_call_target="AsyncCollectiveStart"
}

%finish (r.1: bf16[64,512]) -> bf16[256,512] {
  %r.1 = bf16[64,512]{1,0:T(8,128)(2,1)} parameter(0)
  %g.2 = bf16[256,512]{1,0:T(8,128)(2,1)} all-gather(%r.1), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %d.1 = bf16[256,512]{1,0} custom-call(%r.1, %g.2), custom_call_target="AsyncCollectiveDone"
}

%body (t.1: (s32[], bf16[128,256], bf16[64,512])) -> (s32[], bf16[128,256], bf16[64,512]) {
  %t.1 = (s32[], bf16[128,256]{1,0:T(8,128)(2,1)}, bf16[64,512]{1,0:T(8,128)(2,1)}) parameter(0)
  %i.1 = s32[] get-tuple-element(%t.1), index=0
  %x.1 = bf16[128,256]{1,0:T(8,128)(2,1)} get-tuple-element(%t.1), index=1
  %w.1 = bf16[64,512]{1,0:T(8,128)(2,1)} get-tuple-element(%t.1), index=2
  %f.1 = (bf16[64,512]{1,0}, bf16[256,512]{1,0}) fusion(%w.1), kind=kCustom, calls=%begin
  %h.1 = bf16[256,512]{1,0:T(8,128)(2,1)} get-tuple-element(%f.1), index=1
  %k.1 = (bf16[128,256]{1,0:T(8,128)(2,1)S(1)}, bf16[128,256]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x.1)
  %y.1 = bf16[128,512]{1,0:T(8,128)(2,1)} fusion(%x.1, %h.1), kind=kOutput, calls=%product, metadata={op_name="jit(step)/jvp(Denoiser)/layers/spatial/mlp/mlp_in/dot_general"}, backend_config={"estimated_cycles":"CYCLES"}
  %k.2 = bf16[128,256]{1,0:T(8,128)(2,1)S(1)} copy-done(%k.1)
  %e.1 = bf16[256,512]{1,0:T(8,128)(2,1)} fusion(%w.1), kind=kCustom, calls=%finish
  ROOT %u.1 = (s32[], bf16[128,256]{1,0:T(8,128)(2,1)}, bf16[64,512]{1,0:T(8,128)(2,1)}) tuple(%i.1, %k.2, %w.1)
}

%condition (v.1: (s32[], bf16[128,256], bf16[64,512])) -> pred[] {
  %v.1 = (s32[], bf16[128,256]{1,0:T(8,128)(2,1)}, bf16[64,512]{1,0:T(8,128)(2,1)}) parameter(0)
  %i.2 = s32[] get-tuple-element(%v.1), index=0
  %n.1 = s32[] constant(12)
  ROOT %l.1 = pred[] compare(%i.2, %n.1), direction=LT
}

ENTRY %main (a.1: (s32[], bf16[128,256], bf16[64,512])) -> (s32[], bf16[128,256], bf16[64,512]) {
  %a.1 = (s32[], bf16[128,256]{1,0:T(8,128)(2,1)}, bf16[64,512]{1,0:T(8,128)(2,1)}) parameter(0)
  ROOT %z.1 = (s32[], bf16[128,256]{1,0:T(8,128)(2,1)}, bf16[64,512]{1,0:T(8,128)(2,1)}) while(%a.1), condition=%condition, body=%body
}
'''


def charged(text: str, kernels=None) -> ledger.Ledger:
  return tpu_charges.tpu_ledger(text, V5E, kernels or {})


def by_kind(text: str) -> dict[str, ledger.Charge]:
  return {one.kind: one for one in charged(text).charges}


class ChargesTest(parameterized.TestCase):

  def test_cycles_of_a_loop_at_the_clock(self):
    product = by_kind(PROGRAM.replace('CYCLES', '15000'))['product']
    self.assertEqual(product.times, 12)
    self.assertAlmostEqual(product.seconds, 10e-6)
    self.assertEqual(product.part, ledger.MLP_PRODUCTS)
    self.assertEqual(product.flops, 2 * 128 * 256 * 512)

  def test_a_copy_costs_what_work_does_not_hide(self):
    copied = 128 * 256 * 2 / .819e12 + tpu_charges.PASS_CYCLES / 1.5e9
    hidden = by_kind(PROGRAM.replace('CYCLES', '15000'))
    self.assertEqual(hidden['copy between memories'].seconds, 0)
    seen = by_kind(PROGRAM.replace('CYCLES', '15'))
    self.assertAlmostEqual(
        seen['copy between memories'].seconds, copied - 10e-9)

  def test_a_collective_over_its_links(self):
    gather = by_kind(PROGRAM.replace('CYCLES', '1500'))['all-gather']
    # Three quarters of the result come over both links of two axes.
    self.assertAlmostEqual(gather.seconds, .75 * 256 * 512 * 2 / (4 * 45e9))
    self.assertEqual(gather.times, 12)  # Its end is not another one.
    self.assertAlmostEqual(gather.hidden_seconds, 1e-6)
    found = charged(PROGRAM.replace('CYCLES', '1500'))
    self.assertAlmostEqual(
        found.seconds - found.overlapped_seconds, 12 * 1e-6)

  @parameterized.parameters(
      ('%f.1 = (bf16[64,512]{1,0}, bf16[256,512]{1,0}) fusion(%w.1), '
       'kind=kCustom, calls=%begin', '%f.1 = (bf16[64,512]{1,0}, '
       'bf16[256,512]{1,0}) mystery(%w.1)', 'mystery'),
      ('backend_config={"estimated_cycles":"CYCLES"}', '', 'product'),
      ('constant(12)', 'parameter(1)', 'steps'),
      ('fusion(%w.1), kind=kCustom, calls=%finish',
       'custom-call(%w.1), custom_call_target="tpu_custom_call", '
       'metadata={op_name="jit(step)/fused/pallas_call"}', 'fused'),
  )
  def test_what_has_no_charge_is_an_error(self, old, new, message):
    text = PROGRAM.replace(old, new).replace('CYCLES', '15')
    self.assertNotEqual(text, PROGRAM.replace('CYCLES', '15'))
    with self.assertRaisesRegex(ledger.UncountedError, message):
      charged(text)

  @parameterized.parameters(
      ('bf16[128,256]{1,0:T(8,128)(2,1)}', 65536),
      ('f32[3,5]{1,0:T(8,128)}', 4 * 8 * 128),
      ('f32[3,5]{0,1:T(8,128)}', 4 * 8 * 128),
      ('f32[100]{0:T(1024)}', 4096), ('s32[]', 4),
      # 16 heads of 64: half of each row of 128 is padding.
      ('bf16[2,16,64]{2,1,0:T(8,128)(2,1)S(1)}', 2 * 2 * 16 * 128))
  def test_bytes_with_the_padding_of_tiles(self, text, expected):
    self.assertEqual(tpu_charges.physical_bytes(text), expected)

  def test_a_sort_passes_over_its_rows_once_a_stage(self):
    found = charged("""
ENTRY %main (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %s = f32[8,128]{1,0:T(8,128)} sort(%p), dimensions={1}, to_apply=%less
}
""")
    [sort] = found.charges
    stages = 1 + 2 + 3 + 4 + 5 + 6 + 7  # Of a bitonic network of 128.
    self.assertEqual(sort.bytes, stages * 2 * 4096)
    self.assertAlmostEqual(
        sort.seconds, stages * (2 * 4096 / .819e12 +
                                tpu_charges.PASS_CYCLES / 1.5e9))

  def test_products_with_windows_count_what_meets_data(self):
    """A batched product as XLA:TPU writes it: heads are a spatial axis."""
    text = PROGRAM.replace(
        'bf16[128,512]{1,0:T(8,128)(2,1)} convolution(%p.1, %p.2), '
        'dim_labels=bf_io->bf',
        'bf16[16,32,8]{2,1,0:T(8,128)(2,1)} convolution(%p.1, %p.2), '
        'window={size=16 stride=15 pad=0_0 lhs_dilate=16}, '
        'dim_labels=0bf_0oi->0bf').replace(
            'p.1 = bf16[128,256]', 'p.1 = bf16[16,32,64]').replace(
                'p.2 = bf16[256,512]', 'p.2 = bf16[16,8,64]')
    product = by_kind(text.replace('CYCLES', '15'))['product']
    self.assertEqual(product.flops, 16 * 2 * 32 * 64 * 8)


class EndsTest(absltest.TestCase):

  def test_the_texts_own_starts(self):
    program = hlo.parse(PROGRAM)
    body = program.computations['body']
    names = [one.name for one in body.instructions]
    self.assertEqual(ledger.ends_of(body),
                     {names.index('k.1'): names.index('k.2')})

  def test_what_goes_between_slices_has_their_network(self):
    place = topology.Slice(
        '2*v5e:2x2', topology.CHIPS['v5e'], (2, 2), (), num_slices=2)
    charge, = tpu_charges.tpu_ledger(SLICES, place, {}).charges
    # An all-reduce of two sends what it holds once, by 2 x 100 Gbit/s for 8.
    self.assertEqual(charge.kind, 'all-reduce')
    self.assertEqual(charge.bytes, 256 * 8 * 128 * 4)
    self.assertAlmostEqual(charge.seconds, 2**20 / (200e9 / 8 / 8))
    self.assertEqual(charge.how, 'network between slices')
    one, = collectives.collectives(SLICES)
    self.assertEqual((one.group_size, one.between_slices), (2, True))
    self.assertEqual(list(collectives.totals([one])),
                     ['all-reduce between slices'])
    gather, = collectives.collectives(SLICES.replace('ALL_REDUCE', 'ALL_GATHER'))
    self.assertEqual(gather.bytes, 2 * 2**20)  # What it makes.


if __name__ == '__main__':
  absltest.main()
