"""Where scalars and images go beside `metrics.jsonl`: TensorBoard, W&B.

Both are optional packages. One that is absent, or that fails, is told in one
line, and the run continues without it.
"""
from collections.abc import Mapping
import contextlib
import dataclasses
import importlib
import os
import pathlib
import queue
import threading
from typing import Any, Protocol
import uuid

import numpy as np

from walt_jax.core import extras
from walt_jax.core import files
from walt_jax.core import run_files

Scalars = Mapping[str, float]
Images = Mapping[str, np.ndarray]
_KEPT = 'metrics.jsonl has every scalar.'


class Sink(Protocol):
  """What scalars and images of one run are written to, in order of calls."""

  def write_scalars(self, step: int, scalars: Scalars) -> None:
    """Takes numbers by name."""

  def write_images(self, step: int, images: Images) -> None:
    """Takes uint8 images [H, W, 3] by name."""

  def flush(self) -> None:
    """Hands what was taken to the system."""

  def close(self) -> None:
    """Flushes, and ends."""


@dataclasses.dataclass(frozen=True)
class Place:
  """What a sink may know of its run.

  Attributes:
    workdir: The run's directory, which may lie in a bucket.
    folder: Its local side, where files are appended to.
    config: The run's config, plain values.
  """
  workdir: pathlib.Path
  folder: pathlib.Path
  config: Mapping[str, Any]


class TensorBoard:
  """CLU's summary writer, which imports TensorFlow."""
  PACKAGE = 'clu.metric_writers'

  def __init__(self, place: Place):
    metric_writers = importlib.import_module(self.PACKAGE)
    self._writer = metric_writers.SummaryWriter(
        str(place.folder / run_files.TENSORBOARD))

  def write_scalars(self, step: int, scalars: Scalars) -> None:
    self._writer.write_scalars(step, dict(scalars))

  def write_images(self, step: int, images: Images) -> None:
    self._writer.write_images(
        step, {name: image[None] for name, image in images.items()})

  def flush(self) -> None:
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


class WandB:
  """A run of Weights & Biases, continued when the training is.

  Project, entity and mode (such as `offline`) are those of W&B's own variables
  `WANDB_PROJECT`, `WANDB_ENTITY` and `WANDB_MODE`; the project is `walt` else.
  W&B takes back nothing: steps that are trained again after a crash stand
  there twice, over the axis `step`.
  """
  PACKAGE = 'wandb'

  def __init__(self, place: Place):
    self._wandb = importlib.import_module(self.PACKAGE)
    self._run = self._wandb.init(
        project=os.environ.get('WANDB_PROJECT', 'walt'),
        id=os.environ.get('WANDB_RUN_ID', _wandb_id(place.workdir)),
        name=place.workdir.name, dir=str(place.folder), resume='allow',
        config=dict(place.config))
    self._run.define_metric('*', step_metric='step')

  def write_scalars(self, step: int, scalars: Scalars) -> None:
    self._run.log(dict(scalars) | {'step': step})

  def write_images(self, step: int, images: Images) -> None:
    self._run.log({name: self._wandb.Image(image)
                   for name, image in images.items()} | {'step': step})

  def flush(self) -> None:
    """Does nothing: W&B sends by itself."""

  def close(self) -> None:
    self._run.finish()


def _wandb_id(workdir: pathlib.Path) -> str:
  """The run's name at W&B, which stays when the directory is moved."""
  file = workdir / run_files.WANDB
  if not file.is_file():
    files.write_json(file, dict(id=uuid.uuid4().hex))
  return files.read_json(file)['id']


# By the names of `train.writers`: what opens a sink, what people call it, and
# how its package is installed.
_SINKS: Mapping[str, tuple[type[TensorBoard] | type[WandB], str, str]] = {
    'tensorboard': (TensorBoard, 'TensorBoard files',
                    extras.command('tensorboard')),
    'wandb': (WandB, 'W&B run', extras.command('wandb')),
}


class Background:
  """A sink on a thread of its own, by its name in `train.writers`.

  Packages take seconds to import: the thread does while the first step
  compiles. The sink is opened with the first call.
  """

  def __init__(self, name: str, place: Place):
    self._open, self._label, self._command = _SINKS[name]
    self._place = place
    self._queue: queue.Queue[tuple[str, tuple] | None] = queue.Queue()
    # A daemon: an error elsewhere must not wait for an import.
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def write_scalars(self, step: int, scalars: Scalars) -> None:
    self._queue.put(('write_scalars', (step, dict(scalars))))

  def write_images(self, step: int, images: Images) -> None:
    self._queue.put(('write_images', (step, dict(images))))

  def flush(self) -> None:
    self._queue.put(('flush', ()))

  def close(self) -> None:
    self._queue.put(None)
    self._thread.join()

  def _work(self) -> None:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # TensorFlow computes nothing here, and would announce that it could.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
    sink: Sink | None = None
    failed = False
    with contextlib.suppress(ImportError):  # It is told with the first call.
      importlib.import_module(self._open.PACKAGE)
    while (item := self._queue.get()) is not None:
      if failed:
        continue
      try:
        if sink is None:
          sink = self._open(self._place)
        method, args = item
        getattr(sink, method)(*args)
      except ImportError as error:
        failed = True
        self._say(f'No {self._label} ({error}); {_KEPT} To have one, '
                  f'{self._command}.')
      # Whatever it is, training is worth more.
      except Exception as error:  # pylint: disable=broad-except
        failed = True
        self._say(f'No {self._label} from here on '
                  f'({type(error).__name__}: {error}); {_KEPT}')
    if sink is not None and not failed:
      sink.close()

  def _say(self, text: str) -> None:
    print(' '.join(text.split()), flush=True)
