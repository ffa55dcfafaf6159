"""Collectives read from HLO text: a real program's, and XLA:TPU's forms."""
# ruff: noqa: E501 (lines of HLO)
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import collectives
from walt_jax.planning import hlo

# As libtpu writes them: types with tiles, a channel that many fusions name, a
# loop whose bound stands in its condition, groups by mesh axes.
_TPU = '''
HloModule m

%condition (p: (u32[], bf16[4,8])) -> pred[] {
  %bound = u32[]{:T(128)} constant(13), metadata={op_name="x"}
  %p = (u32[]{:T(128)}, bf16[4,8]{1,0:T(4,128)(2,1)}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

%fused.1 (a: bf16[4,8]) -> bf16[4,64] {
  %a = bf16[4,8]{1,0:T(4,128)(2,1)} parameter(0)
  ROOT %gather.1 = bf16[4,64]{1,0:T(4,128)(2,1)S(1)} all-gather(%a), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=8], device_ids=([2,8]T(1,0)) {'axis_1'}, dimensions={1}, metadata={op_name="jit(step)/mlp"}
}

%fused.2 (a: bf16[4,8]) -> bf16[4,64] {
  %a.2 = bf16[4,8]{1,0:T(4,128)(2,1)} parameter(0)
  ROOT %gather.2 = bf16[4,64]{1,0:T(4,128)(2,1)} all-gather(%a.2), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=8] {'axis_1'}, dimensions={1}
}

%body (p: (u32[], bf16[4,8])) -> (u32[], bf16[4,8]) {
  %q = (u32[]{:T(128)}, bf16[4,8]{1,0:T(4,128)(2,1)}) parameter(0)
  %x = bf16[4,8]{1,0:T(4,128)(2,1)} get-tuple-element(%q), index=1
  %f1 = bf16[4,64]{1,0:T(4,128)(2,1)} fusion(%x), kind=kOutput, calls=%fused.1
  %f2 = bf16[4,64]{1,0:T(4,128)(2,1)} fusion(%x), kind=kOutput, calls=%fused.2
  %ring = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), channel_id=8, source_target_pairs={{0,1},{1,0}}
  %done = bf16[4,8]{1,0} collective-permute-done(%ring)
  ROOT %t = (u32[]{:T(128)}, bf16[4,8]{1,0:T(4,128)(2,1)}) tuple(%i, %done)
}

ENTRY %main (p: bf16[4,8]) -> f32[] {
  %start = (u32[], bf16[4,8]{1,0}) tuple(%zero, %p)
  %loop = (u32[]{:T(128)}, bf16[4,8]{1,0:T(4,128)(2,1)}) while(%start), condition=%condition, body=%body, metadata={op_name="w"}
  %cut = f32[2,3]{1,0} reduce-scatter(%y), channel_id=9, replica_groups=[2,8]<=[16], dimensions={0}, to_apply=%add
  ROOT %sum = (f32[10]{0}, f32[]) all-reduce(%a, %b), channel_id=10, replica_groups={{0,1,2,3}}, to_apply=%add
}
'''


class CollectivesTest(parameterized.TestCase):

  def test_forms_of_tpu_programs(self):
    found = collectives.collectives(_TPU)
    self.assertEqual(collectives.totals(found), {
        'all-gather': dict(
            count=13, bytes=13 * 4 * 64 * 2, largest_bytes=4 * 64 * 2),
        'collective-permute': dict(
            count=13, bytes=13 * 4 * 8 * 2, largest_bytes=4 * 8 * 2),
        'reduce-scatter': dict(
            count=1, bytes=8 * 6 * 4, largest_bytes=8 * 6 * 4),
        'all-reduce': dict(count=1, bytes=11 * 4, largest_bytes=40)})
    groups = {one.kind: one.group_size for one in found}
    self.assertEqual(groups, {
        'all-gather': 8, 'collective-permute': 0, 'reduce-scatter': 8,
        'all-reduce': 4})

  def test_a_loop_without_a_known_end_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'loop'):
      collectives.collectives(_TPU.replace('constant(13)', 'parameter(1)'))

  @parameterized.parameters(
      ("replica_groups=mesh['a'=2,'b'=4] {'b'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
      ("replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'b'}",
       [[0, 4, 1, 5], [2, 6, 3, 7]]),
      ("replica_groups=mesh['a'=8] {'a':(2)2}",
       [[0, 2], [1, 3], [4, 6], [5, 7]]),
      ('replica_groups=[4,2]<=[2,4]T(1,0)', [[0, 4], [1, 5], [2, 6], [3, 7]]),
      ('replica_groups={{0,1},{2,3}}, x={{4}}', [[0, 1], [2, 3]]),
      ('source_target_pairs={{0,1},{1,0}}', [[0, 1], [1, 0]]))
  def test_groups_of_devices(self, text, groups):
    instruction = hlo.Instruction('x', 'f32[]', 'all-gather', '', text, False)
    self.assertEqual(collectives.device_groups(instruction), groups)

  @parameterized.parameters(3, 5)
  def test_a_real_program(self, length):
    """A ring of gathers in a scan over 8 simulated devices."""
    mesh = mesh_lib.make_mesh(1, 8, 1, jax.devices()[:8])
    cut = NamedSharding(mesh, P(None, 'fsdp', None))
    whole = mesh_lib.replicated(mesh)

    def layers(weights, x):
      def layer(x, w):
        w = jax.lax.with_sharding_constraint(w, whole)
        return jnp.tanh(x @ w), None
      return jax.lax.scan(layer, x, weights)[0]

    text = jax.jit(
        layers, in_shardings=(cut, mesh_lib.batch_sharding(mesh)),
        out_shardings=mesh_lib.batch_sharding(mesh)).lower(
            jax.ShapeDtypeStruct((length, 64, 64), jnp.float32),
            jax.ShapeDtypeStruct((16, 64), jnp.float32)).compile().as_text()
    total = collectives.totals(collectives.collectives(text))
    self.assertEqual(set(total), {'all-gather'})
    self.assertEqual(total['all-gather']['count'], length)
    self.assertEqual(total['all-gather']['largest_bytes'], 64 * 64 * 4)

  def test_rings_close(self):
    text = """
ENTRY %main (x: f32[8]) -> f32[8] {{
  %x = f32[8]{{0}} parameter(0)
  ROOT %p = f32[8]{{0}} collective-permute(%x), channel_id=1, source_target_pairs={{{pairs}}}, metadata={{op_name="a{{1,2}}"}}
}}
"""
    for pairs, closed in (('{0,1},{1,2},{2,0}', True),
                          ('{0,1},{1,2},{2,3}', False)):
      (found,) = collectives.collectives(text.format(pairs=pairs))
      self.assertEqual(found.is_ring, closed)


if __name__ == '__main__':
  absltest.main()
