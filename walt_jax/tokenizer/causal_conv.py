"""The causal 3D convolution of the tokenizer, one operation in two forms.

Strict causality in time is what lets an image be a video of one frame and
the encoding of a prefix be the prefix of the encoding (section 4.1).
"""
from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

Triple = tuple[int, int, int]  # (frames, rows, columns).
FORMS = ('native', 'stacked')


def pad_time(x: jax.Array, count: int, context: jax.Array | None) -> jax.Array:
  """Puts the past in front of a clip or of a chunk of one.

  Args:
    x: [B, T, H, W, C].
    count: Number of repeats of the first frame where nothing came before.
    context: Frames [B, T', H, W, C] that came just before, or None at the
      start of a clip.

  Returns:
    [B, T + count or T + T', H, W, C].
  """
  if context is not None:
    return jnp.concatenate([context.astype(x.dtype), x], axis=1)
  if count == 0:
    return x
  return jnp.concatenate([jnp.repeat(x[:, :1], count, axis=1), x], axis=1)


def spatial_padding(kernel: int, stride: int) -> tuple[int, int]:
  """Zeros before and after an axis so that its length divides by `stride`."""
  total = max(kernel - stride, 0)
  return total // 2, total - total // 2


def convolve(x: jax.Array, kernel: jax.Array, *, strides: Triple,
             padding: tuple[tuple[int, int], tuple[int, int]],
             form: str) -> jax.Array:
  """A 3D convolution, with no padding in time.

  Args:
    x: [B, T, H, W, C].
    kernel: [kt, kh, kw, C, D], in the type of `x`.
    strides: Strides in time, rows and columns.
    padding: Zeros before and after rows and columns.
    form: 'native', one 3D convolution, or 'stacked', one 2D convolution over
      the time taps stacked on channels (faster on CPUs, and in training on
      GPUs). Equal up to rounding.

  Returns:
    [B, (T - kt) // stride + 1, H', W', D].
  """
  if form not in FORMS:
    raise ValueError(f'Unknown convolution form {form!r}; choose from {FORMS}.')
  taps, rows, columns = kernel.shape[:3]
  if kernel.shape[:3] == (1, 1, 1) and strides == (1, 1, 1):
    return x @ kernel[0, 0, 0]
  if form == 'native':
    return lax.conv_general_dilated(
        x, kernel, strides, ((0, 0), *padding),
        dimension_numbers=('NTHWC', 'THWIO', 'NTHWC'))
  frames = (x.shape[1] - taps) // strides[0] + 1
  span = strides[0] * (frames - 1) + 1
  stacked = jnp.concatenate(
      [x[:, tap:tap + span:strides[0]] for tap in range(taps)], axis=-1)
  b, t, h, w, c = stacked.shape
  # Channel order (tap, C) on both sides.
  kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(rows, columns, c, -1)
  out = lax.conv_general_dilated(
      stacked.reshape(b * t, h, w, c), kernel, strides[1:], padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return out.reshape(b, t, *out.shape[1:])


def causal_conv(x: jax.Array, kernel: jax.Array, *,
                strides: Triple = (1, 1, 1), form: str = 'native',
                context: jax.Array | None = None) -> jax.Array:
  """Convolves so that output frame i sees input frames up to i * stride only.

  Space is padded by zeros, time by repeating the first frame or, inside a
  clip that comes in chunks, by the frames before (see `next_context`).

  Args:
    x: [B, T, H, W, C]; H and W are multiples of the strides. A clip has
      T = 1 + stride * n frames, a later chunk of one T = stride * n.
    kernel: [kt, kh, kw, C, D], in the type of `x`; kt is at least the time
      stride.
    strides: Strides in time, rows and columns.
    form: Form of the convolution, as in `convolve`.
    context: The last kt - stride frames before `x`, or None at the start.

  Returns:
    [B, 1 + n or n, H / rows, W / columns, D].
  """
  taps, rows, columns = kernel.shape[:3]
  if taps < strides[0]:
    raise ValueError(f'{taps} taps cannot cover a time stride {strides[0]}.')
  if x.shape[2] % strides[1] or x.shape[3] % strides[2]:
    raise ValueError(f'{x.shape[2]}x{x.shape[3]} is not a multiple of the '
                     f'strides {strides[1:]}.')
  if x.shape[1] == 1 and context is None and taps > 1:
    # A lone first frame meets every tap: the taps can be summed before.
    kernel, taps = kernel.sum(axis=0, keepdims=True), 1
  return convolve(
      pad_time(x, taps - 1, context), kernel, strides=strides, form=form,
      padding=(spatial_padding(rows, strides[1]),
               spatial_padding(columns, strides[2])))


def next_context(x: jax.Array, taps: int, stride: int,
                 context: jax.Array | None) -> jax.Array:
  """The `context` of the chunk that follows `x`: kt - stride frames."""
  padded = pad_time(x, taps - 1, context)
  return padded[:, padded.shape[1] - (taps - stride):]


class CausalConv(nn.Module):
  """`causal_conv` with its parameters.

  Called with a mutable collection `stream`, it remembers the frames that the
  next chunk needs, and continues from those remembered: chunks of a clip then
  give exactly what the whole clip gives.

  Attributes:
    features: D.
    kernel_size: Extent in frames, rows and columns.
    strides: Strides in frames, rows and columns.
    form: Form of the convolution, as in `convolve`.
    dtype: Compute type; parameters stay float32.
    kernel_init: Initialiser of the kernel.
  """
  features: int
  kernel_size: Triple = (3, 3, 3)
  strides: Triple = (1, 1, 1)
  form: str = 'native'
  dtype: jnp.dtype = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, H, W, C] to [B, T', H', W', D]."""
    kernel = self.param('kernel', self.kernel_init,
                        (*self.kernel_size, x.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    x = x.astype(self.dtype)
    taps, stride = self.kernel_size[0], self.strides[0]
    context: jax.Array | None = self.get_variable('stream', 'context')
    if is_streaming(self) and taps > stride:
      self.put_variable('stream', 'context',
                        next_context(x, taps, stride, context))
    elif is_streaming(self):
      # Nothing to remember, but the next chunk must not repeat its frame.
      self.put_variable('stream', 'context', x[:, :0])
    out = causal_conv(x, kernel.astype(self.dtype), strides=self.strides,
                      form=self.form, context=context)
    return out + bias.astype(self.dtype)


def is_streaming(module: nn.Module) -> bool:
  """Whether the module is applied to a chunk whose successor will follow."""
  return (module.is_mutable_collection('stream') and
          not module.is_initializing())
