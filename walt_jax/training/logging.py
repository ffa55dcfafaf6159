"""Where metrics go: `metrics.jsonl` always, other sinks where they can be."""
from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import types
from typing import Any

import numpy as np

from walt_jax.core import files
from walt_jax.core import mirror
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.media import video
from walt_jax.training import event_files
from walt_jax.training import sinks


class Writer:
  """Writes scalars and images of one run; one process of a run has one.

  A line of `metrics.jsonl` is an object with `step` and scalars. Floats are
  printed so that they read back exactly. Images become `eval/*.png`. In a
  bucket, which appends to nothing, files are copied whole, about once a minute
  and with each checkpoint.
  """

  def __init__(self, workdir: str | pathlib.Path, *,
               writers: Sequence[str] = ('tensorboard',),
               config: Mapping[str, Any] = types.MappingProxyType({})):
    """Opens the files of a run, new or old.

    Args:
      workdir: The run's directory.
      writers: Sinks beside the files, by their names in `train.writers`.
      config: The run's config, for sinks that show it.
    """
    self._workdir = paths.make_folder(workdir)
    self._mirror = mirror.Mirror(self._workdir)
    self._path = self._mirror.folder / run_files.METRICS
    place = sinks.Place(self._workdir, self._mirror.folder, config)
    self._sinks = [sinks.Background(name, place) for name in writers]

  def resume(self, step: int) -> None:
    """Takes back what was written beyond the step now restored.

    Lines go to `metrics_dropped.jsonl`, events are removed.

    Args:
      step: Steps taken; -1 takes back every line.
    """
    for name in (run_files.METRICS, run_files.DROPPED_METRICS,
                 run_files.TENSORBOARD):
      self._mirror.fetch(name)
    if self._path.exists():
      kept: list[str] = []
      dropped: list[str] = []
      for line in run_files.read_metrics(self._path.parent).lines:
        (kept if line['step'] <= step else dropped).append(
            json.dumps(line) + '\n')
      if dropped:
        # First: a crash leaves lines twice, not nowhere.
        file = self._path.with_name(run_files.DROPPED_METRICS)
        before = file.read_text() if file.exists() else ''
        files.write_text(file, before + ''.join(dropped))
      files.write_text(self._path, ''.join(kept))
    # Before the first event: a file is begun with it.
    event_files.drop_later(self._mirror.folder / run_files.TENSORBOARD, step)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Appends one line; values are Python or NumPy numbers."""
    values = {name: _number(value) for name, value in scalars.items()}
    with open(self._path, 'a') as file:
      file.write(json.dumps({'step': step} | values) + '\n')
    for sink in self._sinks:
      sink.write_scalars(step, values)
    self._mirror.publish_later()

  def write_images(self, step: int, images: Mapping[str, Any]) -> None:
    """Writes uint8 images [H, W, 3]."""
    if not images:
      return
    directory = paths.make_folder(self._workdir / run_files.IMAGES)
    arrays = {name: np.asarray(image) for name, image in images.items()}
    for name, image in arrays.items():
      if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f'The image {name!r} is {image.dtype}{image.shape}, '
                         'not uint8 [H, W, 3].')
      file = f'step_{step:08d}_{name.replace("/", "_")}.png'
      video.write_png(directory / file, image)
    for sink in self._sinks:
      sink.write_images(step, arrays)

  def flush(self) -> None:
    """Makes the lines written so far survive a crash of the machine.

    What other sinks take is only handed to the system, and in its turn.
    """
    if self._path.exists():
      with open(self._path, 'a') as file:
        os.fsync(file.fileno())
    for sink in self._sinks:
      sink.flush()
    self._mirror.publish()

  def close(self) -> None:
    """Flushes, and waits until all is written."""
    self.flush()
    for sink in self._sinks:
      sink.close()
    self._mirror.close()


class NullWriter(Writer):
  """Writes nothing: for the processes beyond the first."""

  def __init__(self):
    pass

  def resume(self, step):
    pass

  def write_scalars(self, step, scalars):
    pass

  def write_images(self, step, images):
    pass

  def flush(self):
    pass

  def close(self):
    pass


def _number(value: Any) -> int | float:
  """Turns a scalar of any kind into the Python number equal to it."""
  value = np.asarray(value)
  if value.ndim:
    raise ValueError(f'A metric has shape {value.shape}; it must be a scalar.')
  if value.dtype.kind in 'biu':
    return int(value)
  return float(value)
