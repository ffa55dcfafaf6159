"""Readers of what runs, samples and scores left on disk."""
from collections.abc import Callable
import io
import json
import pathlib

import numpy as np

from benchmarks.fuzz import formats
from benchmarks.fuzz import mutations
from benchmarks.fuzz import reader as reader_lib
from walt_jax.builders import config as config_lib
from walt_jax.core import moments
from walt_jax.core import protobuf
from walt_jax.core import run_files
from walt_jax.core import run_history
from walt_jax.evaluation import results
from walt_jax.media import samples
from walt_jax.metrics import feature_sets
from walt_jax.report import build
from walt_jax.report import scores_file
from walt_jax.training import event_files

Reader, Target = reader_lib.Reader, reader_lib.Target

_METRICS = b''.join(json.dumps(line).encode() + b'\n' for line in (
    {'step': 0, 'train/loss': 1.5, 'perf/steps_per_second': 2.0},
    {'step': 50, 'train/loss': 1.25, 'eval/psnr': 20.5},
    {'step': 100, 'train/loss': 1.0, 'eval/loss': 0.5, 'eval/v_loss_q1': 1.0},
    {'step': 150, 'train/loss': 0.9, 'note': 'x', 'eval/loss': 0.25}))
_HISTORY = b''.join(json.dumps(line).encode() + b'\n' for line in (
    dict(event='start', time=1.7e9, step=-1),
    dict(event='save', time=1.7e9 + 5, step=50, productive_seconds=4.5),
    dict(event='end', time=1.7e9 + 9, code=75),
    dict(event='start', time=1.7e9 + 19, step=50),
    dict(event='end', time=1.7e9 + 29, code=0)))


def _metrics(folder: pathlib.Path) -> Target:
  def call(_: pathlib.Path):
    found = run_files.read_metrics(folder)
    found.curves()
    found.learnt()

  return reader_lib.of_file(folder / run_files.METRICS, [_METRICS], call)


def _history(folder: pathlib.Path) -> Target:
  return reader_lib.of_file(
      folder / run_files.HISTORY, [_HISTORY],
      lambda _: run_history.read(folder).wall_seconds(1.8e9))


def _config(*specs: str):
  """The config of a run, as every command that opens one reads it."""

  def make(folder: pathlib.Path) -> Target:
    seeds = [json.dumps(config_lib.to_dict(config_lib.load(spec))).encode()
             for spec in specs]
    return reader_lib.of_file(
        folder / run_files.CONFIG, seeds,
        lambda _: config_lib.read_experiment(str(folder)))

  return make


def _override(folder: pathlib.Path) -> Target:
  """`--config.KEY=VALUE`."""
  config = config_lib.load('quickstart:base')

  def read(data: bytes) -> None:
    key, _, text = data.decode(errors='surrogateescape').partition('=')
    config_lib.override(config.copy_and_resolve_references(), [(key, text)])

  return Target((b'model.width=96', b'train.num_steps=10',
                 b'optimizer.peak_lr=1e-3', b'data.path=/data',
                 b"train.writers=('tensorboard',)",
                 b'model.spatial_window=(1, 4, 4)'), read)


def _event(step: int) -> bytes:
  data = (protobuf.varint(2 << 3) + protobuf.varint(step)
          + protobuf.field(5, b'summary'))
  return len(data).to_bytes(8, 'little') + bytes(4) + data + bytes(4)


def _events(folder: pathlib.Path) -> Target:
  version = protobuf.field(3, b'brain.Event:2')
  seed = (len(version).to_bytes(8, 'little') + bytes(4) + version + bytes(4)
          + b''.join(map(_event, (1, 5, 200, 999))))
  return reader_lib.of_file(
      folder / 'events.out.tfevents.1', [seed],
      lambda path: event_files.drop_later(folder, 100))


_CLIP = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)


def _write_samples(folder: pathlib.Path) -> bytes:
  """Writes a folder of samples; returns its list."""
  samples.write_samples(
      folder, [_CLIP] * 2,
      [samples.Entry('00000', 'a dog', 'run', 3, 0, ((0, 'a'), (17, 'b'))),
       samples.Entry('00001', 'a cat', seed=4, index=1, given_frames=0)],
      8.0, mp4=False, stages=[samples.StageRecord(
          'base', 'runs/base', 10, 'ab' * 32, steps=5,
          guidance=dict(label=2.0), shape=(2, 16, 16, 3), seconds=1.5)],
      settings=dict(fps_origin='config'), seconds=2.5)
  for entry in range(2):
    (folder / f'{entry:05d}.mp4').write_bytes(b'mp4')
  return (folder / samples.FILE_NAME).read_bytes()


def _samples(folder: pathlib.Path) -> Target:
  seed = _write_samples(folder)

  def call(_: pathlib.Path):
    found = samples.read_samples(folder)
    found.clips()

  return reader_lib.of_file(folder / samples.FILE_NAME, [seed], call)


def _write_scores(folder: pathlib.Path) -> bytes:
  scores_file.write_scores(folder, [
      scores_file.Score('Digit accuracy', 0.6, 'Base', 'fraction', (0.5, 0.7),
                        160, target=0.5, note='A note.', baselines=(
                            scores_file.Baseline('real', 0.9, (0.8, 1.0), 9),)),
      scores_file.Score('FVD', 850.0, better='lower')],
                           [scores_file.Timing('train', 12.5, 10**9)],
                           dict(seed=1))
  return (folder / scores_file.FILE_NAME).read_bytes()


def _scores(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  seed = _write_scores(folder)
  return reader_lib.of_file(folder / scores_file.FILE_NAME, [seed],
                            lambda _: scores_file.read_scores(folder))


def _report(name: str) -> Callable[[pathlib.Path], Target]:
  """The page of a folder of which one file was changed: it always comes."""

  def make(folder: pathlib.Path) -> Target:
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {samples.FILE_NAME: _write_samples(folder),
             scores_file.FILE_NAME: _write_scores(folder),
             run_files.METRICS: _METRICS, run_files.CONFIG: b'{"a": 1}'}
    for file, seed in seeds.items():
      (folder / file).write_bytes(seed)
    return reader_lib.of_file(folder / name, [seeds[name]],
                              lambda _: build.render(folder).encode())

  return make


_NETWORK = dict(name='i3d-kinetics-400', source='path', sha256='ab' * 32)


def _statistics(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  feature_sets.FeatureSet(
      moments.Moments.of(rng.normal(size=(9, 4))), 16, _NETWORK, 'i3d',
      content='ab' * 16, about=dict(path='x')).save(folder / 'seed.npz')

  def call(path: pathlib.Path):
    if not feature_sets.is_statistics(path):
      raise feature_sets.errors.UserError('clips, not statistics')
    feature_sets.read_about(path)
    found = feature_sets.load(path, network=_NETWORK, preprocessing='i3d')
    found.moments.covariance()

  return reader_lib.of_file(folder / 's.npz', [
      (folder / 'seed.npz').read_bytes()], call)


def _reference_statistics(folder: pathlib.Path) -> Target:
  """Those of other programs, of InceptionV3."""
  out = io.BytesIO()
  np.savez(out, mu=np.zeros(4), sigma=np.eye(4), mu_s=np.zeros(3),
           sigma_s=np.eye(3))

  def call(path: pathlib.Path):
    if not feature_sets.is_statistics(path):
      raise feature_sets.errors.UserError('clips, not statistics')
    feature_sets.read_about(path)
    found = feature_sets.load(
        path, network=_NETWORK | dict(name='inception-v3'), preprocessing='x')
    found.moments.covariance()

  return reader_lib.of_file(folder / 's.npz', [out.getvalue()], call)


_RESULT = dict(
    metric='fvd', value=850.5, frames=16, network=_NETWORK,
    preprocessing='i3d', covariance='unbiased', protocol='quick',
    real_content='ab' * 16, num_real=9, num_generated=9,
    differences=[dict(what='rate', real=8, generated=9)])


def _result(folder: pathlib.Path) -> Target:
  folder.mkdir(parents=True, exist_ok=True)
  other = folder / 'other.json'
  other.write_text(json.dumps(_RESULT))
  return reader_lib.of_file(
      folder / 'result.json', [json.dumps(_RESULT).encode()],
      lambda path: results.compare(str(other), str(path)))


READERS = (
    Reader('run.metrics', _metrics, mutations.JSON_LINES,
           mutations.has_json_line),
    Reader('run.history', _history, mutations.JSON_LINES,
           mutations.has_json_line),
    Reader('run.config', _config('quickstart:base', 'quickstart:tokenizer'),
           mutations.JSON, mutations.is_json),
    Reader('flag.config', _override, mutations.one_of(
        (1, mutations.edits), (1, mutations.cells('='))),
           lambda data: b'=' in data),
    Reader('run.tensorboard', _events, mutations.edits,
           lambda data: len(data) > 12),
    Reader('samples.json', _samples, mutations.JSON, mutations.is_json),
    Reader('scores.json', _scores, mutations.JSON, mutations.is_json),
    Reader('report.metrics', _report(run_files.METRICS),
           mutations.JSON_LINES, mutations.has_json_line),
    Reader('report.samples', _report(samples.FILE_NAME), mutations.JSON,
           mutations.is_json),
    Reader('report.scores', _report(scores_file.FILE_NAME), mutations.JSON,
           mutations.is_json),
    Reader('report.config', _report(run_files.CONFIG), mutations.JSON,
           mutations.is_json),
    Reader('statistics.npz', _statistics, formats.NPZ,
           formats.is_archive, memory_mib=256),
    Reader('reference.npz', _reference_statistics, formats.NPZ,
           formats.is_archive, memory_mib=256),
    Reader('result.json', _result, mutations.JSON, mutations.is_json),
)
