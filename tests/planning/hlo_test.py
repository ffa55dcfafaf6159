"""Programs' texts: types, operands, loops and how often what runs."""
# ruff: noqa: E501 (lines of HLO)
from absl.testing import absltest

from walt_jax.planning import hlo

_TEXT = '''
HloModule m, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %s = f32[] add(%x, %y)
}

%bound (p: s32[]) -> pred[] {
  %p.1 = s32[] parameter(0)
  %n = s32[] constant(5)
  ROOT %l = pred[] compare(%p.1, %n), direction=LT
}

%condition (p: (s32[], f32[4,8])) -> pred[] {
  %p.2 = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p.2), index=0
  ROOT %f = pred[] fusion(%i), kind=kLoop, calls=%bound
}

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p.3 = (s32[], /*index=1*/f32[4,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %v = f32[4,8]{1,0} get-tuple-element(%p.3), index=1
  %r = f32[4]{0} reduce(%v, %zero), dimensions={1}, to_apply=%add, metadata={op_name="jit(f)/reduce_sum" source_line=3}
  ROOT %t = (s32[], f32[4,8]{1,0}) tuple(%j, %v)
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %w = (s32[], f32[4,8]{1,0}) while(%start), condition=%condition, body=%body
  %w2 = (s32[], f32[4,8]{1,0}) while(%w), condition=%unknown, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %b = f32[4,8]{1,0} get-tuple-element(%w2), index=1
}
'''


class HloTest(absltest.TestCase):

  def test_instructions(self):
    program = hlo.parse(_TEXT)
    self.assertEqual(program.entry, 'main')
    body = program.computations['body']
    parameter, value, reduction, root = body.instructions
    self.assertEqual(parameter.shapes,
                     (hlo.Shape('s32', ()), hlo.Shape('f32', (4, 8))))
    self.assertEqual(parameter.num_bytes, 4 + 4 * 4 * 8)
    self.assertEqual(value.operands, ('p.3',))
    self.assertEqual(reduction.opcode, 'reduce')
    self.assertEqual(reduction.operands, ('v', 'zero'))
    self.assertEqual(reduction.called, ('add',))
    self.assertEqual(reduction.op_name, 'jit(f)/reduce_sum')
    self.assertEqual(reduction.attribute(r'dimensions=\{([\d,]*)\}'), '1')
    self.assertIs(body.root, root)
    self.assertEqual(str(hlo.Shape('bf16', (3, 4))), 'bf16[3,4]')

  def test_turns_are_named_or_the_bound_of_the_condition(self):
    program = hlo.parse(_TEXT)
    main = program.computations['main'].by_name
    self.assertEqual(program.turns(main['w']), 5)
    self.assertEqual(program.turns(main['w2']), 3)
    counts = program.multiplicities(lambda one: one.opcode == 'reduce')
    self.assertEqual(counts, dict(main=1, body=8))

  def test_what_is_not_known_is_an_error(self):
    program = hlo.parse(_TEXT.replace('constant(5)', 'parameter(1)'))
    with self.assertRaisesRegex(hlo.UncountedError, 'loop w '):
      program.multiplicities(lambda one: one.opcode == 'reduce')
    # Nobody asked for what is inside of it.
    self.assertEqual(program.multiplicities(
        lambda one: one.opcode == 'while'), dict(main=1))
    with self.assertRaisesRegex(hlo.UncountedError, 'q7'):
      _ = hlo.Shape('q7', (2,)).num_bytes
    with self.assertRaisesRegex(ValueError, 'entry'):
      hlo.parse(_TEXT.replace('ENTRY ', ''))


if __name__ == '__main__':
  absltest.main()
