"""Evaluation protocols by name: what makes a score stand beside another."""
from collections.abc import Mapping
import dataclasses

from walt_jax import errors


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Conditions under which a published score was measured.

  Attributes:
    name: As given to `--protocol`.
    metric: 'fvd', 'fid', .., or None for any.
    num_generated: Samples a repeat, or None for any number.
    repeats: Independent sets of samples whose scores are averaged.
    frames: Frames scored, or None for any.
    size: Rows and columns that clips are brought to before the network's own
      resizing, or None.
    network: Name of the feature network, or None for any.
    real_split: Which real clips, in words.
    comparable_to: Published numbers that a result may stand beside.
  """
  name: str
  metric: str | None = None
  num_generated: int | None = None
  repeats: int = 1
  frames: int | None = None
  size: int | None = None
  network: str | None = None
  real_split: str = 'any'
  comparable_to: tuple[str, ...] = ()


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (
        Protocol('quick'),
        Protocol('ucf101-magvit', 'fvd', num_generated=10_000, repeats=4,
                 frames=16, network='i3d-kinetics-400', real_split='train',
                 comparable_to=('MAGVIT table 1', 'W.A.L.T table 1')),
        Protocol('ucf101-styleganv', 'fvd', num_generated=2_048, frames=16,
                 network='i3d-kinetics-400', real_split='train and test',
                 comparable_to=('StyleGAN-V table 1',)),
        Protocol('k600-magvit', 'fvd', num_generated=50_000, frames=16,
                 size=64, network='i3d-kinetics-400', real_split='held out',
                 comparable_to=('MAGVIT table 2', 'W.A.L.T table 1')),
        Protocol('reconstruction', 'reconstruction'),
    )}


def get(name: str) -> Protocol:
  """Looks a protocol up.

  Raises:
    errors.UserError: No such protocol.
  """
  if name not in PROTOCOLS:
    raise errors.UserError(
        f'no protocol {name!r}; choose one of {", ".join(PROTOCOLS)}')
  return PROTOCOLS[name]


def check(protocol: Protocol, *, metric: str, num_generated: int, frames: int,
          network: str):
  """Refuses a score that would not be what the protocol's name says.

  Raises:
    errors.UserError: Too few clips, another frame count, metric or network.
  """
  if protocol.metric not in (None, metric):
    raise errors.UserError(
        f'protocol {protocol.name} is for {protocol.metric}, not {metric}; '
        "use --protocol quick")
  wanted = protocol.num_generated
  if wanted is not None and num_generated < wanted:
    raise errors.UserError(
        f'protocol {protocol.name} needs {wanted} generated clips, got '
        f'{num_generated}; generate more or use --protocol quick')
  if protocol.frames not in (None, frames):
    raise errors.UserError(
        f'protocol {protocol.name} scores {protocol.frames} frames, got '
        f'{frames}; use --protocol quick')
  if protocol.network not in (None, network):
    raise errors.UserError(
        f'protocol {protocol.name} is defined by {protocol.network}, not '
        f'{network}; use --protocol quick')
