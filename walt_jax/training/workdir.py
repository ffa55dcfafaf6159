"""A work directory of `walt train`, or what `walt export` wrote of one.

A work directory holds the files that `core/run_files.py` names. Everything in
it is relative: it can be moved. An export holds `model.safetensors`,
`config.json` and, of a denoiser, `tokenizer/`.
"""
import os
import pathlib
from typing import Any

from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.training import state as train_state

# Keys of `config.json` that no config has: the version of its keys, and
# whether a run has come to no whole checkpoint yet.
VERSION = 'version'
DRAFT = 'draft'
# What `set_aside` moves: last what says that there was a run.
_OF_A_RUN = (
    run_files.METRICS, run_files.DROPPED_METRICS, run_files.TIMING,
    run_files.HISTORY, run_files.IMAGES, run_files.TENSORBOARD,
    run_files.REPLAY, run_files.EVALUATION, run_files.CHECKPOINTS,
    run_files.CONFIG)
_ASIDE = 'before_restart_'


class WorkDir:
  """Finds what a work directory or an export holds.

  Attributes:
    path: The directory, which need not exist yet.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = paths.path(path)

  @property
  def is_export(self) -> bool:
    """Whether the weights of an export lie in the directory itself."""
    return (self.path / exports.MODEL_FILE).is_file()

  @property
  def config_file(self) -> pathlib.Path:
    return self.path / run_files.CONFIG

  def config(self) -> dict[str, Any]:
    """Reads the run's config, plain JSON values.

    Raises:
      UserError: As `file_values`.
    """
    return {key: value for key, value in self.file_values().items()
            if key not in (VERSION, DRAFT)}

  def is_draft(self) -> bool:
    """Whether the run had no whole checkpoint when its config was written."""
    return bool(self.file_values().get(DRAFT))

  def version(self) -> int:
    """Version of the config's keys; 0 of runs before there were any."""
    return int(self.file_values().get(VERSION, 0))

  def begins_anew(self) -> bool:
    """Whether a run that came to no checkpoint is begun again."""
    return self.is_draft() and not self.steps()

  def check_begun(self) -> None:
    """Refuses to begin a run anew where one has had checkpoints.

    Raises:
      UserError: The checkpoints are gone, or none of them is sound.
    """
    if not self.config_file.exists() or self.steps() or self.is_draft():
      return
    damaged = run_files.damaged_steps(self.path)
    what = (f'only damaged checkpoints ({", ".join(map(str, damaged))})'
            if damaged else
            f'no checkpoint any more (is {run_files.CHECKPOINTS}/ mounted?)')
    raise errors.UserError(
        f'{str(self.path)!r} holds a run with {what}; bring one back, or add '
        '--restart to walt train, which moves what is left aside and begins '
        'again')

  def set_aside(self) -> pathlib.Path | None:
    """Moves what a run has written to a folder beside, to begin again.

    Returns:
      The folder, in the work directory; None if there was nothing.
    """
    names = [name for name in _OF_A_RUN if (self.path / name).exists()]
    if not names:
      return None
    number = 1
    while (self.path / f'{_ASIDE}{number}').exists():
      number += 1
    target = paths.make_folder(self.path / f'{_ASIDE}{number}')
    with files.explained(target):
      for name in names:
        paths.move_tree(self.path / name, target / name)
    return target

  def file_values(self) -> dict[str, Any]:
    """Reads all of `config.json`.

    Raises:
      UserError: There is none, or it cannot be read.
    """
    if not self.config_file.is_file():
      raise errors.UserError(
          f'{str(self.path)!r} is no work directory (it has no '
          f'{run_files.CONFIG}); make one with: walt train --config FILE '
          '--workdir DIR')
    try:
      return files.read_json_object(self.config_file)
    except errors.UserError as error:
      raise errors.UserError(
          f'{error}; restore it from the config/ of a checkpoint, or start in '
          'a new --workdir') from error

  def steps(self) -> list[int]:
    """Returns the steps of the whole checkpoints, in order."""
    return run_files.checkpoint_steps(self.path)

  def newest_step(self) -> int | None:
    """Returns the step of the newest whole checkpoint."""
    return run_files.newest_step(self.path)

  def checkpoint(self, step: int | None = None) -> pathlib.Path:
    """Returns the absolute path of a checkpoint, the newest by default.

    Raises:
      UserError: There is no such checkpoint.
    """
    steps = self.steps()
    damaged = run_files.damaged_steps(self.path)
    if damaged and (step in damaged or not steps):
      raise errors.UserError(
          f'{self.path}: checkpoint {step or damaged[-1]} is damaged '
          f'({run_files.DAMAGED} in it says why); '
          + (f'give another step: {", ".join(map(str, steps))}' if steps else
             'no other is there: train again with walt train --restart'))
    if not steps:
      raise errors.UserError(
          f'{self.path} has no checkpoint; train it first with `walt train`')
    if step is not None and step not in steps:
      raise errors.UserError(
          f'{self.path} has no checkpoint of step {step}, only of '
          f'{", ".join(map(str, steps))}; give one of these')
    found = steps[-1] if step is None else step
    return paths.absolute(self.path) / run_files.CHECKPOINTS / str(found)

  def weights(self) -> str:
    """Names the parameters that samples are drawn with, such as 'ema/0.9999'.

    Raises:
      UserError: As `config`.
    """
    decay = train_state.longest_average(self.config().get('ema') or ())
    return 'params' if decay is None else f'ema/{decay}'

  def tokenizer(self) -> pathlib.Path:
    """Returns the folder of the tokenizer's export.

    That of a tokenizer's run, the copy of a denoiser, or the directory itself
    where it is an export.

    Raises:
      UserError: There is none; a tokenizer's run that has not finished has no
        export yet.
    """
    for folder in (self.path / run_files.EXPORT,
                   self.path / run_files.TOKENIZER, self.path):
      if (folder / exports.MODEL_FILE).is_file():
        return folder
    raise errors.UserError(
        f'{str(self.path)!r} holds no trained tokenizer (no '
        f'{run_files.EXPORT}/{exports.MODEL_FILE}); train one with: walt train '
        '--config configs/tokenizer_video.py --workdir DIR')

  def metrics(self) -> run_files.Metrics:
    """Reads the scalars that were written so far."""
    return run_files.read_metrics(self.path)
