"""Parameters in the type that a denoiser computes with them in.

Parameters are float32, and a model of another type casts those that meet
tokens in every pass. What only samples casts them once: the same numbers come
out, and half of the memory goes. The others (norms, modulation, embeddings,
the first and the last layer) are computed with in float32 and stay.
"""
import re
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.models import denoiser as denoiser_lib

_CAST = re.compile(
    r'(text_projection'
    r'|layers/(spatial|spacetime)/'
    r'((cross_)?attention/(query|key|value|out)|mlp/(mlp_in|mlp_out))'
    r')/(kernel|bias)')


def cast(denoiser: denoiser_lib.Denoiser, params: Any) -> Any:
  """Parameters for passes without gradients; what is cast already stays."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x.astype(type_of(denoiser, path, x)), params)


def cast_in_turns(denoiser: denoiser_lib.Denoiser, params: Any) -> Any:
  """As `cast`, of arrays on devices that nobody else needs.

  Each is deleted when it is cast: at no time is there room for all of them in
  both types.
  """

  def leaf(path, x):
    wanted = type_of(denoiser, path, x)
    if x.dtype == wanted:
      return x
    narrow = jax.block_until_ready(x.astype(wanted))
    x.delete()
    return narrow

  return jax.tree_util.tree_map_with_path(leaf, params)


def type_of(denoiser: denoiser_lib.Denoiser, path: tuple[Any, ...],
            x: jax.Array) -> jnp.dtype:
  """The type that a parameter is computed with in."""
  name = jax.tree_util.keystr(path, simple=True, separator='/')
  return jnp.dtype(denoiser.dtype) if _CAST.fullmatch(name) else x.dtype
