"""The tiny runs that end-to-end tests share: `walt` in this process.

A tokenizer of 5 x 16 x 16 pixels to 2 x 4 x 4 latents, a base with labels and
captions on them, and a super-resolution stage to 5 x 32 x 32; for long clips,
a base of 9 frames that continues from given ones, and a stage after it. All
have the same shapes in every test, so that their programs are compiled once.
"""
from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import functools
import io
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any
from unittest import mock

import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors import numpy as safetensors_numpy

from tests.e2e import same_programs
from walt_jax.commands import cli
from walt_jax.core import run_files
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.text import encoder as text_encoder
from walt_jax.training import logging as logging_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICKSTART = f'{ROOT}/configs/quickstart.py'
UCF101 = f'{ROOT}/configs/ucf101.py'

TEXT_WIDTH = 16
MAX_TOKENS = 8
STAGES = ('tokenizer', 'base', 'sr', 'rollout', 'sr_rollout')
SCRATCH = 'WALT_TEST_SCRATCH'  # Names the folder of the shared runs.

_DATA = {
    'data.num_frames': 5, 'data.height': 16, 'data.width': 16,
    'data.batch_size': 8, 'data.num_clips': 32, 'data.crop_sizes': (),
    'data.labels': 'digit_direction'}
_TRAIN = {
    'optimizer.warmup_steps': 1, 'optimizer.decay_steps': 8,
    'train.log_every': 1, 'train.save_every': 0, 'train.eval_batches': 1,
    'train.eval_samples': 2}
_TOKENIZER = {
    'model.base_channels': 8, 'model.middle_blocks': 1,
    'model.latent_channels': 4, 'model.num_groups': 4,
    'statistics.num_batches': 2, 'train.eval_every': 0}
_DENOISER = {
    'latents.frames': 2, 'latents.height': 4, 'latents.width': 4,
    'latents.channels': 4, 'model.width': 16, 'model.depth': 2,
    'model.num_heads': 1, 'model.mlp_width': 32, 'model.patch': 1,
    'model.spatial_window': (1, 4, 4), 'model.spacetime_window': (2, 2, 2),
    'model.num_classes': 40, 'train.eval_every': 1}
_SUPER_RESOLUTION = {
    'stage': 'super_resolution', 'data.height': 32, 'data.width': 32,
    'latents.height': 8, 'latents.width': 8, 'model.patch': 2,
    'model.low_res_factor': 2, 'model.use_noise_level': True,
    'diffusion.max_low_res_level': 0.3, 'train.eval_every': 0}
_ROLLOUT = {
    'data.num_frames': 9, 'latents.frames': 3,
    'model.spacetime_window': (3, 2, 2), 'train.eval_every': 0}
_FRAME_PREDICTION = {
    # An average of three steps would know nothing of its conditions yet.
    'ema': (), 'model.frame_condition': True,
    'diffusion.frame_condition_probability': 0.5}


@dataclasses.dataclass(frozen=True)
class Result:
  """What a command left: its exit code and what it printed."""
  code: int
  out: str
  err: str


_WRITER = logging_lib.Writer


def walt(*argv: Any, devices: int = 1) -> Result:
  """Runs `walt ARGV` in this process on the first so many devices."""
  out, err = io.StringIO(), io.StringIO()
  with (
      contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
      same_programs.shared(),
      mock.patch.object(
          mesh_lib, 'available', lambda: jax.devices()[:devices]),
      # TensorFlow takes seconds to import; the tests of processes use it.
      mock.patch.object(
          logging_lib, 'Writer',
          lambda workdir, **unused: _WRITER(workdir, writers=()))):
    code = cli.main([str(a) for a in argv])
  return Result(code, out.getvalue(), err.getvalue())


def overrides(values: Mapping[str, Any]) -> list[str]:
  """`--config.KEY=VALUE` of each entry."""
  return [f'--config.{key}={value}' for key, value in values.items()]


def flags(stage: str, workdir: pathlib.Path, num_steps: int,
          **changed: Any) -> list[str]:
  """The command line that trains a stage.

  Args:
    stage: One of `STAGES`.
    workdir: Where.
    num_steps: Steps in all.
    **changed: More config values, with `__` for the dots of their keys.
  """
  variant, values = 'smoke', _DATA | _TRAIN | _DENOISER
  if stage == 'tokenizer':
    variant, values = 'tokenizer', _DATA | _TRAIN | _TOKENIZER
  else:
    values |= {'tokenizer.workdir': run('tokenizer')}
  if stage in ('base', 'rollout'):
    values |= {
        'text.name': 'minilm', 'text.path': text_encoder_folder(),
        'text.width': TEXT_WIDTH, 'text.max_tokens': MAX_TOKENS}
  if stage in ('sr', 'sr_rollout'):
    values |= _SUPER_RESOLUTION
  if stage.endswith('rollout'):
    values |= _ROLLOUT
  if stage == 'rollout':
    values |= _FRAME_PREDICTION
  values |= {key.replace('__', '.'): value for key, value in changed.items()}
  values |= {'train.num_steps': num_steps}
  return ['train', '--config', f'{QUICKSTART}:{variant}', '--workdir',
          str(workdir), *overrides(values)]


def train(stage: str, workdir: pathlib.Path, num_steps: int, *,
          devices: int = 1, code: int = 0, **changed: Any) -> Result:
  """Trains a stage and checks the exit code."""
  result = walt(*flags(stage, workdir, num_steps, **changed), devices=devices)
  if result.code != code:
    raise AssertionError(f'exit code {result.code}:\n{result.err}')
  return result


@functools.cache
def _own_scratch() -> tempfile.TemporaryDirectory:
  return tempfile.TemporaryDirectory(prefix='walt_tests_')


def scratch() -> pathlib.Path:
  """The folder of the shared runs: of all processes that test together.

  tests/conftest.py names it; elsewhere it is this process's own.
  """
  return pathlib.Path(os.environ.get(SCRATCH) or _own_scratch().name)


def shared(name: str, make: Callable[[pathlib.Path], Any]) -> pathlib.Path:
  """A folder that the first process to want it makes, by `make(folder)`.

  Tests read it; one that writes takes a `copy`.
  """
  folder, made = scratch() / name, scratch() / f'{name}.made'
  with open(scratch() / f'{name}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # Until the file is closed.
    if not made.exists():
      shutil.rmtree(folder, ignore_errors=True)
      make(folder)
      made.touch()
  return folder


def run(stage: str) -> pathlib.Path:
  """The shared work directory of a stage trained for 3 steps without a break.
  """
  return shared(stage, lambda workdir: train(stage, workdir, 3))


def copy(workdir: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
  """A copy that a test may change."""
  return pathlib.Path(shutil.copytree(workdir, to))


def text_encoder_folder() -> pathlib.Path:
  """A random BERT of one layer with the packaged vocabulary."""
  return shared('text', _make_text_encoder)


def _make_text_encoder(folder: pathlib.Path) -> None:
  packaged = pathlib.Path(text_encoder.packaged_minilm())
  folder.mkdir()
  shutil.copyfile(packaged / 'tokenizer.json', folder / 'tokenizer.json')
  config = json.loads((packaged / 'config.json').read_text())
  mlp_width, positions = 32, MAX_TOKENS
  config |= dict(hidden_size=TEXT_WIDTH, intermediate_size=mlp_width,
                 num_hidden_layers=1, num_attention_heads=1,
                 max_position_embeddings=positions)
  (folder / 'config.json').write_text(json.dumps(config))
  rng = np.random.default_rng(0)
  tensors = {}

  def add(name, *shape):
    tensors[name] = rng.normal(0, 0.5, shape).astype(np.float32)

  def dense(name, fan_in, fan_out):
    add(f'{name}.weight', fan_out, fan_in)
    add(f'{name}.bias', fan_out)

  def norm(name):
    add(f'{name}.weight', TEXT_WIDTH)
    add(f'{name}.bias', TEXT_WIDTH)

  for name, rows in (('word', config['vocab_size']), ('position', positions),
                     ('token_type', config['type_vocab_size'])):
    add(f'embeddings.{name}_embeddings.weight', rows, TEXT_WIDTH)
  norm('embeddings.LayerNorm')
  layer = 'encoder.layer.0'
  for role in ('query', 'key', 'value'):
    dense(f'{layer}.attention.self.{role}', TEXT_WIDTH, TEXT_WIDTH)
  dense(f'{layer}.attention.output.dense', TEXT_WIDTH, TEXT_WIDTH)
  norm(f'{layer}.attention.output.LayerNorm')
  dense(f'{layer}.intermediate.dense', TEXT_WIDTH, mlp_width)
  dense(f'{layer}.output.dense', mlp_width, TEXT_WIDTH)
  norm(f'{layer}.output.LayerNorm')
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')


def saved(workdir: pathlib.Path, step: int) -> dict[str, Any]:
  """All of a checkpoint: the state's arrays and the data position, by name."""
  directory = pathlib.Path(workdir) / 'checkpoints' / str(step)
  with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
    tree = handler.metadata(directory / 'state').tree
    state = handler.restore(
        directory / 'state', args=ocp.args.PyTreeRestore(
            item=tree, restore_args=jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)))
  named = {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
           for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
  position = {file.name: file.read_text()
              for file in sorted((directory / 'data').iterdir())
              if file.name == 'metadata'}
  return named | position


def assert_same_checkpoint(
    a: pathlib.Path, b: pathlib.Path, step: int) -> None:
  """Every array of both states is equal, bit for bit."""
  one, two = saved(a, step), saved(b, step)
  assert one.keys() == two.keys(), one.keys() ^ two.keys()
  assert any(name.startswith('opt_state') for name in one)
  for name, value in one.items():
    np.testing.assert_array_equal(value, two[name], err_msg=name)


def metrics_text(workdir: pathlib.Path) -> str:
  """`metrics.jsonl` as it is, without timings."""
  return '\n'.join(map(
      json.dumps, run_files.read_metrics(workdir).learnt()))


def losses(workdir: pathlib.Path) -> list[float]:
  """`train/loss` of every step."""
  return [line['train/loss'] for line in run_files.read_metrics(workdir).lines
          if 'train/loss' in line]


def contents(path: pathlib.Path) -> dict[str, bytes] | None:
  """All files below a folder; None when it does not exist."""
  path = pathlib.Path(path)
  if not path.exists():
    return None
  return dict(_files(path))


def _files(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  for file in sorted(path.rglob('*')):
    name = str(file.relative_to(path))
    yield name, file.read_bytes() if file.is_file() else b''
