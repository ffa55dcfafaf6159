"""How a denoiser's samples are drawn unless a command says otherwise."""
import dataclasses
from typing import ClassVar, Literal

from walt_jax.builders.sections import Fraction
from walt_jax.builders.sections import Rate
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers


@dataclasses.dataclass(frozen=True)
class Guidance:
  """Classifier-free guidance: how strongly each condition is followed."""
  configures: ClassVar[type] = guidance_lib.Guidance
  label: float = 1.0
  text: float = 1.0
  frames: float = 1.0
  own: tuple[tuple[str, float], ...] = ()
  schedule: Literal['constant', 'power_cosine', 'interval'] = 'constant'
  power: Rate = 4.0
  interval: tuple[Fraction, Fraction] = (0.0, 1.0)

  def __post_init__(self):
    self.build()

  def build(self) -> guidance_lib.Guidance:
    """What the sampler takes; the null label is the network's to say.

    Raises:
      ValueError: A scale is not finite, or the interval is none.
    """
    return guidance_lib.Guidance(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Sampler(samplers.SamplerOptions):
  """How samples are drawn unless a command says otherwise.

  Attributes:
    guidance: Scales of the conditions; empty for no guidance.
    noise_level: Super-resolution: noise on the low-resolution latents, so that
      the stage may fix what the one before got wrong; None is 0.1, or
      `diffusion.max_low_res_level` where that is less.
  """
  guidance: Guidance | None = None
  noise_level: Fraction | None = None

  @property
  def options(self) -> samplers.SamplerOptions:
    """The part that the sampler takes by itself."""
    return samplers.SamplerOptions(**{
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(samplers.SamplerOptions)})
