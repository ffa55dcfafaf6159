"""Where an instruction comes from, also where the compiler lost its name."""
import collections

from walt_jax.planning import hlo

_FAR = 4  # Steps to a neighbour whose name is taken.


def origin(program: hlo.Program, computation: hlo.Computation,
           one: hlo.Instruction) -> str:
  """The op_name of an instruction.

  Without one of its own: a fusion's is the most frequent inside of it, else
  that of the nearest instruction whose result it takes, or which takes its
  own; '' if there is none.
  """
  return _own(program, one) or _nearest(program, computation, one)


def _own(program: hlo.Program, one: hlo.Instruction) -> str:
  if one.op_name or one.opcode != 'fusion':
    return one.op_name
  inner = program.computations[one.called[0]]
  names = collections.Counter(
      part.op_name for part in inner.instructions
      if part.op_name and part.opcode not in ('parameter', 'constant'))
  return inner.root.op_name or (names.most_common(1)[0][0] if names else '')


def _nearest(program: hlo.Program, computation: hlo.Computation,
             one: hlo.Instruction) -> str:
  for neighbours in (
      lambda x: [computation.by_name[name] for name in x.operands
                 if x.opcode != 'tuple'],
      lambda x: computation.users.get(x.name, ())):
    layer = [one]
    for _ in range(_FAR):
      layer = [found for x in layer for found in neighbours(x)
               if found.opcode not in ('parameter', 'constant')]
      for found in layer:
        if name := _own(program, found):
          return name
  return ''
