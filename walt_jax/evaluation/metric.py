"""What a metric is: the interface of every `walt evaluate NAME`."""
from typing import Any, Literal, Protocol

from walt_jax.evaluation import inputs as inputs_lib

Kind = Literal['real', 'generated', 'tokenizer']


class Metric(Protocol):
  """Scores clips; made without arguments, one class a module.

  A class of the user's own is given as `module:Class`, to `walt evaluate` or
  in `train.evaluators`.

  Attributes:
    takes: What it asks its inputs for: real clips, generated ones, or the
      tokenizer itself. Training refuses what it cannot give before it starts.
  """
  takes: tuple[Kind, ...]

  def evaluate(self, inputs: inputs_lib.Inputs) -> dict[str, Any]:
    """Returns JSON values, among them a number `value`.

    Raises:
      UserError: Inputs are missing or unfit.
    """
