"""Where metrics go: `metrics.jsonl` always, TensorBoard where it can be."""
from collections.abc import Mapping
import importlib
import json
import os
import pathlib
import queue
import threading
from typing import Any

import numpy as np

from walt_jax.core import extras
from walt_jax.core import files
from walt_jax.core import mirror
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.media import video
from walt_jax.training import event_files


class Writer:
  """Writes scalars and images of one run; one process of a run has one.

  A line of `metrics.jsonl` is an object with `step` and scalars. Floats are
  printed so that they read back exactly. Images become `eval/*.png`. In a
  bucket, which appends to nothing, files are copied whole, about once a minute
  and with each checkpoint.
  """

  def __init__(self, workdir: str | pathlib.Path, *, tensorboard: bool = True):
    self._workdir = paths.make_folder(workdir)
    self._mirror = mirror.Mirror(self._workdir)
    self._path = self._mirror.folder / run_files.METRICS
    self._tensorboard = (
        _TensorBoard(self._mirror.folder / run_files.TENSORBOARD)
        if tensorboard else None)

  def resume(self, step: int) -> None:
    """Drops what an interrupted run wrote beyond the step now restored.

    Args:
      step: Steps taken; -1 drops every line.
    """
    for name in (run_files.METRICS, run_files.TENSORBOARD):
      self._mirror.fetch(name)
    if self._path.exists():
      lines = run_files.read_metrics(self._path.parent).lines
      files.write_text(self._path, ''.join(
          json.dumps(line) + '\n' for line in lines if line['step'] <= step))
    if self._tensorboard:
      self._tensorboard.resume(step)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Appends one line; values are Python or NumPy numbers."""
    values = {name: _number(value) for name, value in scalars.items()}
    with open(self._path, 'a') as file:
      file.write(json.dumps({'step': step} | values) + '\n')
    self.write_curves(step, values)
    self._mirror.publish_later()

  def write_curves(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes to TensorBoard alone what no two runs have equal (timings)."""
    if self._tensorboard:
      self._tensorboard.put('write_scalars', step, dict(scalars))

  def write_images(self, step: int, images: Mapping[str, Any]) -> None:
    """Writes uint8 images [H, W, 3]."""
    if not images:
      return
    directory = paths.make_folder(self._workdir / run_files.IMAGES)
    for name, image in images.items():
      image = np.asarray(image)
      if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f'The image {name!r} is {image.dtype}{image.shape}, '
                         'not uint8 [H, W, 3].')
      file = f'step_{step:08d}_{name.replace("/", "_")}.png'
      video.write_png(directory / file, image)
    if self._tensorboard:
      self._tensorboard.put(
          'write_images', step,
          {name: np.asarray(image)[None] for name, image in images.items()})

  def flush(self) -> None:
    """Makes the lines written so far survive a crash of the machine.

    TensorBoard's events are only handed to the system, and in their turn.
    """
    if self._path.exists():
      with open(self._path, 'a') as file:
        os.fsync(file.fileno())
    if self._tensorboard:
      self._tensorboard.put('flush')
    self._mirror.publish()

  def close(self) -> None:
    """Flushes, and waits until TensorBoard's files are written."""
    self.flush()
    if self._tensorboard:
      self._tensorboard.close()
    self._mirror.close()


class NullWriter(Writer):
  """Writes nothing: for the processes beyond the first."""

  def __init__(self):
    pass

  def resume(self, step):
    pass

  def write_scalars(self, step, scalars):
    pass

  def write_curves(self, step, scalars):
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


class _TensorBoard:
  """CLU's summary writer on a thread of its own.

  CLU imports TensorFlow, which takes seconds: the thread imports while the
  first step compiles. A file is begun with the first event, after `resume`.
  """

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    self._queue: queue.Queue = queue.Queue()
    # A daemon: an error elsewhere must not wait for TensorFlow's import.
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def put(self, method: str, *args: Any) -> None:
    """Calls a method of CLU's writer, later."""
    self._queue.put((method, args))

  def resume(self, step: int) -> None:
    """Drops the events of later steps; comes before the first event."""
    event_files.drop_later(self._directory, step)

  def close(self) -> None:
    self._queue.put(None)
    self._thread.join()

  def _work(self) -> None:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # TensorFlow computes nothing here, and would announce that it could.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
    try:
      metric_writers = importlib.import_module('clu.metric_writers')
    except ImportError as error:
      print(f'No TensorBoard files ({error}); metrics.jsonl has every scalar. '
            f'For the files, {extras.command("tensorboard")}.', flush=True)
      metric_writers = None
    writer = None
    while (item := self._queue.get()) is not None:
      if metric_writers and writer is None:
        writer = metric_writers.SummaryWriter(str(self._directory))
      if writer:
        method, args = item
        getattr(writer, method)(*args)
    if writer:
      writer.close()
