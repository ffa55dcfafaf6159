"""`walt evaluate reconstruction`: clips beside what a tokenizer makes of them.
"""
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from walt_jax.core import errors
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.metrics import fvd
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features
from walt_jax.sampling import compiled_tokenizer


class Reconstruction:
  """PSNR, SSIM, perceptual distance, flicker and rFVD of pairs of clips."""
  takes: tuple[metric.Kind, ...] = ('real', 'tokenizer')

  def evaluate(self, inputs: inputs_lib.Inputs) -> dict[str, Any]:
    """Scores pairs of clips, or clips and what a tokenizer makes of them."""
    request = inputs.request
    pairs = reconstruction.load_networks(request.lpips)
    real: Any = inputs.real()
    if request.lpips:
      _check_size(real[0])
    result: dict[str, Any] = {}
    if inputs.is_drawn:
      codec = inputs.codec()
      other: Any = list(reconstructions(codec, real, request.batch_size or 8))
      result |= dict(tokenizer_sha256=codec.sha256, **codec.describe())
      real = [clip[:len(o)] for clip, o in zip(real, other, strict=True)]
    else:
      _check_whole(request)
      other = inputs.generated()
      _check_pairs(real, other)
    result |= reconstruction.summary(real, other, pairs)
    # The result's own network is that of the perceptual distance.
    return dict(
        metric='reconstruction', value=result['psnr'],
        values=[result['psnr']], num_real=len(real), num_generated=len(other),
        frames=len(real[0]), network=result.pop('perceptual_network'),
        preprocessing='none', covariance=None, protocol=request.protocol,
        comparable_to=[], rfvd=_rfvd(request, real, other), **result)


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


def _rfvd(request: requests_lib.EvaluationRequest, real: Any,
          other: Any) -> dict[str, Any] | None:
  """FVD of the pairs; None where they have too few frames."""
  frames = video_features.scored_frames(len(real[0]))
  if frames < video_features.MIN_FRAMES:
    return None
  network = video_features.load_network(
      request.network, **plan_lib.video_form(request))
  return fvd.compare(*(
      fvd.feature_set(clips, network, label=name)
      for name, clips in (('real', real), ('reconstructed', other))))


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
                    batch_size: int = 8) -> Iterator[np.ndarray]:
  """Encodes and decodes uint8 clips [T, H, W, 3].

  The posterior's mean is decoded. Clips whose length is not 1 + a multiple
  of f_t lose their last frames. The last batch is padded, so that all have
  one shape.
  """
  def finish(batch):
    pixels = np.stack(batch + [batch[-1]] * (batch_size - len(batch)))
    return codec.decode(codec.encode(pixels))[:len(batch)]

  batch: list[np.ndarray] = []
  for clip in clips:
    usable = 1 + (len(clip) - 1) // codec.f_t * codec.f_t
    batch.append(clip[:usable])
    if len(batch) == batch_size:
      yield from finish(batch)
      batch = []
  if batch:
    yield from finish(batch)
