"""A training run whose checkpoints are scored as they come."""
from collections.abc import Container
import dataclasses
import pathlib

import jax
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.parallel import multihost
from walt_jax.training import workdir as workdir_lib

_NONE = -1


@dataclasses.dataclass(frozen=True)
class Look:
  """What there is of a run at a moment, the same in every process.

  Attributes:
    last: Last step that the run will write; None before it has begun.
    newest: Step of its newest checkpoint; None before the first.
    step: The oldest checkpoint that is not scored yet, or None.
  """
  last: int | None
  newest: int | None
  step: int | None

  @property
  def is_over(self) -> bool:
    """Whether no other checkpoint will come."""
    return (self.last is not None and self.newest is not None
            and self.newest >= self.last)


class FollowedRun:
  """Looks at a work directory, which need not exist yet.

  Attributes:
    base: The directory.
  """

  def __init__(self, base: pathlib.Path, *, allow_code: bool = False):
    """Reads nothing yet.

    Args:
      base: The work directory of a denoiser's run.
      allow_code: Whether its config may name classes to import.

    Raises:
      UserError: There is something else.
    """
    self.base, self._allow_code = base, allow_code
    self._workdir = workdir_lib.WorkDir(base)
    if self._workdir.is_export or (base.exists() and not base.is_dir()):
      raise errors.UserError(
          f'--follow {base}: it is no work directory of a run in training; '
          'give the --workdir of walt train')
    self._written: set[int] = set()
    self._known_up_to = 0
    self._there: list[int] = []

  def look(self, scored: Container[int]) -> Look:
    """Looks for a checkpoint to score.

    Several processes may not see the same files: the first one decides.

    Args:
      scored: Steps that have a score.

    Raises:
      UserError: The run is no denoiser's, or its config cannot be read.
    """
    train = self._train_section()
    self._there = self._workdir.steps()
    if train is not None:
      self._note(train.save_every)
    found = np.array([
        _NONE if train is None else train.num_steps,
        max(self._there, default=_NONE),
        min((step for step in self._there if step not in scored),
            default=_NONE)], np.int64)
    if jax.process_count() > 1:
      found = multihost.gather(found)[0]
    return Look(*(None if value == _NONE else int(value) for value in found))

  def gone(self, scored: Container[int]) -> list[int]:
    """Steps whose checkpoints were removed before they had a score.

    Those that were seen, and those that the run must have written by its
    `train.save_every`.
    """
    return sorted(step for step in self._written.difference(self._there)
                  if step not in scored)

  def _train_section(self) -> schema.Train | None:
    """How the run trains now, which changes where it is resumed."""
    if not self._workdir.config_file.is_file():
      return None
    config = config_lib.read_experiment(
        str(self.base), allow_code=self._allow_code)
    if not isinstance(config, schema.DenoiserExperiment):
      raise errors.UserError(
          f'--follow {self.base}: it trains a tokenizer, which draws no '
          'samples; give the --workdir of a denoiser')
    return config.train

  def _note(self, save_every: int) -> None:
    """Notes what was written up to the newest checkpoint."""
    newest = max(self._there, default=0)
    if save_every:
      first = self._known_up_to // save_every * save_every + save_every
      self._written.update(range(first, newest + 1, save_every))
    self._written.update(self._there)
    self._known_up_to = max(self._known_up_to, newest)
