"""One MLIR context for many programs.

JAX makes a context for each program that it lowers and loads nine dialects
into it: 5 of the 19 milliseconds of a core that a program of one operation
takes from its call to its result, and the tests make ten thousand of those.
What is lowered is the same.
"""
import threading

from jax._src.interpreters import mlir

# Constants of lowered programs stay as long as their context does.
_PROGRAMS = 100

_of_thread = threading.local()
_make = mlir.make_ir_context


def _shared():
  uses = getattr(_of_thread, 'uses', _PROGRAMS)
  if uses == _PROGRAMS:
    _of_thread.context, uses = _make(), 0
  _of_thread.uses = uses + 1
  return _of_thread.context


def share() -> None:
  """Lets the programs that a thread lowers share a context."""
  mlir.make_ir_context = _shared
