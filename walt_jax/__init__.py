"""W.A.L.T: window-attention latent video diffusion in JAX and Flax.

The public names, each imported on first use:

  load                   trained stages, to draw clips: `load(DIR).sample(..)`
  load_params            a stage's weights, as nested dicts of NumPy arrays
  Tokenizer              pixels to latents and back
  fvd, fid               distance between two sets of clips or images
  reconstruction_scores  PSNR, SSIM and more of pairs of clips
"""
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from walt_jax.builders.loading import Tokenizer as Tokenizer
  from walt_jax.builders.loading import load as load
  from walt_jax.builders.loading import load_params as load_params
  from walt_jax.metrics.array_scores import fid as fid
  from walt_jax.metrics.array_scores import fvd as fvd
  from walt_jax.metrics.array_scores import (
    reconstruction_scores as reconstruction_scores,
  )

__version__ = '0.1.0'

_MODULES = {
    'load': 'walt_jax.builders.loading',
    'load_params': 'walt_jax.builders.loading',
    'Tokenizer': 'walt_jax.builders.loading',
    'fvd': 'walt_jax.metrics.array_scores',
    'fid': 'walt_jax.metrics.array_scores',
    'reconstruction_scores': 'walt_jax.metrics.array_scores',
}
__all__ = ['__version__', *_MODULES]


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
