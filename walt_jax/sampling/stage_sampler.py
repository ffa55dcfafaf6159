"""One trained stage, ready to draw latents."""
from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from walt_jax.core import types
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import network as network_lib
from walt_jax.diffusion import noise
from walt_jax.diffusion import prediction as prediction_lib
from walt_jax.diffusion import samplers
from walt_jax.diffusion import schedules
from walt_jax.models import compute_type
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models import prepared
from walt_jax.models import token_cuts
from walt_jax.sampling import factorized

Shape = tuple[int, int, int, int]
# Uses of a row's key; 2 is `cascade`'s.
_SAMPLE, _LOW_RES, _, _FIRST_FRAME = range(4)


@dataclasses.dataclass(frozen=True, eq=False)
class StageSampler:
  """How one stage draws latents; its parameters come with each call.

  Attributes:
    denoiser: The network.
    schedule: Noise schedule.
    prediction: What the network predicts.
    shape: (1+t, h, w, c) of one sample's latents.
    self_condition: Whether the network is given its last estimate of x_0. Only
      one that was trained with it may be: a network may have the input and no
      trained weights behind it, and then takes zeros, as in training.
  """
  denoiser: denoiser_lib.Denoiser
  schedule: schedules.Schedule
  prediction: prediction_lib.Prediction
  shape: Shape
  self_condition: bool

  def make(self, options: samplers.SamplerOptions,
           guidance: guidance_lib.Guidance) -> Callable[..., jax.Array]:
    """Returns the pure `draw(params, keys, conditioning, level) -> latents`.

    `conditioning` holds clean low-resolution latents where the stage takes
    them; they are noised here at `level` in [0, 1] (section 4.5), and the
    denoiser is told so. With `options.factorized`, rows that are given no
    frame begin with an image that is drawn first. Parameters may come as they
    are trained or as `compute_type.cast` has them. In a mesh with the axis
    `context` its devices share the tokens of each row.
    """
    guidance = dataclasses.replace(
        guidance, null_label=self.denoiser.num_classes)

    def draw(params: Any, keys: jax.Array, conditioning: types.Conditioning,
             level: jax.Array) -> jax.Array:
      params = compute_type.cast(self.denoiser, params)
      if conditioning.low_res is not None:
        levels = jnp.broadcast_to(level, (keys.shape[0], 1))
        conditioning = dataclasses.replace(
            conditioning, low_res=noise.augment_low_res(
                self.schedule, noise.fold(keys, _LOW_RES),
                conditioning.low_res, levels),
            low_res_level=levels)

      network = self.network(params)
      sample = functools.partial(
          samplers.sample, schedule=self.schedule, prediction=self.prediction,
          options=options, guidance=guidance,
          self_condition=self.self_condition)
      if options.factorized:
        image = functools.partial(
            sample, factorized.images_in_rows(network, self.shape[0]),
            noise.fold(keys, _FIRST_FRAME), (1, *self.shape[1:]))
        conditioning = factorized.begin_with_image(
            image, conditioning, self.shape[0])
      return sample(network, noise.fold(keys, _SAMPLE), self.shape,
                    conditioning=conditioning)

    return token_cuts.on_parts(draw)

  def network(self, params: Any) -> network_lib.Network:
    """The denoiser with these parameters."""

    def bind(conditioning: types.Conditioning, num_rows: int
             ) -> network_lib.EvaluateFn:
      return network_lib.of_function(prepared.prepare(
          self.denoiser, params, conditioning, (num_rows, *self.shape)))(
              conditioning, num_rows)

    return bind
