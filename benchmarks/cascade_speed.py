"""One clip of 17x512x896 through the text-to-video cascade of paper size.

  python -m benchmarks.cascade_speed [--json FILE]   # one GPU of 80 GB
  python -m benchmarks.cascade_speed --smoke         # a CPU, tiny stages

Seconds and peak device memory of the stages that `walt sample` runs for one
prompt: base (17x128x224, 3B), sr1 (17x256x448), sr2 (17x512x896) and decoding
sr2's latents; 50 steps of DDIM, the base with guidance text=7.5, that is two
passes a step. `--guidance 7.5,7.5,7.5` is what `walt sample --guidance
text=7.5` does. Weights are random, none of them zero.

T5's weights are not at hand: stages take random text states [1, 64, 2048] in
place of the encoder's, all of them seen. The stage 'text' times an encoder of
T5-XL's size with random weights; 'whole' has it too, and draws and decodes all
three stages in one process, weights drawn anew for each stage.

`first_seconds` is a call that compiles, `seconds` the next one. Both leave out
drawing the weights (`weights_seconds`), which stands for reading a checkpoint.
Every stage has a process of its own, as the peak of a process never falls;
`weights_peak_gib` is the peak before anything ran. All share a compilation
cache that is empty at first, so that 'whole' compiles little.
"""
import argparse
from collections.abc import Callable
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import denoiser_runs
from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.text import encoder as text_encoder
from walt_jax.text import t5
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics

_CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
_STAGES = dict(base='t2v_base_9x16', sr1='t2v_sr1', sr2='t2v_sr2')
_ALL = ('text', *_STAGES, 'decode', 'whole')
_NOISE_LEVEL = 0.1  # Of the low-resolution input, as in `walt sample`.
_PROMPT = 'a dog surfs'
_CHANNELS = 8
# google/t5-v1_1-xl, and something for a CPU.
_T5 = dict(vocabulary=32128, width=2048, head_width=64, num_layers=24,
           num_heads=32, mlp_width=5120)
_TINY_T5 = dict(vocabulary=64, width=384, head_width=8, num_layers=2,
                num_heads=2, mlp_width=32)


def main() -> None:
  """Prints a line a stage; writes JSON after each."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--stages', default=','.join(_ALL))
  parser.add_argument('--steps', default='',
                      help="one number, or base's,sr1's,sr2's")
  parser.add_argument('--guidance', default='7.5,1,1',
                      help="text guidance of base,sr1,sr2")
  parser.add_argument('--weights', default='float32',
                      choices=('float32', 'bfloat16'),
                      help="type of the denoisers' stored weights")
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--json', type=pathlib.Path)
  parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_one(args, args.one[0], pathlib.Path(args.one[1]))))
    return
  names = args.stages.split(',')
  if set(names) - set(_ALL):
    parser.error(f'--stages {args.stages}: choose of {",".join(_ALL)}')
  results: dict[str, Any] = dict(
      smoke=args.smoke, weights=args.weights, guidance=args.guidance,
      stages={})
  with tempfile.TemporaryDirectory() as folder:
    for name in (name for name in _ALL if name in names):
      row = _in_process(name, folder)
      results['stages'][name] = row
      print(_line(name, row), flush=True)
      if args.json:
        args.json.write_text(json.dumps(results, indent=1) + '\n')
  if any('error' in row for row in results['stages'].values()):
    raise SystemExit(1)


def _in_process(name: str, folder: str) -> dict[str, Any]:
  """Runs one stage; a failure is a result, so that the others still run."""
  start = time.perf_counter()
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.cascade_speed', *sys.argv[1:],
       '--one', name, folder], capture_output=True, text=True,
      env=os.environ | dict(
          JAX_COMPILATION_CACHE_DIR=f'{folder}/cache',
          JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0'))
  row = (dict(error=done.stderr[-3000:]) if done.returncode else
         json.loads(done.stdout.splitlines()[-1]))
  return row | dict(process_seconds=round(time.perf_counter() - start, 2))


def _line(name: str, row: dict[str, Any]) -> str:
  if 'error' in row:
    return f'{name:<7} failed:\n{row["error"]}'
  return (f'{name:<7} {row["seconds"]:8.2f} s, compiling '
          f'{row["compile_seconds"]:6.1f} s, weights '
          f'{row["weights_seconds"]:5.1f} s, peak {row["peak_gib"]:6.2f} GiB '
          f'of {row["memory"]} (weights {row["weights_peak_gib"]:.2f}), '
          f'{sum(row["parameters"].values()) / 1e6:.1f}M, {row["device"]}')


def _one(args, name: str, folder: pathlib.Path) -> dict[str, Any]:
  """Measures one stage in this process."""
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  with partition.activate(mesh):
    setup = _Setup(args, mesh, name)
    row = dict(device=jax.devices()[0].device_kind, jax=jax.__version__)
    if name == 'whole':
      row |= setup.whole()
    elif name == 'text':
      row |= setup.encode_text()
    elif name == 'decode':
      row |= setup.decode(folder)
    else:
      row |= setup.sample(name, folder)
  kind, peak = mesh_lib.peak_memory(mesh)
  return row | dict(
      memory=kind, peak_gib=_gib(peak), parameters=setup.parameters,
      weights_seconds=setup.weights_seconds)


class _RandomText:
  """States in place of those of a text encoder (`TextEncoder.embed`)."""

  def __init__(self, max_tokens: int, width: int):
    self._shape = (max_tokens, width)

  def embed(self, prompts):
    """float32 [N, L, D] and mask bool [N, L]."""
    states = np.random.default_rng(0).standard_normal(
        (len(prompts), *self._shape), np.float32)
    return states, np.ones(states.shape[:2], bool)


class _Words:
  """Random ids in place of T5's vocabulary (`tokenization.Tokenizer`)."""

  def __init__(self, max_tokens: int, vocabulary: int):
    self.max_tokens, self.vocabulary = max_tokens, vocabulary

  def __call__(self, prompts):
    """Ids int32 [N, L] and mask bool [N, L]."""
    shape = (len(prompts), self.max_tokens)
    ids = np.random.default_rng(0).integers(self.vocabulary, size=shape)
    return ids.astype(np.int32), np.ones(shape, bool)


class _Setup:
  """The pipeline with weights that are drawn, not read.

  Attributes:
    parameters: Numbers of those drawn so far, by part.
    weights_seconds: That drawing took so far.
  """

  def __init__(self, args, mesh, name: str):
    """Draws the text encoder and the decoder where `name` needs them."""
    variant = ':smoke' if args.smoke else ''
    self._configs = [
        schema.of(config_lib.load(f'{_CONFIGS}/{file}.py{variant}'))
        for file in _STAGES.values()]
    self._mesh, self._smoke = mesh, args.smoke
    self._dtype = jnp.dtype(args.weights)
    self.parameters: dict[str, int] = {}
    self.weights_seconds = 0.0
    section = self._configs[0].text
    with_t5 = name in ('text', 'whole')
    text: Any = (self._t5(section.max_tokens) if with_t5 else
                 _RandomText(section.max_tokens, section.width))
    self._text = text
    stages = [self._stage(*item) for item in
              zip(_STAGES, self._configs, strict=True)]
    self._pipeline = pipeline_lib.Pipeline(
        tokenizer=self._tokenizer(drawn=name in ('decode', 'whole')),
        stages=tuple(stages), text=self._text, frame_rate=8.0)
    self._settings = _settings(args, stages)
    self._requests = [requests_lib.Request(prompt=_PROMPT)]

  def encode_text(self) -> dict[str, Any]:
    """Times the encoder; its weights come from the host, as after loading."""
    return _twice(lambda: self._text.embed([_PROMPT])[0])

  def sample(self, name: str, folder: pathlib.Path) -> dict[str, Any]:
    """Times one stage, and leaves its latents for the next."""
    index = list(_STAGES).index(name)
    jax.block_until_ready(self._pipeline.stages[index].params.get())
    low_res, source = self._latents(index - 1, folder) if index else (None, '')
    outputs = []

    def run():
      outputs.append(cascade.run_stage(
          self._pipeline, index, self._requests, self._settings[index],
          low_res=low_res, batch_size=1))
      return outputs[-1].latents

    row = _twice(run)
    np.save(folder / f'{name}.npy', outputs[-1].latents)
    settings = self._settings[index]
    return row | dict(
        compile_seconds=outputs[0].compile_seconds, low_res=source or None,
        sampler=settings.options.sampler, steps=settings.options.num_steps,
        passes=1 + len(settings.guidance.scales),
        milliseconds_a_step=(1e3 * row['seconds'] /
                             settings.options.num_steps))

  def decode(self, folder: pathlib.Path) -> dict[str, Any]:
    """Times decoding the last stage's latents."""
    latents, source = self._latents(len(_STAGES) - 1, folder)
    output = cascade.StageOutput(
        latents, self._pipeline.plan(), blend=False, kept=[None], seconds=0.0,
        compile_seconds=0.0)
    return _twice(lambda: self._clip(output)) | dict(latents=source)

  def whole(self) -> dict[str, Any]:
    """Times what `walt sample` does between reading and writing files."""
    drawing = []

    def run():
      before = self.weights_seconds
      outputs = cascade.run(
          self._pipeline, self._requests, self._settings, batch_size=1)
      clips = [self._clip(output) for output in outputs]
      drawing.append(self.weights_seconds - before)
      return clips[-1]

    row = _twice(run)
    row['first_seconds'] -= drawing[0]
    row['seconds'] -= drawing[1]
    return row | dict(compile_seconds=row['first_seconds'] - row['seconds'])

  def _clip(self, output: cascade.StageOutput) -> np.ndarray:
    """The clip uint8 [T, H, W, 3] of a stage's only sample."""
    return next(cascade.decode(self._pipeline, output, 1))

  def _latents(self, index: int, folder: pathlib.Path):
    """Latents of a stage [1, 1, 1+t, h, w, c]: its own, or random ones."""
    file = folder / f'{list(_STAGES)[index]}.npy'
    if file.is_file():
      return np.load(file), file.stem
    shape = (1, 1, *self._pipeline.stages[index].sampler.shape)
    return np.random.default_rng(0).standard_normal(shape, np.float32), 'random'

  def _stage(self, name: str, config):
    """As `builders.pipelines` makes of a work directory."""
    bare = denoiser_runs.bare_stage(config, mesh_lib.platform(self._mesh))
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, self._dtype),
        bare.shapes)
    restore = lambda: jax.device_put(
        self._draw(name, shapes, partition.DENOISER_RULES),
        partition.tree_shardings(shapes, self._mesh, partition.DENOISER_RULES))
    return pipeline_lib.TrainedStage(
        name=name, workdir='', step=0, weights='params',
        sampler=objectives.stage_sampler_of(bare.objective, config),
        params=pipeline_lib.StageParams(restore, lambda params: 'random'),
        classes=(), uses_text=True,
        frame_lengths=objectives.frame_lengths(config),
        can_factorize=objectives.can_factorize(config),
        defaults=objectives.stage_settings(config))

  def _tokenizer(self, *, drawn: bool):
    """With weights on the host, as after loading; none where not `drawn`."""
    section = (self._configs[0].tokenizer.random.model if self._smoke else
               schema.of(config_lib.load(
                   f'{_CONFIGS}/tokenizer_video.py:t2v')).model)
    module = networks.autoencoder(section, mesh_lib.platform(self._mesh))
    params: Any = {}
    if drawn:
      clip = np.zeros((1, 1, module.f_s, module.f_s, 3), np.float32)
      params = jax.device_get(self._draw(
          'tokenizer',
          jax.eval_shape(module.init, jax.random.key(0), clip)['params'],
          partition.TOKENIZER_RULES))
    return inference.Tokenizer(
        module, params, statistics.identity_statistics(_CHANNELS), {}, '')

  def _t5(self, max_tokens: int):
    """An encoder with random weights on the host, as after loading."""
    config = t5.T5Config(
        **(_TINY_T5 if self._smoke else _T5), num_buckets=32,
        max_distance=128, epsilon=1e-6, feed_forward='gated-gelu')
    module = t5.T5Encoder(config, jnp.bfloat16)
    words: Any = _Words(max_tokens, config.vocabulary)
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), *words([_PROMPT]))['params']
    params = jax.device_get(self._draw('text', shapes, partition.TEXT_RULES))
    return text_encoder.TextEncoder(
        't5', config.width, module, params, words, 'random')

  def _draw(self, part: str, shapes, rules) -> Any:
    """Random arrays like `shapes`, of activations of the order of one."""
    start = time.perf_counter()
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    drawn = []
    for index, (path, leaf) in enumerate(leaves):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      # One at a time, so that little else is in memory.
      drawn.append(jax.block_until_ready(_normal(
          index, *_moments(name, leaf.shape, rules), leaf.shape, leaf.dtype,
          _is_stacked(name))))
    self.parameters[part] = sum(leaf.size for _, leaf in leaves)
    self.weights_seconds += time.perf_counter() - start
    return jax.tree.unflatten(tree, drawn)


def _settings(args, stages) -> list:
  """Each stage's sampler and guidance, the config's but for the flags."""
  scales = [float(scale) for scale in args.guidance.split(',')]
  steps = [int(count) for count in args.steps.split(',') if count]
  steps = steps * len(stages) if len(steps) == 1 else steps or [
      stage.defaults.options.num_steps for stage in stages]
  return [
      pipeline_lib.StageSettings(
          dataclasses.replace(stage.defaults.options, num_steps=count),
          guidance_lib.Guidance(text=scale), _NOISE_LEVEL if index else 0.0)
      for index, (stage, scale, count) in enumerate(
          zip(stages, scales, steps, strict=True))]


def _is_stacked(name: str) -> bool:
  return name.startswith('layers/')


def _moments(name: str, shape, rules) -> tuple[float, float]:
  """Mean and deviation: a kernel is scaled by its fan-in."""
  if name.endswith('kernel'):
    columns = partition.matrix_axes(name, len(shape), rules)[2]
    fan_in = np.prod(shape[int(_is_stacked(name)):len(shape) - columns])
    return 0.0, float(fan_in) ** -0.5
  if name.endswith('embedding'):
    return 0.0, 1.0
  return float(name.endswith('scale')), 0.1


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _normal(seed, mean, deviation, shape, dtype, stacked: bool) -> jax.Array:
  """Normal numbers; of stacked layers one after the other, to save memory."""
  # Quicker to compile than JAX's usual generator.
  key = jax.random.key(seed, impl='rbg')

  def draw(key, shape):
    return (mean + deviation * jax.random.normal(key, shape)).astype(dtype)

  if not stacked:
    return draw(key, shape)
  return jax.lax.map(lambda layer: draw(
      jax.random.fold_in(key, layer), shape[1:]), jnp.arange(shape[0]))


def _twice(call: Callable[[], np.ndarray]) -> dict[str, Any]:
  """Times a call and the same again; the outcome must not be trivial."""
  before = mesh_lib.peak_memory(mesh_lib.make_mesh())[1]
  seconds = []
  for _ in range(2):
    start = time.perf_counter()
    result = np.asarray(call(), np.float32)
    seconds.append(time.perf_counter() - start)
  deviation = float(result.std())
  if not np.isfinite(result).all() or not deviation > 0:
    raise ValueError(f'The output is not finite, or constant: {result}.')
  return dict(first_seconds=seconds[0], seconds=seconds[1],
              compile_seconds=seconds[0] - seconds[1],
              output_shape=result.shape, output_std=deviation,
              weights_peak_gib=_gib(before))


def _gib(size: int) -> float:
  return round(size / 2**30, 3)


if __name__ == '__main__':
  main()
