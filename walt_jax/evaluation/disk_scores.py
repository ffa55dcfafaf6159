"""Scores of clips on disk."""
from typing import Any
import warnings

from walt_jax.core import errors
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import real as real_lib
from walt_jax.evaluation import real_draws
from walt_jax.metrics import protocols
from walt_jax.metrics import video_features


def score(plan: plan_lib.Plan) -> dict[str, Any]:
  """Scores the generated clips against the real ones."""
  inputs, request = plan.inputs, plan.request
  frames = _frames(plan)
  generated = inputs.generated(frames)
  repeats = _repeats(plan.protocol, len(generated))
  each = len(generated) // repeats
  network = plan.score.network(
      plan, is_video=frames > 1, devices=plan_lib.local_devices())
  real = (real_lib.Real(inputs, network, frames) if plan.score.uses_real
          else None)
  first = generated.clip_info(0)
  plan.check(network, real, num_generated=each, repeats=repeats,
             frames=frames, size=(first.height, first.width))
  labels = _check_labels(plan, generated, repeats, each, frames)
  plan_lib.check_lengths(network, generated, frames)
  sets = [
      plan.collect(clip_sets.Part(generated, i * each, (i + 1) * each),
                   network, frames,
                   'generated' if repeats == 1 else f'generated, set {i + 1}')
      for i in range(repeats)]
  references = real and real.feature_sets(plan, network, frames, repeats)
  return plan.result(references, sets, network) | labels | (
      real.describe() if real else {}) | dict(
      real_split=request.measure.real_split or (real and real.split))


def _frames(plan: plan_lib.Plan) -> int:
  """Frames that are scored, the same of every clip."""
  inputs, request = plan.inputs, plan.request
  wanted = request.frames or plan.protocol.frames
  if wanted:
    return wanted
  lengths = {inputs.generated().length()}
  if plan.score.uses_real and request.real is not None and not (
      real_lib.is_statistics(request.real)):
    lengths.add(inputs.real().length())
  scored = {video_features.scored_frames(length) for length in lengths}
  if len(scored) > 1:
    raise errors.UserError(
        f'the sets have clips of {" and ".join(map(str, sorted(lengths)))} '
        'frames; give --frames N to score the first N of all')
  return scored.pop()


def _check_labels(plan: plan_lib.Plan, generated: Any,
                  repeats: int, each: int, frames: int) -> dict[str, Any]:
  """Samples must show the classes of the real clips that a protocol draws."""
  if plan.protocol.draw is None:
    return {}
  known = None
  if generated.entries:
    for repeat in range(repeats):
      known = real_draws.check_labels(
          plan.protocol, plan.inputs.drawn_real(frames, repeat),
          generated.entries[repeat * each:(repeat + 1) * each], repeat)
  if known is None:
    warnings.warn(
        f'nothing says what the samples of {generated.path} show: protocol '
        f'{plan.protocol.name} has them show the classes of its real clips',
        stacklevel=3)
  return dict(labels_known_by=known)


def _repeats(protocol: protocols.Protocol, count: int) -> int:
  """Sets that a protocol cuts the generated clips into."""
  wanted = protocol.num_generated
  if wanted and count == wanted * protocol.repeats:
    return protocol.repeats
  return 1
