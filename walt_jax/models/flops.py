"""Arithmetic of the denoiser, by part, from its fields alone.

A multiplication and an addition are two operations (FLOPs); only matrix
products and convolutions count, each as often as the model needs it:
rematerialisation, masks and the expansion of bias tables are no model FLOPs.
"""
import math

from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import embeddings
from walt_jax.models import modulation

# Backward passes give the gradients of both operands of each product.
BACKWARD_TO_FORWARD = 2

# Parts of the parameters, for `counting.parameters_by_part`.
PARTS = (
    ('low_res_upscaler', r'^low_res_upscaler/'),
    ('patch_projection', r'^patch_projection/'),
    ('position', r'^position/'),
    ('embeddings', r'^(time|label|noise_level)_embedding/|^condition_'),
    ('text_projection', r'^text_(projection|norm)/'),
    ('modulation', r'^modulation/|^layers/[^/]+/modulation/'),
    ('relative_bias', r'^layers/[^/]+/attention/relative_bias$'),
    ('attention', r'^layers/[^/]+/attention/'),
    ('cross_attention', r'^layers/[^/]+/cross_(attention|norm)/'),
    ('mlp', r'^layers/[^/]+/mlp/'),
    ('head', r'^(final_modulation|head|skip_gates)/'),
)


def token_grid(model: denoiser_lib.Denoiser,
               latent_shape: tuple[int, int, int, int]
               ) -> tuple[int, int, int]:
  """Frames, rows and columns of tokens of latents (1+t, h, w, c)."""
  frames, rows, columns, _ = latent_shape
  return frames, rows // model.patch, columns // model.patch


def forward_flops(model: denoiser_lib.Denoiser,
                  latent_shape: tuple[int, int, int, int], *,
                  num_conditions: int = 1,
                  text_tokens: int = 0) -> dict[str, int]:
  """FLOPs of one pass over one row.

  Args:
    model: The network.
    latent_shape: (1+t, h, w, c) of the row.
    num_conditions: F: 1, or 1+t in joint training with images.
    text_tokens: L, of each text.

  Returns:
    By part, named as in `PARTS`. Looking up embeddings costs nothing.
  """
  channels = latent_shape[-1]
  width, depth, grid = model.width, model.depth, token_grid(model, latent_shape)
  tokens = math.prod(grid)
  vectors = modulation.NUM_VECTORS * width
  cells = model.patch ** 2

  parts = dict(
      patch_projection=_product(tokens, cells * _input_channels(
          model, channels), width),
      embeddings=(1 + model.use_noise_level) * (
          _product(num_conditions, embeddings.NUM_FREQUENCIES, width) +
          _product(num_conditions, width, width)),
      head=(_product(num_conditions, width, 2 * width) +
            _product(tokens, width, cells * channels)))
  if model.linear_skip:
    parts['head'] += _product(
        num_conditions, width, (1 + bool(model.low_res_factor)) * channels)
  if model.low_res_factor:
    low_res_cells = math.prod(latent_shape[:3]) // model.low_res_factor ** 2
    parts['low_res_upscaler'] = _product(
        low_res_cells, 9 * channels, channels * model.low_res_factor ** 2)
  if model.lora_rank:
    parts['modulation'] = _product(num_conditions, width, vectors) + depth * (
        _product(num_conditions, width, model.lora_rank) +
        _product(num_conditions, model.lora_rank, vectors))
  else:
    parts['modulation'] = depth * _product(num_conditions, width, vectors)

  # A pair of layers: one spatial, one spatiotemporal.
  windows = [math.prod(window) for window in (
      model.spatial_window, model.spacetime_window)]
  projections = 4 * _product(tokens, width, width)
  parts['attention'] = depth // 2 * sum(
      projections + 2 * _product(tokens, window, width) for window in windows)
  parts['mlp'] = depth * 2 * _product(tokens, width, model.mlp_width)
  if model.text_width:
    texts = num_conditions * text_tokens
    own = windows if model.text_window == 'own' else windows[:1] * 2
    parts['text_projection'] = _product(texts, model.text_width, width)
    parts['cross_attention'] = depth // 2 * sum(
        projections + 2 * _product(texts, width, width) +
        2 * _product(tokens, window + text_tokens, width) for window in own)
  return parts


def _product(rows: int, inner: int, columns: int) -> int:
  """FLOPs of [rows, inner] x [inner, columns]."""
  return 2 * rows * inner * columns


def _input_channels(model: denoiser_lib.Denoiser, channels: int) -> int:
  """Channels in front of the patch projection (section 4)."""
  return (channels * (1 + model.self_condition + model.frame_condition +
                      bool(model.low_res_factor)) + model.frame_condition)
