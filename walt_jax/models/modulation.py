"""AdaLN and AdaLN-LoRA: scales, shifts and gates from condition and time."""
from flax import linen as nn
import jax

NUM_VECTORS = 6  # Shift, scale and gate, for attention and for the MLP.


def modulate(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
  """x (1 + scale) + shift for x [B, T, H, W, D] and vectors [B, F, D]."""
  return x * (1 + per_token(scale)) + per_token(shift)


def on_rows(x: jax.Array) -> jax.Array:
  """Keeps [B, ...] where its rows are.

  Vectors of a row are small next to the weights that make them. Without this
  the compiler would rather send the vectors about than gather the weights.
  """
  return nn.with_logical_constraint(x, ('batch', *(None,) * (x.ndim - 1)))


def per_token(vectors: jax.Array) -> jax.Array:
  """[B, F, D] to [B, F, 1, 1, D], ready to meet tokens [B, T, H, W, D]."""
  return vectors[:, :, None, None]


def linear_modulation(embedding: jax.Array, num_vectors: int, width: int,
                      name: str) -> jax.Array:
  """One linear layer from an embedding to `num_vectors` vectors, from zero.

  Starting at zero, every block starts as the identity (adaLN-zero of DiT).

  Args:
    embedding: [B, F, D].
    num_vectors: Number of vectors that come out.
    width: Width of each vector.
    name: Name of the layer, in the module that calls this.

  Returns:
    [B, F, num_vectors * width], float32.
  """
  return on_rows(nn.Dense(
      num_vectors * width, kernel_init=nn.initializers.zeros, name=name)(
          on_rows(embedding)))


class LowRankModulation(nn.Module):
  """W_b W_a e, what a layer adds to the shared modulation (section 4.2).

  It is zero at the start.

  Attributes:
    rank: r.
    num_vectors: Number of vectors of the embedding's width that come out.
  """
  rank: int
  num_vectors: int = NUM_VECTORS

  @nn.compact
  def __call__(self, embedding: jax.Array) -> jax.Array:
    """Maps [B, F, D] to [B, F, num_vectors * D], float32."""
    width = embedding.shape[-1]
    down = on_rows(
        nn.Dense(self.rank, use_bias=False, name='down')(embedding))
    return on_rows(nn.Dense(
        self.num_vectors * width, use_bias=False,
        kernel_init=nn.initializers.zeros, name='up')(down))
