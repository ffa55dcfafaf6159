"""A condition: how many pixels a frame something moves."""
from flax import linen as nn


class Speed(nn.Module):
  """Embeds [B, F] to [B, F, D], which modulates every layer."""
  width: int

  column = 'speed'  # In a source's examples, --guidance and --condition.
  shape = ()  # Of one value.
  null = 0.0  # Where none is given.
  drop_probability = 0.1

  @nn.compact
  def __call__(self, value):
    return nn.Dense(self.width)(value[..., None] / 3)
