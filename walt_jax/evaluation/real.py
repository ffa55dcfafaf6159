"""The real side of a score: clips, or a file of their statistics."""
import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import plan as plan_lib
from walt_jax.evaluation import real_draws
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.parallel import multihost


class Real:
  """The real side: clips, or a file of statistics.

  Attributes:
    clips: A `ClipSet`, or None for statistics.
    statistics: Read from a file, or None.
    split: What the data set says it is, or None.
  """

  def __init__(self, inputs: inputs_lib.Inputs,
               network: feature_network.FeatureNetwork, frames: int):
    """Opens the real side of the inputs.

    Args:
      inputs: What is scored.
      network: Network that computes the features.
      frames: First frames that are scored of each clip.

    Raises:
      UserError: There is none, or statistics of another network.
    """
    path = inputs.request.real
    self._inputs, self.path = inputs, path
    self.clips = self.statistics = None
    self._is_drawn = inputs.model is None and inputs.protocol.draw is not None
    if self._is_drawn and inputs.request.measure.save_statistics:
      raise errors.UserError(
          f'--save_statistics: protocol {inputs.request.protocol} draws other '
          'real clips for every set; leave it out')
    if (inputs.model is None and not self._is_drawn and path is not None
        and is_statistics(path)):
      self.statistics = feature_sets.load(
          path, network=dataclasses.asdict(network.info),
          preprocessing=network.preprocessing)
    else:
      self.clips = inputs.real(frames)
    self.split = getattr(self.clips, 'split', None)

  @property
  def is_external(self) -> bool:
    return self.statistics is not None and self.statistics.is_external

  @property
  def count(self) -> int | None:
    if self.clips is not None:
      return len(self.clips)
    return None if self.is_external else self.statistics.count

  def describe(self) -> dict[str, Any]:
    """What a result says of how the real clips were drawn, if they were."""
    if not isinstance(self.clips, real_draws.DrawnReal):
      return {}
    return dict(real_draws=dict(
        dataclasses.asdict(self._inputs.protocol.draw),
        seed=self._inputs.request.seed, left_out=self.clips.left_out))

  def feature_sets(self, plan: plan_lib.Plan, network, frames: int,
                   repeats: int) -> list[Any]:
    """Its statistics, read again where they were computed before.

    Returns:
      One set for all repeats, or one a repeat where the protocol draws them.
    """
    if self.statistics is not None:
      return [self._of_file(plan, network, frames)]
    if not self._is_drawn:
      return [self._of_clips(plan, network, frames, self.clips, [], 'real')]
    draw = dataclasses.asdict(plan.protocol.draw)
    found = []
    for repeat in range(repeats):
      clips = self._inputs.drawn_real(frames, repeat)
      key = [draw, plan.request.seed, repeat,
             dataclasses.asdict(clips.clip_info(0))]
      found.append(self._of_clips(
          plan, network, frames, clips, key,
          f'real, set {repeat + 1} of {repeats}'))
    return found

  def _of_clips(self, plan: plan_lib.Plan, network, frames: int, clips: Any,
                key: list[Any], label: str) -> Any:
    plan_lib.check_lengths(network, clips, frames)
    cached = self._cache_file(network, frames, key)
    # What the first process finds counts: to compute is for all together.
    known = multihost.of_main(
        bool(cached and cached.is_file() and not plan.keep))
    if known:
      found = feature_sets.load(
          cached, network=dataclasses.asdict(network.info),
          preprocessing=network.preprocessing)
    else:
      found = plan.collect(clips, network, frames, label)
    saved = plan.request.measure.save_statistics
    if saved:
      found = dataclasses.replace(found, about=clips.info().record())
    if multihost.is_main():
      if cached and not known:
        paths.make_folder(cached.parent)
        found.save(cached)
      if saved:
        found.save(saved, plan.request.made_by)
    return found

  def _of_file(self, plan, network, frames):
    found = self.statistics
    if found.frames != frames:
      raise errors.UserError(
          f'{self.path} holds statistics of {found.frames} frames, the '
          f'samples have {frames}; give --frames or other statistics')
    if not plan.keep:
      return found
    # Guidance's reference files hold images beside the statistics.
    with files.opened(self.path) as raw, np.load(
        raw, allow_pickle=False) as file:
      has_images = 'arr_0' in file.files
    if not has_images:
      raise errors.UserError(
          f'{self.path} holds statistics alone; --also '
          f'{",".join(plan.also)} and --interval need real images or clips')
    images = clip_sets.open_clips(self.path)
    return dataclasses.replace(found, kept=plan.collect(
        images, network, frames, 'reference').kept)

  def _cache_file(self, network, frames: int,
                  draw: list[Any]) -> pathlib.Path | None:
    folder = self._inputs.cache
    if folder is None:
      return None
    key = json.dumps([
        self._inputs.fingerprint(), frames, network.info.name,
        network.info.sha256, network.preprocessing, *draw])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return folder / f'real_{name}.npz'


def is_statistics(path: str) -> bool:
  """Whether a path is a file of statistics, not of clips."""
  return paths.path(path).is_file() and feature_sets.is_statistics(path)
