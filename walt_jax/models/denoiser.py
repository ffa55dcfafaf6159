"""The W.A.L.T denoiser: a windowed transformer over latents (section 4.2)."""
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from walt_jax.core import conditions as conditions_lib
from walt_jax.core import types
from walt_jax.models import attention
from walt_jax.models import blocks
from walt_jax.models import constants
from walt_jax.models import embeddings
from walt_jax.models import modulation
from walt_jax.models import remat
from walt_jax.models import super_resolution
from walt_jax.models import token_cuts
from walt_jax.models import windows
from walt_jax.models.kernels import fused_attention

TEXT_WINDOWS = ('spatial', 'own')


class Denoiser(nn.Module):
  """Predicts v (or eps, or x_0) of noisy latents.

  Attributes:
    width: Width D of every token.
    depth: Number of layers; even, spatial and spatiotemporal in turn. The
      parameters are stacked over the pairs, however they are executed.
    num_heads: Number K of attention heads; divides the width.
    mlp_width: Width of the MLPs' hidden layer.
    patch: Side p of the p x p patches that each latent frame is cut into; one
      patch is one token.
    spatial_window: Window (1, rows, columns) of the spatial layers, in tokens
      (SW); more than one frame only in a model without rows of images.
    spacetime_window: Window (frames, rows, columns) of the spatiotemporal
      layers, in tokens (STW).
    num_classes: Number of classes; 0: no labels. The null label has the id
      `num_classes`.
    text_width: Width of the text token states; 0 for no text.
    text_window: Whose window tokens text cross-attention sees besides the
      text: 'spatial' always (joint training), or each layer's 'own'.
    self_condition: Whether there is an input for the last estimate of x_0.
    frame_condition: Whether there is an input for given latent frames and
      their mask.
    low_res_factor: How many times more rows and columns the latents have than
      the low-resolution latents that condition them; 0: a base stage.
    linear_skip: Whether the output also takes a linear mix of the noisy and
      the upscaled low-resolution latents, by gates of time and condition. Not
      in the paper: a small super-resolution stage need not first learn to
      pass on what it is given.
    use_noise_level: Whether the noise level of the low-resolution latents is a
      condition too.
    conditions: Classes of the user's own (`core.conditions.Condition`); each
      embeds a condition under `condition_COLUMN`.
    lora_rank: Rank r of AdaLN-LoRA; 0: every layer has a whole linear layer
      (the paper's "separate MLP") for its modulation.
    use_qk_norm: Whether queries and keys are normalised (LayerNorm).
    use_relative_bias: Whether attention has a bias per head and relative
      offset in the window.
    position_init_scale: Initial deviation of the position tables; a short run
      of a small model needs about 1 to tell places apart from its first steps
      on.
    activation: Activation of the MLPs: 'gelu' (the paper's), or 'relu2', the
      squared ReLU.
    attention_form: How attention is computed: 'xla' by the compiler's own
      kernels, 'cudnn' by those of cuDNN (bfloat16 on a GPU), 'fused_tpu' by
      ours for TPUs, 'mapped' a few windows at a time; configs also know 'auto',
      the form of their platform.
    passes_form: How norms, residual sums and GELU are computed: 'plain' as the
      compiler fuses them, 'triton' by kernels with hand-written backward
      passes (on a GPU); configs also know 'auto', the form of their platform.
    flat_products: Whether weights meet tokens as rows of one matrix, which
      CPUs are faster with.
    scan_unroll: Number of pairs that a step of the loop over layers executes;
      in configs 0 is the platform's own: all of them on a GPU, where a loop
      copies what it keeps for the backward pass, else 1.
    remat_policy: What layers keep for the backward pass: 'none' everything (a
      config's 'none' is 'matmuls' on a CPU that loops over layers),
      'matmuls' the results of attention and of products with weights (and of
      the kernels between them, on a GPU),
      'minimal' those of attention and the MLP's two, 'full' the layer's input
      alone, 'offload' what 'minimal' does, in host memory. The rest is
      computed again.
    dtype: Type of matrix products and of the tokens between layers;
      parameters, norms, modulation and output are float32.
  """
  width: int
  depth: int
  num_heads: int
  mlp_width: int
  patch: int
  spatial_window: windows.Window
  spacetime_window: windows.Window
  num_classes: int = 0
  text_width: int = 0
  text_window: str = 'spatial'
  self_condition: bool = True
  frame_condition: bool = True
  low_res_factor: int = 0
  linear_skip: bool = False
  use_noise_level: bool = False
  conditions: tuple[type[conditions_lib.Condition], ...] = ()
  lora_rank: int = 2
  use_qk_norm: bool = True
  use_relative_bias: bool = True
  position_init_scale: float = 0.02
  activation: str = 'gelu'
  attention_form: str = 'xla'
  passes_form: str = 'plain'
  flat_products: bool = False
  scan_unroll: int = 1
  remat_policy: str = 'none'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
      self, x_t: jax.Array, timestep: jax.Array,
      conditioning: types.Conditioning) -> jax.Array:
    """Predicts from noisy latents.

    Args:
      x_t: [B, 1+t, h, w, c].
      timestep: [B, F] in (0, 1], 1 pure noise; F = 1, or 1+t when rows may
        hold independent images.
      conditioning: A condition left at None has its null value. One that the
        model was not built for is an error.

    Returns:
      float32 [B, 1+t, h, w, c].
    """
    self._check(x_t, timestep, conditioning)
    is_image = conditioning.is_image

    low_res = self._low_res(x_t, conditioning)
    inputs = self._inputs(x_t, low_res, conditioning)
    x = modulation.on_rows(nn.Dense(
        self.width, kernel_init=attention.PROJECTION_INIT,
        name='patch_projection')(windows.patchify(inputs, self.patch)))
    x = embeddings.PositionEmbedding(
        self.position_init_scale, name='position')(x, is_image)
    x = x.astype(self.dtype)

    own = [self._own(condition, x_t, conditioning)
           for condition in self.conditions]
    embedding = nn.silu(self._global_embedding(
        x_t, timestep, conditioning, [e for e in own if e.ndim == 3]))
    text, text_mask = self._text(x_t, conditioning)
    text, text_mask = self._with_tokens(
        text, text_mask, [e for e in own if e.ndim == 4])
    shared = None
    if self.lora_rank:
      shared = modulation.linear_modulation(
          embedding, modulation.NUM_VECTORS, self.width, 'modulation')
    context = blocks.LayerContext(
        embedding=embedding, shared_modulation=shared, text=text,
        text_mask=text_mask, is_image=is_image)
    _, frames, rows, columns, _ = x.shape
    order = fused_attention.token_order(
        self.attention_form, (frames, rows, columns),
        (self.spatial_window, self.spacetime_window))
    if order:
      x = token_cuts.own(order.apply(x), 3)
    x = self._layers(x, context, order)

    shift, scale = jnp.split(
        modulation.linear_modulation(
            embedding, 2, self.width, 'final_modulation'), 2, axis=-1)
    x = nn.LayerNorm(epsilon=attention.NORM_EPSILON, use_bias=False,
                     use_scale=False, dtype=jnp.float32, name='norm')(x)
    x = modulation.modulate(x, shift, scale)
    x = modulation.on_rows(nn.Dense(
        self.patch ** 2 * x_t.shape[-1], kernel_init=nn.initializers.zeros,
        name='head')(modulation.on_rows(x)))
    if order:
      x = order.undo(token_cuts.whole(x, 3))
    x = windows.unpatchify(x, self.patch)
    if self.linear_skip:
      x = x + self._skip(embedding, [x_t, *low_res])
    return x

  def _layers(self, x, context, order):
    num_pairs = self.depth // 2
    unroll = min(self.scan_unroll, num_pairs)
    spatial, spacetime = tuple(self.spatial_window), tuple(
        self.spacetime_window)
    options = blocks.LayerOptions(
        width=self.width, num_heads=self.num_heads, mlp_width=self.mlp_width,
        spatial_window=spatial, spacetime_window=spacetime,
        token_order=order, text_window=self.text_window,
        lora_rank=self.lora_rank,
        use_text=context.text is not None, use_qk_norm=self.use_qk_norm,
        use_relative_bias=self.use_relative_bias, activation=self.activation,
        attention_form=self.attention_form, passes_form=self.passes_form,
        flat_products=self.flat_products,
        keeps_activation=remat.keeps_passes(self.remat_policy),
        dtype=self.dtype)
    layers = nn.scan(
        blocks.LayerPair, variable_axes={
            'params': 0, constants.COLLECTION: 0},
        split_rngs={'params': True}, in_axes=nn.broadcast, length=num_pairs,
        unroll=unroll, check_constancy_invariants=False)
    return layers(options, self.remat_policy, unroll == num_pairs,
                  name='layers')(x, context)[0]

  def _low_res(self, x_t, conditioning) -> list[jax.Array]:
    """The upscaled low-resolution latents of x_t's shape, if there are any."""
    if not self.low_res_factor:
      return []
    b, t, h, w, c = x_t.shape
    low = (b, t, h // self.low_res_factor, w // self.low_res_factor, c)
    upscaler = super_resolution.LatentUpscaler(
        self.low_res_factor, name='low_res_upscaler')
    return [constants.once(self, 'low_res', lambda: upscaler(
        _or_zeros(conditioning.low_res, low)))]

  def _skip(self, embedding, parts) -> jax.Array:
    """Sum of latents, each channel times a gate that starts at zero."""
    channels = parts[0].shape[-1]
    gates = jnp.split(
        modulation.linear_modulation(
            embedding, len(parts), channels, 'skip_gates'),
        len(parts), axis=-1)
    return sum(modulation.per_token(gate) * part
               for gate, part in zip(gates, parts, strict=True))

  def _inputs(self, x_t, low_res, conditioning) -> jax.Array:
    """Noisy latents and everything that is concatenated on channels."""
    parts = [x_t]
    if self.self_condition:
      parts.append(_or_zeros(conditioning.self_cond, x_t.shape))
    if self.frame_condition:
      mask = _or_zeros(conditioning.frame_mask, x_t.shape[:2])
      parts += [_or_zeros(conditioning.frame_cond, x_t.shape),
                jnp.broadcast_to(mask[..., None, None, None],
                                 (*x_t.shape[:-1], 1))]
    parts += low_res
    return jnp.concatenate([part.astype(jnp.float32) for part in parts], -1)

  def _own(self, condition, x_t, conditioning) -> jax.Array:
    """Embeds a condition of the user's own: [B, F, D] or [B, F, L, D]."""
    name = condition.column
    value = (conditioning.own or {}).get(name)
    if value is None:
      value = jnp.full((x_t.shape[0], 1, *condition.shape), condition.null)
    else:
      given = conditions_lib.own_mask(conditioning)[name]
      given = given.reshape(*given.shape, *(1,) * len(condition.shape))
      value = jnp.where(given, value, condition.null)
    module: Any = condition(width=self.width, name=f'condition_{name}')
    embedded = module(value)
    if embedded.ndim not in (3, 4) or embedded.shape[-1] != self.width or (
        embedded.shape[:2] != value.shape[:2]):
      raise ValueError(
          f'{condition.__name__} embeds {name} as {embedded.shape}; it should '
          f'be (*{value.shape[:2]}, {self.width}), or such tokens with one '
          'more axis before the last.')
    return embedded

  def _with_tokens(self, text, mask, tokens):
    """The text's tokens and mask, then those of own conditions."""
    for more in tokens:
      more = more.astype(self.dtype)
      given = jnp.ones(more.shape[:-1], bool)
      if text is None:
        text, mask = more, given
      else:
        frames = max(text.shape[1], more.shape[1])
        spread = lambda x, frames=frames: jnp.broadcast_to(
            x, (x.shape[0], frames, *x.shape[2:]))
        text = jnp.concatenate([spread(text), spread(more)], axis=2)
        mask = jnp.concatenate([spread(mask), spread(given)], axis=2)
    return text, mask

  def _global_embedding(self, x_t, timestep, conditioning, own) -> jax.Array:
    """The sum of the embeddings of time and conditions [B, F, D]."""
    total = embeddings.TimestepEmbedding(
        self.width, name='time_embedding')(timestep)
    rows = (x_t.shape[0], 1)
    if self.num_classes:
      label = conditioning.label
      if label is None:
        label = jnp.full(rows, self.num_classes, jnp.int32)
      table = nn.Embed(
          self.num_classes + 1, self.width,
          embedding_init=embeddings.LABEL_INIT, name='label_embedding')
      total = total + table(label)
    if self.use_noise_level:
      level = conditioning.low_res_level
      total = total + embeddings.TimestepEmbedding(
          self.width, name='noise_level_embedding')(
              jnp.zeros(rows) if level is None else level)
    for embedded in own:
      total = total + embedded
    return modulation.on_rows(total)

  def _text(self, x_t, conditioning):
    """Text tokens of the model's width, and their mask; or two Nones."""
    if not self.text_width:
      return None, None
    text = conditioning.text
    if text is None:
      text = jnp.zeros((x_t.shape[0], 1, 1, self.text_width))
      mask = jnp.zeros(text.shape[:-1], bool)
    else:
      mask = conditions_lib.text_mask(conditioning)
    text = modulation.on_rows(
        nn.Dense(self.width, dtype=self.dtype, name='text_projection')(text))
    text = nn.LayerNorm(epsilon=attention.NORM_EPSILON, dtype=jnp.float32,
                        name='text_norm')(text)
    return text.astype(self.dtype), mask

  def _check(self, x_t, timestep, conditioning) -> None:
    """Raises ValueError on settings or inputs that do not fit together."""
    if self.depth < 2 or self.depth % 2:
      raise ValueError(f'depth must be even and positive, not {self.depth}.')
    if self.text_window not in TEXT_WINDOWS:
      raise ValueError(f'Unknown text_window {self.text_window!r}; choose of '
                       f'{TEXT_WINDOWS}.')
    if self.activation not in blocks.ACTIVATIONS:
      raise ValueError(f'Unknown activation {self.activation!r}; choose of '
                       f'{tuple(blocks.ACTIVATIONS)}.')
    if self.scan_unroll < 1:
      raise ValueError(f'scan_unroll must be positive: {self.scan_unroll}.')
    b, t = x_t.shape[:2]
    frames = {(b, 1), (b, t)}
    for name, value in dict(timestep=timestep, label=conditioning.label,
                            low_res_level=conditioning.low_res_level).items():
      if value is not None and value.shape not in frames:
        raise ValueError(f'{name} has shape {value.shape}, expected one of '
                         f'{sorted(frames)}.')
    if conditioning.is_image is not None and self.spatial_window[0] != 1:
      raise ValueError('Rows of images need a spatial window of one frame, '
                       f'not {self.spatial_window}.')
    if self.low_res_factor and any(
        extent % self.low_res_factor for extent in x_t.shape[2:4]):
      raise ValueError(f'Latent grid {x_t.shape[2:4]} is not a multiple of '
                       f'low_res_factor {self.low_res_factor}.')
    built_for = dict(
        label=self.num_classes, text=self.text_width,
        self_cond=self.self_condition, frame_cond=self.frame_condition,
        frame_mask=self.frame_condition, low_res=self.low_res_factor,
        low_res_level=self.use_noise_level)
    wrong = [name for name, built in built_for.items()
             if not built and getattr(conditioning, name) is not None]
    wrong += sorted(set(conditioning.own or ()) - {
        condition.column for condition in self.conditions})
    if wrong:
      raise ValueError(f'The model was built without {wrong[0]}.')


def _or_zeros(x: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
  """`x`, which must have `shape`, or zeros of it for None."""
  if x is None:
    return jnp.zeros(shape)
  if x.shape != shape:
    raise ValueError(f'A condition has shape {x.shape}, expected {shape}.')
  return x
