"""A denoiser with all that is the same at every step of a sample."""
from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import types
from walt_jax.models import constants
from walt_jax.models import denoiser as denoiser_lib


def prepare(denoiser: denoiser_lib.Denoiser, params: Any,
            conditioning: types.Conditioning, shape: tuple[int, ...]
            ) -> Callable[..., Any]:
  """A denoiser with its parameters and all that these conditions decide.

  Traced: the tokens of the pass that this takes lead nowhere, and a compiler
  drops them.

  Args:
    denoiser: The network.
    params: Its parameters.
    conditioning: What it will be applied with; `self_cond` may differ.
    shape: (B, 1+t, h, w, c) of the noisy latents.

  Returns:
    What is called as the bound denoiser, with (x_t, timestep, conditioning).
  """
  _, kept = denoiser.apply(
      {'params': params}, jnp.zeros(shape), jnp.zeros((shape[0], 1)),
      conditioning, mutable=[constants.COLLECTION])
  variables = {'params': params, **kept}
  num_pairs = denoiser.depth // 2
  if denoiser.scan_unroll < num_pairs:
    return functools.partial(denoiser.apply, variables)
  # Layers that are no loop would each cut their weights from the stack at
  # every step. Cut before the loop over steps, and put together inside of it,
  # the stack is never made: the compiler drops the cut of what it joins.
  layers = {name: tree['layers'] for name, tree in variables.items()
            if 'layers' in tree}
  apart = [jax.tree.map(lambda x, i=i: x[i], layers)
           for i in range(num_pairs)]

  def apply(*inputs):
    together = jax.tree.map(lambda *parts: jnp.stack(parts), *apart)
    return denoiser.apply(
        {name: {**tree, **({'layers': together[name]} if name in together
                           else {})} for name, tree in variables.items()},
        *inputs)

  return apply
