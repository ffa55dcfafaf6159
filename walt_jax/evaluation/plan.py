"""How a score of features of sets is measured, checked before any work."""
from collections.abc import Sequence
import dataclasses
from typing import Any, Protocol
import warnings

import jax
import numpy as np

from walt_jax.core import errors
from walt_jax.evaluation import given_frames as given_lib
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import image_features
from walt_jax.metrics import protocols
from walt_jax.metrics import scores
from walt_jax.parallel import mesh as mesh_lib

_ACCELERATOR_BATCH = 16
_MOST_AT_ONCE = 64  # Clips that a device gets, however large --batch_size.


class FeatureScore(Protocol):
  """What FVD, FID and the Inception Score do each in their own way.

  Attributes:
    name: Its name in results.
    beside: Scores that may stand beside it, of `scores.BESIDE`.
    uses_real: Whether generated clips are compared with real ones.
  """
  name: str
  beside: tuple[str, ...]
  uses_real: bool

  def network(self, plan: 'Plan', *, is_video: bool,
              devices: Sequence[Any]) -> feature_network.FeatureNetwork:
    """The network that the request or the protocol names."""

  def keep(self, options: scores.Options) -> tuple[str, ...]:
    """Outputs of the network of which more than statistics is needed."""

  def result(self, name: str, real: Any, generated: Any,
             options: scores.Options) -> dict[str, Any]:
    """The score of sets of features, under the name `name`."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be measured, and under which protocol.

  Attributes:
    score: Which score.
    inputs: What is scored.
    protocol: Its conditions.
    also: Scores beside.
    given: Frames of the generated clips that are real ones.
  """
  score: FeatureScore
  inputs: inputs_lib.Inputs
  protocol: protocols.Protocol
  also: tuple[str, ...]
  given: given_lib.Given

  @property
  def request(self) -> requests_lib.EvaluationRequest:
    """What was asked for."""
    return self.inputs.request

  @classmethod
  def of(cls, score: FeatureScore, inputs: inputs_lib.Inputs) -> 'Plan':
    """Looks the protocol up and checks that it is for the score."""
    measure = inputs.request.measure
    protocol = protocols.get(inputs.request.protocol)
    also = tuple(dict.fromkeys((*protocol.also, *measure.also)))
    for name in also:
      if name not in score.beside:
        raise errors.UserError(
            f'--also {name}: not beside {score.name}; choose of '
            f'{", ".join(score.beside) or "none"}')
    if protocol.metric not in (None, score.name):
      raise errors.UserError(
          f'protocol {protocol.name} is for {protocol.metric}, not '
          f'{score.name}; use --protocol quick')
    if (protocol.preprocessing and measure.preprocessing
        and measure.preprocessing != protocol.preprocessing):
      raise errors.UserError(
          f'protocol {protocol.name} preprocesses by '
          f'{protocol.preprocessing}, not {measure.preprocessing}; leave '
          '--preprocessing out or use --protocol quick')
    return cls(score, inputs, protocol, also, given_lib.of(inputs))

  @property
  def preprocessing(self) -> str | None:
    """From pixels to the network's input; None: the network's own."""
    return self.request.measure.preprocessing or self.protocol.preprocessing

  @property
  def network_files(self) -> list[str]:
    """Weight files of the feature network; none: the packaged one."""
    return self.request.network.split(',') if self.request.network else []

  def check(self, network, real: Any, *,
            num_generated: int | None, repeats: int, frames: int,
            size: tuple[int, int]) -> None:
    """Refuses what the protocol or the network does not allow, before work."""
    self._check_outputs(network)
    self._check_given(frames)
    measure = self.request.measure
    known = real.split if real else None
    if measure.real_split and known not in (None, measure.real_split):
      raise errors.UserError(
          f'--real_split {measure.real_split}: {self.request.real} says that '
          f'it is the split {known!r}; leave --real_split out')
    protocols.check(self.protocol, protocols.Conditions(
        self.score.name, num_generated, repeats,
        num_real=None if real is None else real.count,
        real_split=measure.real_split or known,
        frames=frames, given_frames=self.given.frames or 0,
        network=network.info.name, size=size,
        real_is_reference=bool(real and real.is_external)))

  @property
  def options(self) -> scores.Options:
    """How sets of features are scored."""
    measure = self.request.measure
    return scores.Options(self.protocol, self.also, measure.resamples,
                          measure.num_splits, self.request.seed)

  @property
  def keep(self) -> tuple[str, ...]:
    """Outputs of which more than statistics is needed."""
    return self.score.keep(self.options)

  def collect(self, clips, network, frames, label: str) -> Any:
    """Streams clips through the network."""
    return feature_sets.collect(clips, network, frames=frames,
                                keep=self.keep, label=label)

  def _check_given(self, frames: int) -> None:
    """Clips must be given equally many frames, and not all that are scored."""
    given, wanted = self.given, self.protocol.given_frames
    if given.frames is None:
      text = (f'the clips of {self.request.generated} were not given equally '
              f'many frames: {given}')
      if self.protocol.is_strict:
        raise errors.UserError(
            f'protocol {self.protocol.name} gives the model {wanted} frames '
            f'of every clip, but {text}; sample all alike')
      warnings.warn(text, stacklevel=2)
    if max(n or 0 for n in given.counts) >= frames:
      raise errors.UserError(
          f'{frames} frames are scored and {given} of them were given to the '
          'model: nothing of its own would be scored; score more --frames')

  def _check_outputs(self, network) -> None:
    wanted = set(self.keep)
    if 'sfid' in self.also:
      wanted.add(feature_network.SPATIAL)
    missing = sorted(wanted - set(network.widths))
    if missing:
      raise errors.UserError(
          f'{network.info.name} has no {missing[0]} output; leave the score '
          'that needs it out of --also')

  def result(self, real, generated, network) -> dict[str, Any]:
    """The finished result."""
    name = self.score.name
    if network.info.name in image_features.STAND_INS:
      name = f'{name}-{network.info.name}'
    result = self.score.result(name, real, generated, self.options)
    return result | self.given.describe()


def check_lengths(network, clips, frames: int) -> None:
  """Refuses clips that the network cannot score."""
  try:
    feature_sets.check_frames(network, frames, clips.length())
  except ValueError as error:
    hint = (' (folders of numbered images are clips where --frames is over 1)'
            if frames == 1 else '')
    raise errors.UserError(
        f'{clips.path}: {str(error).rstrip(".")}; give other --frames or '
        f'other clips{hint}') from None


def batch_size(request: requests_lib.EvaluationRequest) -> int:
  """Clips that a device computes at once."""
  is_cpu = local_devices()[0].platform == 'cpu'
  return min(request.batch_size or (1 if is_cpu else _ACCELERATOR_BATCH),
             _MOST_AT_ONCE)


def video_form(request: requests_lib.EvaluationRequest,
               devices: Sequence[Any] | None = None) -> dict[str, Any]:
  """How I3D runs on the devices at hand."""
  devices = devices or local_devices()
  is_cpu = devices[0].platform == 'cpu'
  return dict(conv_form='stacked' if is_cpu else 'native',
              batch_size=batch_size(request), devices=devices)


def local_devices() -> list[Any]:
  """This process's devices, of the mesh that the program would make."""
  if jax.process_count() > 1:
    return jax.local_devices()
  return list(mesh_lib.make_mesh().devices.flat)


def size_of(clip: np.ndarray) -> str:
  """'17x32x32' of a clip [T, H, W, 3]."""
  return 'x'.join(map(str, clip.shape[:3]))
