"""`walt evaluate reconstruction`: clips beside what a tokenizer makes of them.
"""
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from walt_jax.core import errors
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.metrics import feature_sets
from walt_jax.metrics import fvd
from walt_jax.metrics import protocols
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features
from walt_jax.parallel import shares as shares_lib
from walt_jax.sampling import compiled_tokenizer

_Pair: TypeAlias = reconstruction.Pair
_BATCH = 8  # Clips that a device computes at once.


class Reconstruction:
  """PSNR, SSIM, perceptual distance, flicker and rFVD of pairs of clips."""
  takes: tuple[metric.Kind, ...] = ('real', 'tokenizer')

  def evaluate(self, inputs: inputs_lib.Inputs) -> dict[str, Any]:
    """Scores pairs of clips, or clips and what a tokenizer makes of them."""
    request, protocol = inputs.request, inputs.protocol
    _check_protocol(inputs)
    pairs = reconstruction.load_networks(request.lpips)
    codec = inputs.codec() if inputs.is_drawn else None
    real: Any = inputs.real(_clip_frames(protocol, codec))
    first = real[0]
    if request.lpips:
      _check_size(first)
    network = _rfvd_network(request, protocol, len(real), first)
    result: dict[str, Any] = {}
    frames = len(first)
    # A model in training lies where its run has put it.
    devices = [] if inputs.model is not None else plan_lib.local_devices()
    size = request.batch_size or _BATCH
    shards = max(1, min(len(devices), -(-len(real) // size)))
    shares = shares_lib.Shares.of(len(real), size * shards, shards)
    if codec is not None:
      if devices:
        codec = codec.over(devices[:shards])
      both: Iterable[_Pair] = reconstructed_pairs(
          codec, (real[i] for i in shares.mine()), shares.batch)
      result |= dict(tokenizer_sha256=codec.sha256, **codec.describe())
      frames = _usable(codec, frames)
    else:
      _check_whole(request)
      generated = inputs.generated()
      _check_pairs(real, generated)
      both = ((real[i], generated[i]) for i in shares.mine())
    features = network and _PairFeatures(network, protocol.frames, len(real))
    result |= reconstruction.summary(
        features.tap(both) if features else both, pairs,
        total=len(shares.mine()), devices=devices[:len(real)], shares=shares)
    # The result's own network is that of the perceptual distance.
    return dict(
        metric='reconstruction', value=result['psnr'],
        values=[result['psnr']], num_real=len(real), num_generated=len(real),
        frames=frames, network=result.pop('perceptual_network'),
        preprocessing='none', covariance=None,
        **protocols.describe(protocol),
        rfvd=features and features.compare(protocol.name), **result)


def _check_protocol(inputs: inputs_lib.Inputs) -> None:
  """Refuses a protocol of another metric, or pairs that it cannot know."""
  protocol = inputs.protocol
  if protocol.metric not in (None, 'reconstruction'):
    raise errors.UserError(
        f'protocol {protocol.name} is for {protocol.metric}, not '
        'reconstruction; use --protocol quick')
  if protocol.draw is not None and not inputs.is_drawn:
    raise errors.UserError(
        f'protocol {protocol.name} draws the clips that the tokenizer '
        'reconstructs; give its --workdir, not --generated')


def _clip_frames(protocol: protocols.Protocol,
                 codec: compiled_tokenizer.Codec | None) -> int | None:
  """Frames to read of each clip: what is scored, up to a whole latent frame."""
  if protocol.frames is None or codec is None:
    return None
  return 1 + -(-(protocol.frames - 1) // codec.f_t) * codec.f_t


def _check_size(clip: np.ndarray) -> None:
  """Smaller frames leave nothing of the backbone's last maps."""
  if min(clip.shape[1:3]) < reconstruction.LPIPS_SIZE:
    raise errors.UserError(
        f'--lpips needs frames of {reconstruction.LPIPS_SIZE} pixels or more, '
        f'got {plan_lib.size_of(clip)}; leave it out')


def _check_pairs(real: clip_sets.ClipSet, other: Any) -> None:
  """Clips are compared in order."""
  if len(other) != len(real):
    raise errors.UserError(
        f'--real holds {len(real)} clips and --generated {len(other)}; they '
        'are compared in order and must be as many')
  if other[0].shape != real[0].shape:
    raise errors.UserError(
        f'--real has clips of {plan_lib.size_of(real[0])} and '
        f'--generated of {plan_lib.size_of(other[0])}; they must be equal')


def _rfvd_network(
    request: requests_lib.EvaluationRequest, protocol: protocols.Protocol,
    count: int, clip: np.ndarray) -> video_features.VideoNetwork | None:
  """I3D; None where the clips have too few frames for it.

  Raises:
    errors.UserError: The clips or the weights are not the protocol's.
  """
  frames = protocol.frames or video_features.scored_frames(len(clip))
  if frames < video_features.MIN_FRAMES:
    if request.network:
      raise errors.UserError(
          f'--network {request.network}: rFVD takes clips of at least '
          f'{video_features.MIN_FRAMES} frames, and {frames} are scored; leave '
          'it out, or give longer clips')
    return None
  network = video_features.load_network(
      request.network, **plan_lib.video_form(request),
      preprocessing=protocol.preprocessing or video_features.PREPROCESSING)
  if protocol.draw is not None:
    height, width = clip.shape[1:3]
    protocols.check(protocol, protocols.Conditions(
        'reconstruction', count, 1, None, protocol.real_split, frames, 0,
        network.info.name, (height, width)))
  return network


class _PairFeatures:
  """I3D features of both sides of pairs, computed as the pairs pass by."""

  def __init__(self, network: video_features.VideoNetwork,
               frames: int | None, total: int):
    """Computes nothing yet.

    Args:
      network: Network that computes them.
      frames: First frames that are scored; None: as FVD does.
      total: How many pairs will come.
    """
    self._network, self._frames = network, frames
    self._size = network.batch_size * max(1, len(network.devices or ()))
    self._total = total
    self._sides = [feature_sets.Collector(network) for _ in range(2)]

  def tap(self, pairs: Iterable[_Pair]) -> Iterator[_Pair]:
    """Yields the pairs, which are this process's."""
    waiting: list[_Pair] = []
    for pair in pairs:
      waiting.append(pair)
      if len(waiting) == self._size:
        self._add(waiting)
        waiting = []
      yield pair
    if waiting:
      self._add(waiting)

  def _add(self, pairs: Sequence[_Pair]) -> None:
    for side, collector in enumerate(self._sides):
      count = video_features.scored_frames(len(pairs[0][side]), self._frames)
      clips = [np.ascontiguousarray(pair[side][:count]) for pair in pairs]
      feature_sets.check_frames(self._network, count, len(pairs[0][side]))
      contents = iter([feature_sets.content_of(clips)])
      for outputs in self._network.batches(clips, total=self._total):
        collector.add(outputs, next(contents, 0))
      collector.frames = count

  def compare(self, protocol: str) -> dict[str, Any]:
    """FVD of the two sides."""
    return fvd.compare(*(side.finish() for side in self._sides),
                       protocol=protocol)


def _check_whole(request: requests_lib.EvaluationRequest) -> None:
  """Chunks are of what a tokenizer computes; there must be one."""
  for flag, given in (('--stream', request.chunks.stream),
                      (f'--tile {request.chunks.tile}', request.chunks.tile)):
    if given:
      raise errors.UserError(
          f'{flag}: the clips of --generated are decoded already; leave it '
          'out, or give the --workdir of a tokenizer')


def reconstructions(codec: compiled_tokenizer.Codec,
                    clips: Iterable[np.ndarray],
                    batch_size: int = _BATCH) -> Iterator[np.ndarray]:
  """The second clips of `reconstructed_pairs`."""
  return (made for _, made in reconstructed_pairs(codec, clips, batch_size))


def reconstructed_pairs(codec: compiled_tokenizer.Codec,
                        clips: Iterable[np.ndarray],
                        batch_size: int = _BATCH) -> Iterator[_Pair]:
  """Encodes and decodes uint8 clips [T, H, W, 3]; holds one batch of them.

  The posterior's mean is decoded. Clips whose length is not 1 + a multiple
  of f_t lose their last frames, on both sides. The last batch is padded, so
  that all have one shape.
  """
  def finish(batch):
    pixels = np.stack(batch + [batch[-1]] * (batch_size - len(batch)))
    made = codec.decode(codec.encode(pixels))
    return zip(batch, made[:len(batch)], strict=True)

  batch: list[np.ndarray] = []
  for clip in clips:
    batch.append(clip[:_usable(codec, len(clip))])
    if len(batch) == batch_size:
      yield from finish(batch)
      batch = []
  if batch:
    yield from finish(batch)


def _usable(codec: compiled_tokenizer.Codec, frames: int) -> int:
  """Frames of a clip that fill whole latent frames."""
  return 1 + (frames - 1) // codec.f_t * codec.f_t
