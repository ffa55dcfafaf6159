"""TensorBoard's files after a crash: no step twice, no record damaged."""
import contextlib
import itertools
import pathlib
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer import record_writer

from walt_jax.training import event_files
from walt_jax.training import logging
from walt_jax.training import sinks

_NUMBERS = itertools.count()


class FakeSummaryWriter:
  """TensorBoard's own records, without TensorFlow."""

  def __init__(self, directory: str):
    pathlib.Path(directory).mkdir(exist_ok=True)
    path = f'{directory}/events.out.tfevents.{next(_NUMBERS)}'
    self._file = open(path, 'wb', buffering=0)
    self._records = record_writer.RecordWriter(self._file)
    self.add(event_pb2.Event(file_version='brain.Event:2'))

  def add(self, event: event_pb2.Event) -> None:
    self._records.write(event.SerializeToString())

  def write_scalars(self, step, scalars):
    self.add(event_pb2.Event(
        wall_time=1.5, step=step, summary=summary_pb2.Summary(value=[
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in scalars.items()])))

  def write_images(self, step, images):
    self.add(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[
        summary_pb2.Summary.Value(tag=name) for name in images])))

  def flush(self):
    self._file.flush()

  def close(self):
    self._file.close()


def events(directory: pathlib.Path) -> list[event_pb2.Event]:
  """All of the folder, their checksums tested by TensorBoard's reader."""
  found = []
  for path in sorted(directory.glob('events*')):
    reader = pywrap_tensorflow.PyRecordReader_New(str(path))
    with contextlib.suppress(errors.OutOfRangeError):
      while True:
        reader.GetNext()
        found.append(event_pb2.Event.FromString(reader.record()))
  return found


def scalars(directory: pathlib.Path) -> list[tuple[int, str, float]]:
  return [(event.step, value.tag, value.simple_value)
          for event in events(directory) for value in event.summary.value]


class EventFilesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, *steps: int) -> pathlib.Path:
    before = set(self.folder.iterdir())
    writer = FakeSummaryWriter(str(self.folder))
    for step in steps:
      writer.write_scalars(step, {'loss': step / 4})
    writer.close()
    (path,) = set(self.folder.iterdir()) - before
    return path

  @parameterized.parameters(
      (-1, [], []), (0, [0], []), (200, [0, 1, 200], []),
      (300, [0, 1, 200, 300], [300]), (400, [0, 1, 200, 300, 400], [300, 400]))
  def test_later_steps_are_dropped(self, step, first, second):
    paths = self.write(0, 1, 200, 300, 400), self.write(300, 400)
    event_files.drop_later(self.folder, step)
    self.assertEqual(
        scalars(self.folder),
        [(s, 'loss', s / 4) for s in first + second])
    self.assertEqual([path.exists() for path in paths],
                     [bool(first), bool(second)])

  def test_what_is_early_stays_untouched(self):
    path = self.write(1, 2)
    before = path.stat()
    event_files.drop_later(self.folder, 2)
    self.assertEqual((path.stat().st_ino, path.stat().st_mtime_ns),
                     (before.st_ino, before.st_mtime_ns))
    event_files.drop_later(self.folder / 'none', 0)

  @parameterized.parameters(1, 5, 11, 13, 30)
  def test_a_record_that_a_crash_cut_is_dropped(self, missing):
    path = self.write(1, 2, 3)
    data = path.read_bytes()
    path.write_bytes(data[:-missing])
    event_files.drop_later(self.folder, 10)
    self.assertEqual([step for step, _, _ in scalars(self.folder)], [1, 2])
    self.assertTrue(data.startswith(path.read_bytes()))

  def test_a_run_that_crashed_writes_no_step_twice(self):
    """The writer of a new process begins behind what was restored."""
    clu = types.SimpleNamespace(SummaryWriter=FakeSummaryWriter)
    self.enterContext(mock.patch.object(
        sinks.importlib, 'import_module', lambda name: clu))

    def write(steps):
      for step in steps:
        writer.write_scalars(step, {'loss': step, 'speed': 1.0})

    writer = logging.Writer(self.folder)
    writer.resume(-1)
    write([1, 2, 3, 4])
    writer.close()  # Later than in a crash: all events of the run are there.
    writer = logging.Writer(self.folder)
    writer.resume(2)
    write([3, 4, 5])
    writer.close()
    found = sorted((step, tag)
                   for step, tag, _ in scalars(self.folder / 'tensorboard'))
    self.assertEqual(found, [(step, tag) for step in range(1, 6)
                             for tag in ('loss', 'speed')])


if __name__ == '__main__':
  absltest.main()
