"""Denoiser and tokenizer here and in eager PyTorch, in turns on one core.

  python -m benchmarks.cpu_speed --torch_python VENV/bin/python [--core 1]

The denoiser is `configs/ucf101.py:l` at width 256, depth 6, 4 heads, float32,
4 rows of 5x16x16 tokens and without the pass for self-conditioning, against a
twin of the same layers: a forward pass, a train step (AdamW) and ten DDIM
passes. The tokenizer is `configs/tokenizer_video.py` at 16 channels, one block
a level and 4 clips of 17x32x32, against a twin with the same weights: encoding,
decoding and a step of both players (the settings of `tokenizer_speed`).

Both sides of a case are ready at once, held to one core, and asked in turns;
malloc keeps what they free, as every command of ours has it.
Milliseconds are processor time of the process, the kernel's included, so that
other programs count little; `ratio` is the median of ours over that of
PyTorch, `limit` what it should not exceed. `--only` takes cases.
"""
import argparse
from collections.abc import Callable
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks import tokenizer_speed
from benchmarks.accelerator import turns

_CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
_DENOISER = dict(width=256, depth=6, heads=4, batch=4, side=16, samples=10)
_TOKENIZER = dict(channels=16, blocks=1, dtype='float32', remat=False,
                  adversarial_weight=0.1, form='auto')
_CLIPS = (4, 17, 32, 32)
# By case, what ours may take at most as a multiple of PyTorch's time.
LIMITS = dict(forward=1.15, train=1.4, sample=1.15, encode=1.15, decode=1.15,
              gan=1.4)
_DENOISER_CASES = ('forward', 'train', 'sample')
# Of both sides; malloc keeps what is freed, as every command of ours makes it.
_ENVIRONMENT = dict(
    OMP_NUM_THREADS='1', JAX_PLATFORMS='cpu', MALLOC_ARENA_MAX='1',
    MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_=str(2**31 - 1),
    MALLOC_TOP_PAD_=str(128 * 2**20),
    XLA_FLAGS='--xla_cpu_multi_thread_eigen=false '
              'intra_op_parallelism_threads=1')
_SECONDS = 900.0


def _denoiser(case: str) -> Callable[[], None]:
  """A step of the denoiser here."""
  import jax
  import jax.numpy as jnp

  from walt_jax.builders import absent_runs
  from walt_jax.builders import config as config_lib
  from walt_jax.builders import objectives
  from walt_jax.builders import schema
  from walt_jax.parallel import mesh as mesh_lib
  from walt_jax.parallel import rules
  config = config_lib.load(f'{_CONFIGS}/ucf101.py:l')
  width = _DENOISER['width']
  config.model.update(
      width=width, depth=_DENOISER['depth'], num_heads=_DENOISER['heads'],
      mlp_width=4 * width, dtype='float32', remat_policy='none')
  config.data.batch_size = _DENOISER['batch']
  config.diffusion.self_condition_probability = 0.0
  config.sampler.num_steps = _DENOISER['samples']
  mesh = mesh_lib.make_mesh()
  run = absent_runs.absent_run(config, mesh)
  key = jax.random.key(0)
  state = jax.device_put(jax.jit(run.stage.init)(key), run.shardings)
  rng = np.random.default_rng(0)

  def draw(leaf):
    if jnp.issubdtype(leaf.dtype, jnp.floating):
      return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
    return jnp.zeros(leaf.shape, leaf.dtype)

  batch = jax.tree.map(draw, run.batch)
  if case == 'train':
    program = run.lower_train_step().compile()
    held = [state, jnp.zeros((), bool)]

    def train():
      *held[:], metrics = program(*held, batch, key, {})
      jax.block_until_ready((held, metrics))

    return train
  experiment = schema.of(config)
  assert isinstance(experiment, schema.DenoiserExperiment)
  objective = objectives.objective(experiment, mesh_lib.platform(mesh))
  conditioning = objective.conditioning(batch)
  rows = batch.latents.shape[0]
  with rules.activate(mesh):
    if case == 'forward':
      arguments = (state.params, batch.latents, jnp.full((rows, 1), 0.5),
                   conditioning)
      compiled = jax.jit(objective.apply).lower(*arguments).compile()
    else:
      settings = objectives.stage_settings(experiment)
      sample = objectives.stage_sampler_of(objective, experiment).make(
          settings.options, settings.guidance)
      arguments = (state.params, jax.random.split(key, rows), conditioning,
                   jnp.zeros(()))
      compiled = jax.jit(sample).lower(*arguments).compile()
  return lambda: jax.block_until_ready(compiled(*arguments))


def _tokenizer(case: str, weights: str, clips: str) -> Callable[[], None]:
  """A step of the tokenizer here."""
  import jax
  autoencoder, discriminator = tokenizer_speed.networks_of(_TOKENIZER)
  params, pixels = tokenizer_speed.read_inputs(weights, clips)
  params = jax.device_put(params)
  if case == 'gan':
    step, state, batch, key = tokenizer_speed.gan_step(
        autoencoder, discriminator, params, pixels)
    held = [state]

    def gan():
      held[0], metrics = step(held[0], batch, key)
      jax.block_until_ready((held, metrics))

    return gan
  own = params['autoencoder']
  encode = jax.jit(lambda x: autoencoder.apply(
      {'params': own}, x, method='encode').mean)
  if case == 'encode':
    return lambda: jax.block_until_ready(encode(pixels))
  latents = encode(pixels)
  decode = jax.jit(lambda x: autoencoder.apply(
      {'params': own}, x, method='decode'))
  return lambda: jax.block_until_ready(decode(latents))


def _serve(case: str, files: list[str]) -> None:
  """The child's side of one case."""
  import jax
  step = _tokenizer(case, *files) if files else _denoiser(case)
  step()
  turns.serve(dict(jax=jax.__version__), step, time.process_time)


def _compare(case: str, args: argparse.Namespace, files: list[str]
             ) -> harness.Row:
  """Times both sides of a case in turns."""
  options = dict(_DENOISER)
  if files:
    from walt_jax.builders import config as config_lib
    config = config_lib.to_dict(tokenizer_speed.config_of(_TOKENIZER))
    options = _TOKENIZER | {
        name: config[name] for name in ('model', 'discriminator')}
  deadline = time.monotonic() + _SECONDS
  commands = dict(
      ours=[sys.executable, '-m', 'benchmarks.cpu_speed', '--one', case,
            *files],
      torch=[args.torch_python, '-m', 'benchmarks.cpu_torch_peer', case,
             json.dumps(options), *files])
  children: dict[str, turns.Child] = {}
  times: dict[str, list[float]] = dict(ours=[], torch=[])
  row: dict[str, Any] = dict(limit=LIMITS[case])
  try:
    for name, command in commands.items():
      children[name] = turns.Child(command, deadline, _ENVIRONMENT)
      row |= children[name].ask()
    for number in range(args.rounds + 1):  # The first warms up.
      for name, child in children.items():
        found = child.ask('1')
        row[f'{name}_peak_mib'] = round(found['peak_mib'])
        if number:
          times[name] += found['ms']
  finally:
    for child in children.values():
      child.close()
  row |= {name: turns.summary(found) for name, found in times.items()}
  return row | dict(ratio=round(row['ours']['ms'] / row['torch']['ms'], 3))


def main() -> None:
  """Runs the cases and writes their rows."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--torch_python', default=sys.executable)
  parser.add_argument('--core', type=int, default=0)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--only', default=','.join(LIMITS))
  parser.add_argument('--json', type=pathlib.Path)
  parser.add_argument('--one', nargs='+', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    _serve(args.one[0], args.one[1:])
    return
  os.sched_setaffinity(0, {args.core})
  rows: dict[str, harness.Row] = {}
  with tempfile.TemporaryDirectory() as folder:
    files = [f'{folder}/weights.npz', f'{folder}/clips.npy']
    tokenizer_speed.write_inputs(_TOKENIZER, _CLIPS, *files)
    for case in args.only.split(','):
      rows[case] = _compare(
          case, args, [] if case in _DENOISER_CASES else files)
      print(case, json.dumps(rows[case]), flush=True)
  print(harness.write('cpu_speed', rows, path=args.json))


if __name__ == '__main__':
  main()
