"""Norms, residual blocks and resampling of the tokenizer; all causal."""
from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.tokenizer import causal_conv

Triple = tuple[int, int, int]
NORMS = ('group', 'position')


def space_to_depth(x: jax.Array, patch: Triple, *,
                   starts: bool = True) -> jax.Array:
  """Stacks patches of a clip on channels, causally.

  Frames form groups that end at frames 0, pt, 2 pt, ...: the first group is
  the first frame, repeated.

  Args:
    x: [B, 1 + T, H, W, C], or a later chunk [B, T, H, W, C].
    patch: (frames, rows, columns) of one patch, (pt, ph, pw).
    starts: Whether the clip starts here.

  Returns:
    [B, 1 + T/pt (or T/pt), H/ph, W/pw, pt * ph * pw * C].
  """
  pt, ph, pw = patch
  if starts:
    x = causal_conv.pad_time(x, pt - 1, None)
  b, t, h, w, c = x.shape
  if t % pt or h % ph or w % pw:
    raise ValueError(
        f'{t}x{h}x{w} (first frame repeated) is not a multiple of {patch}.')
  x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
  x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
  return x.reshape(b, t // pt, h // ph, w // pw, pt * ph * pw * c)


def depth_to_space(x: jax.Array, patch: Triple, *,
                   starts: bool = True) -> jax.Array:
  """The inverse: [B, 1+t, h, w, pt*ph*pw*C] -> [B, 1 + t*pt, h*ph, w*pw, C].

  The first frame's group keeps its last frame only, so that frame i comes
  from latent frame ceil(i / pt).
  """
  pt, ph, pw = patch
  b, t, h, w, d = x.shape
  x = x.reshape(b, t, h, w, pt, ph, pw, d // (pt * ph * pw))
  x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)
  x = x.reshape(b, t * pt, h * ph, w * pw, d // (pt * ph * pw))
  return x[:, pt - 1:] if starts else x


def repeat_cells(x: jax.Array, factor: Triple, *,
                 starts: bool = True) -> jax.Array:
  """Nearest upsampling with the frame rule of `depth_to_space`."""
  for axis, count in enumerate(factor, start=1):
    x = jnp.repeat(x, count, axis=axis)
  return x[:, factor[0] - 1:] if starts else x


def starts_clip(module: nn.Module) -> bool:
  """Whether `module` sees the start of a clip, and notes that it did."""
  started = module.has_variable('stream', 'started')
  if causal_conv.is_streaming(module):
    module.put_variable('stream', 'started', jnp.ones((), bool))
  return not started


class Norm(nn.Module):
  """Normalisation that never mixes frames, in float32.

  Attributes:
    kind: 'group', GroupNorm over each frame on its own, or 'position', over
      the channels of each position alone (which tiles can compute exactly).
    num_groups: Groups of channels for 'group'.
    affine: Whether to learn a scale and a bias.
    flat: Whether to spread each group's numbers over its channels before they
      meet the positions. XLA:CPU then has loops over channels; over groups of
      two it takes 3 times as long, with gradients 7 times.
  """
  kind: str = 'group'
  num_groups: int = 32
  affine: bool = True
  flat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises [B, T, H, W, C]; returns the type of `x`."""
    if self.kind not in NORMS:
      raise ValueError(f'Unknown norm {self.kind!r}; choose from {NORMS}.')
    b, t, h, w, c = x.shape
    groups = min(self.num_groups, c) if self.kind == 'group' else 1
    if c % groups:
      raise ValueError(f'{c} channels do not divide into {groups} groups.')
    if self.flat and self.kind == 'group':
      y = _group_normalised(x.astype(jnp.float32), groups)
    else:
      axes = (2, 3, 5) if self.kind == 'group' else (5,)
      y = x.astype(jnp.float32).reshape(b, t, h, w, groups, c // groups)
      mean = y.mean(axes, keepdims=True)
      variance = jnp.square(y - mean).mean(axes, keepdims=True)
      y = ((y - mean) * jax.lax.rsqrt(variance + 1e-6)).reshape(x.shape)
    if self.affine:
      y = (y * self.param('scale', nn.initializers.ones, (c,)) +
           self.param('bias', nn.initializers.zeros, (c,)))
    return y.astype(x.dtype)


def _group_normalised(x: jax.Array, groups: int) -> jax.Array:
  """[B, T, H, W, C] less its mean and over its deviation, by frame and group.
  """
  b, t, h, w, c = x.shape
  y = x.reshape(b * t, h * w, c)

  def group_mean(values: jax.Array) -> jax.Array:
    """Means of [N, positions, C], each group's on all its channels."""
    means = values.mean(1).reshape(-1, groups, c // groups)
    means = jnp.broadcast_to(means.mean(-1, keepdims=True), means.shape)
    return means.reshape(-1, 1, c)

  y = y - group_mean(y)
  y = y * jax.lax.rsqrt(group_mean(jnp.square(y)) + 1e-6)
  return y.reshape(x.shape)


class AdaptiveNorm(nn.Module):
  """A norm whose scale and shift come from the latents (MAGVIT-v2, 3.3).

  With 'group', from each latent frame's mean and deviation over space; with
  'position', from the latent cell below each position, so that every output
  still depends on a bounded neighbourhood.

  Attributes:
    kind: Kind of norm, as in `Norm`.
    num_groups: Groups of channels, as in `Norm`.
    flat: Form of the norm, see `Norm`.
  """
  kind: str = 'group'
  num_groups: int = 32
  flat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, latents: jax.Array) -> jax.Array:
    """Normalises [B, T, H, W, C] given latents [B, t, h, w, c]."""
    starts = starts_clip(self)
    normed = Norm(self.kind, self.num_groups, affine=False, flat=self.flat,
                  name='norm')(x)
    style = latents.astype(jnp.float32)
    factor = (-(-x.shape[1] // latents.shape[1]), 1, 1)
    if starts and latents.shape[1] > 1:
      factor = ((x.shape[1] - 1) // (latents.shape[1] - 1), 1, 1)
    elif starts:
      factor = (1, 1, 1)
    if self.kind == 'group':
      mean = style.mean((2, 3), keepdims=True)
      variance = jnp.square(style - mean).mean((2, 3), keepdims=True)
      style = jnp.concatenate([mean, jnp.sqrt(variance + 1e-6)], axis=-1)
    else:
      factor = (factor[0], x.shape[2] // latents.shape[2],
                x.shape[3] // latents.shape[3])
    modulation = nn.Dense(2 * x.shape[-1], name='modulation',
                          kernel_init=nn.initializers.zeros)(style)
    modulation = repeat_cells(modulation, factor, starts=starts)
    scale, shift = jnp.split(modulation.astype(x.dtype), 2, axis=-1)
    return normed * (1 + scale) + shift


class ResidualBlock(nn.Module):
  """Norm, SiLU and convolution, twice, around a shortcut.

  Attributes:
    features: Output channels.
    kernel_size: Extent of both convolutions.
    norm: Kind of norm, as in `Norm`.
    num_groups: Groups of channels, as in `Norm`.
    form: Form of the convolutions, as in `causal_conv`.
    dtype: Compute type.
    flat: Form of the norm, see `Norm`.
  """
  features: int
  kernel_size: Triple = (3, 3, 3)
  norm: str = 'group'
  num_groups: int = 32
  form: str = 'native'
  dtype: jnp.dtype = jnp.float32
  flat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T, H, W, features]."""
    y = x
    for index in (1, 2):
      y = Norm(self.norm, self.num_groups, flat=self.flat,
               name=f'norm_{index}')(y)
      # The block starts as its shortcut: small networks then learn faster.
      init = (nn.initializers.zeros if index == 2 else
              nn.initializers.lecun_normal())
      y = causal_conv.CausalConv(
          self.features, self.kernel_size, form=self.form, dtype=self.dtype,
          kernel_init=init, name=f'conv_{index}')(nn.silu(y))
    if x.shape[-1] != self.features:
      x = causal_conv.CausalConv(
          self.features, (1, 1, 1), form=self.form, dtype=self.dtype,
          name='shortcut')(x)
    return x + y
