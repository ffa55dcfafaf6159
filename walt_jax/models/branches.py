"""What a layer's branches, attention and the MLP, hand to the residual sum."""
from flax import struct
import jax

from walt_jax.models import remat


@struct.dataclass
class Branch:
  """What a residual sum adds to the tokens.

  Attributes:
    values: [B, T, H, W, D].
    bias: [D] that is still to be added to them; None: none is.
    name: What policies of `remat` know their sum by, beside
      `remat.PASS_RESULT`, where there is a bias.
  """
  values: jax.Array
  bias: jax.Array | None = None
  name: str = struct.field(pytree_node=False, default=remat.PASS_RESULT)
