"""How a denoiser's samples are drawn unless a command says otherwise."""
import dataclasses
from typing import Annotated, ClassVar, Literal

from walt_jax.core import ranges
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers


@dataclasses.dataclass(frozen=True)
class Guidance:
  """Classifier-free guidance: how strongly each condition is followed."""
  configures: ClassVar[type] = guidance_lib.Guidance
  label: ranges.Scale = 1.0
  text: ranges.Scale = 1.0
  frames: ranges.Scale = 1.0
  own: tuple[tuple[str, ranges.Scale], ...] = ()
  schedule: Literal['constant', 'power_cosine', 'interval'] = 'constant'
  power: Annotated[float, ranges.Range(0, 100)] = 4.0
  interval: tuple[ranges.Fraction, ranges.Fraction] = (0.0, 1.0)

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
  noise_level: ranges.Fraction | None = None

  @property
  def options(self) -> samplers.SamplerOptions:
    """The part that the sampler takes by itself."""
    return samplers.SamplerOptions(**{
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(samplers.SamplerOptions)})
