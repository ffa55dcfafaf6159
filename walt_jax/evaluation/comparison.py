"""Whether two sets compare like with like; checked before any network runs."""
from collections.abc import Sequence
import dataclasses
import functools
import json
from typing import Any
import warnings

from walt_jax.core import errors
from walt_jax.evaluation import clip_files
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import drawer as drawer_lib
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import metric as metric_lib
from walt_jax.evaluation import real as real_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.evaluation import set_info
from walt_jax.metrics import feature_sets
from walt_jax.metrics import protocols


def check(inputs: inputs_lib.Inputs, takes: Sequence[metric_lib.Kind]
          ) -> dict[str, Any]:
  """Looks at both sides of a score and refuses what cannot be compared.

  A protocol with a name refuses sets whose rate, duration or size differ by
  over 5%; others warn.

  Args:
    inputs: What is to be scored.
    takes: What the metric asks for.

  Returns:
    What the result says of the sets: `sets` and their `differences`. Nothing
    of a model in training, whose clips are those of its config.

  Raises:
    UserError: For clips that are missing, unreadable, of unlike sizes or too
      short, flags that would not be used, or sets that may not be compared.
  """
  if inputs.model is not None:
    return {}
  request, protocol = inputs.request, inputs.protocol
  _check_used(request)
  if 'real' not in takes:
    _check_no_real(inputs)
  frames = request.frames or protocol.frames
  sets: dict[str, set_info.SetInfo] = {}
  if 'real' in takes:
    sets['real'] = _real(inputs, frames)
  if request.generated is not None:
    sets['generated'] = _described(inputs.generated(frames))
  elif 'generated' in takes:
    sets['generated'] = _drawn(inputs)
  for info in sets.values():
    if info.flawed:
      warnings.warn(
          f'{info.flawed} of {info.count} clips of {info.path} are damaged, or '
          'have gaps in time, behind the frames that are scored', stacklevel=2)
  found: list[set_info.Difference] = []
  if len(sets) == 2:
    found = set_info.differences(sets['real'], sets['generated'], frames)
    _judge(found, protocol)
  return dict(sets={side: info.record() for side, info in sets.items()},
              differences=[dataclasses.asdict(d) for d in found])


def _check_used(request: requests_lib.EvaluationRequest) -> None:
  """Clips on disk are drawn already: flags of sampling would do nothing."""
  if request.generated is None:
    return
  drawing, plain = request.drawing, requests_lib.Drawing()
  flags = {name: name for name in (
      'num_samples', 'repeats', 'step', 'save_samples')}
  flags['requests_file'] = 'requests'
  given = [flag for name, flag in flags.items()
           if getattr(drawing, name) != getattr(plain, name)]
  given += [field.name for field in dataclasses.fields(drawing.choice)
            if getattr(drawing.choice, field.name) != field.default]
  if given:
    raise errors.UserError(
        f'--{given[0]} says how samples of --workdir are drawn, and the clips '
        f'of --generated are drawn already; leave it out')


def _check_no_real(inputs: inputs_lib.Inputs) -> None:
  """Real clips that a metric does not look at would do nothing.

  They may still be what a protocol draws labels from, or samples continue.
  """
  request = inputs.request
  given = inputs.is_drawn and request.measure.given_frames
  if request.real is not None and not (inputs.protocol.draw or given):
    raise errors.UserError(
        f'--real {request.real}: {request.metric} scores generated clips by '
        'themselves and would not look at it; leave it out')
  if request.measure.save_statistics:
    raise errors.UserError(
        f'--save_statistics {request.measure.save_statistics}: '
        f'{request.metric} computes none of real clips; leave it out')


def _judge(found: Sequence[set_info.Difference],
           protocol: protocols.Protocol) -> None:
  """Refuses what no published score has, and warns of the rest."""
  matter = [d.text for d in found if d.matters]
  if matter and protocol.is_strict:
    raise errors.UserError(
        f'protocol {protocol.name} compares like with like, but --real and '
        f'the generated clips differ: {"; ".join(matter)}; bring both to one '
        'rate and size (walt data prepare --fps --size), or use --protocol '
        'quick')
  if found:
    warnings.warn(
        'the real and the generated clips differ, and the score with them: '
        f'{"; ".join(d.text for d in found)}', stacklevel=3)


def _real(inputs: inputs_lib.Inputs, frames: int | None) -> set_info.SetInfo:
  path = inputs.request.real
  if inputs.protocol.draw is not None:
    return inputs.real(frames).info()
  if path is None or not real_lib.is_statistics(path):
    return _described(inputs.real(frames))
  about = feature_sets.read_about(path)
  if about is None:
    return set_info.SetInfo(path, None)
  return dataclasses.replace(set_info.SetInfo.of_record(about), path=path)


def _described(clips: Any) -> set_info.SetInfo:
  """Looks at every clip, once for sets that are scored again and again."""
  path = str(clips.path)
  return _described_once(
      path, clips.frames, json.dumps(clip_files.fingerprint(path)))


@functools.lru_cache(maxsize=8)
def _described_once(path: str, frames: int | None, fingerprint: str
                    ) -> set_info.SetInfo:
  del fingerprint  # Another one is another set.
  return clip_sets.open_clips(path, frames=frames).info()


def _drawn(inputs: inputs_lib.Inputs) -> set_info.SetInfo:
  """Of samples that are yet to be drawn, all alike."""
  request, (pipeline, _) = inputs.request, inputs.pipeline()
  count = (request.drawing.num_samples or inputs.protocol.num_generated
           or inputs_lib.DEFAULT_SAMPLES)
  info = set_info.SetInfo.of(
      pipeline.stages[-1].workdir, [drawer_lib.clip_info(pipeline)])
  return dataclasses.replace(info, count=count)
