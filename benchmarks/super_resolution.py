"""What the quickstart's super-resolution stages are worth.

  make quickstart
  python -m benchmarks.super_resolution --quickstart runs/quickstart \
    --out runs/super_resolution

1. Each stage's output and bicubic upscaling of its input against the true
   clips (PSNR, perceptual distance, FVD), with the true low-resolution input
   and with what the stage before made. A generated clip has no true one: there
   the input is the true clip redrawn by the base from noise of a level that
   leaves its layout, so that both exist (SDEdit, arXiv 2108.01073), and for
   freely drawn clips there is FVD alone.
2. Digits and directions read after every stage of the cascade.
3. A noisy low-resolution input, with and without noise augmentation: sr1, and
   the same trained again without.

A long quickstart is measured with `--long`, some of the three with `--parts`. A
rerun continues where the last one stopped. Outcome: `results.json`.
"""
import argparse
from collections.abc import Callable
import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from walt_jax.builders import pipelines
from walt_jax.commands import cli
from walt_jax.core import types
from walt_jax.data.sources import moving_digits
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers
from walt_jax.evaluation import digit_reader
from walt_jax.metrics import fvd
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import upscale

_CONFIG = 'configs/quickstart.py:sr1'
_SIZES = (32, 64, 128)
_REDRAW_LEVEL = 0.3  # Timestep from which the base redraws a true clip.
_LEVEL = 0.1  # Noise given to a stage's input, as `walt sample` does.
_NOISES = (0.0, 0.1, 0.2, 0.3)  # Corruption: timesteps of the latents' noise.
_MORE_STEPS = 2  # One step is the mean of what is possible.
_BATCH = 8


def main() -> None:
  """Entry point."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quickstart', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--clips', type=int, default=32, help='true clips')
  parser.add_argument('--samples', type=int, default=80,
                      help='of the cascade, whose digits are read')
  parser.add_argument('--guidance', default='label=2,text=2.5')
  parser.add_argument('--long', action='store_true',
                      help='the run is of `make quickstart_long`')
  parts = {'upscaling': _upscaling, 'cascade': _cascade,
           'robustness': _robustness}
  parser.add_argument('--parts', nargs='+', choices=tuple(parts),
                      default=tuple(parts))
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  results = {name: _kept(args, name, parts[name]) for name in args.parts}
  harness.write('super_resolution', results, path=args.out / 'results.json')


def _kept(args, name: str, part: Callable[[Any], Any]) -> Any:
  """The outcome of a part, from the last run if it was done."""
  path = args.out / f'{name}.json'
  if not path.is_file():
    path.write_text(json.dumps(part(args), indent=1))
  return json.loads(path.read_text())


def _truth(args, size: int) -> np.ndarray:
  """Held-out clips uint8 [N, 17, S, S, 3]; the same scenes at any size."""
  source, count = _source(args, size), args.clips
  return np.stack([source[i]['video'] for i in range(count)])


def _source(args, size: int) -> moving_digits.MovingDigits:
  return moving_digits.MovingDigits(
      split='heldout', num_examples=args.clips, size=size, labels='digit',
      difficulty=_difficulty(args), seed=1)


def _difficulty(args) -> str:
  return 'free' if args.long else 'quick'


def _requests(args) -> list[requests_lib.Request]:
  """Caption and label of each true clip."""
  source = _source(args, 32)
  examples = [source[i] for i in range(args.clips)]
  return [requests_lib.Request(
      prompt=e['caption'], label=source.classes[e['label']], index=i)
          for i, e in enumerate(examples)]


def _load(args, *stages: str, given: bool = False) -> pipeline_lib.Pipeline:
  return pipelines.load_pipeline(
      [str(args.quickstart / stage) for stage in stages],
      mesh_lib.make_mesh(), low_res_given=given)


def _plain(stage: pipeline_lib.TrainedStage, noise_level: float,
           guidance: dict[str, float] | None = None
           ) -> pipeline_lib.StageSettings:
  return pipeline_lib.StageSettings(
      stage.defaults.options, guidance_lib.Guidance(**guidance or {}),
      noise_level)


def bicubic(clips: np.ndarray, factor: int) -> np.ndarray:
  """Bicubic upscaling of uint8 [N, T, H, W, 3]."""
  n, t, h, w, c = clips.shape
  shape = (n, t, h * factor, w * factor, c)
  return np.stack([
      np.asarray(jnp.clip(jnp.round(jax.image.resize(
          jnp.asarray(clip, jnp.float32), shape[1:], 'cubic')), 0, 255
                          ).astype(jnp.uint8)) for clip in clips])


def _encode(pipeline, clips: np.ndarray) -> np.ndarray:
  return np.concatenate([
      pipeline.codec.encode(clips[i:i + 1]) for i in range(len(clips))])


def _run(pipeline, latents: np.ndarray, requests, noise_level: float,
         steps: int | None = None) -> np.ndarray:
  """One stage on clean low-resolution latents [N, 1+t, h, w, c]: clips."""
  settings = _plain(pipeline.stages[0], noise_level)
  if steps:
    settings = dataclasses.replace(settings, options=dataclasses.replace(
        settings.options, num_steps=steps))
  output = cascade.run_stage(
      pipeline, 0, requests, settings,
      low_res=latents[:, None], batch_size=_BATCH)
  return np.stack(list(cascade.decode(pipeline, output, _BATCH)))


def redraw(pipeline: pipeline_lib.Pipeline, latents: np.ndarray,
           requests, level: float) -> np.ndarray:
  """The base's own version of true clips: noised to `level`, drawn back.

  Args:
    pipeline: Its first stage draws, by DDIM.
    latents: [N, 1+t, h, w, c], normalised.
    requests: Label and caption of each.
    level: Timestep in (0, 1].
  """
  stage = pipeline.stages[0]
  sampler = stage.sampler
  # Rules that use more than the last estimate cannot begin midway.
  steps = samplers.make(sampler.schedule, samplers.SamplerOptions(
      'ddim', stage.defaults.options.num_steps)).rows()
  chosen = np.flatnonzero(steps['timestep'] <= level)
  ids = {name: i for i, name in enumerate(stage.classes)}
  states, mask = pipeline.text.embed([r.prompt for r in requests])

  @jax.jit
  def draw(params, x, conditioning):
    for i in chosen:
      timestep = jnp.full((x.shape[0], 1), steps['timestep'][i], jnp.float32)
      out = sampler.denoiser.apply({'params': params}, x, timestep,
                                   conditioning)
      x_0 = sampler.prediction.x_0(
          out, x, np.float32(steps['alpha'][i]), np.float32(steps['sigma'][i]))
      x = steps['x_coef'][i] * x + steps['x_0_coef'][i] * x_0
    return x

  made = []
  for first in range(0, len(latents), _BATCH):
    rows = slice(first, first + _BATCH)
    eps = np.random.default_rng(first).standard_normal(
        latents[rows].shape, np.float32)
    x = (steps['alpha'][chosen[0]] * latents[rows]
         + steps['sigma'][chosen[0]] * eps)
    label = np.array([[ids[r.label]] for r in requests[rows]], np.int32)
    made.append(np.asarray(draw(
        stage.params.get(), jnp.asarray(x, jnp.float32), types.Conditioning(
            label=label if stage.classes else None,
            text=states[rows][:, None], text_mask=mask[rows][:, None]))))
  return np.concatenate(made)


def _upscaling(args) -> list[dict[str, Any]]:
  """Part 1: rows of stage, input, method and scores."""
  count, requests = args.clips, _requests(args)
  network = reconstruction.load_networks()
  i3d = video_features.load_network()
  base = _load(args, 'base')
  truths = [_truth(args, size) for size in _SIZES]
  redrawn = redraw(base, _encode(base, truths[0]), requests, _REDRAW_LEVEL)
  whole = _load(args, 'base', 'sr1', 'sr2')
  free = cascade.run(
      whole, requests, [_plain(s, _LEVEL if i else 0.0, _scales(args, i))
                        for i, s in enumerate(whole.stages)],
      batch_size=_BATCH)
  rows = []
  for index in (1, 2):
    stage = _load(args, f'sr{index}', given=True)
    truth = truths[index]
    real = fvd.feature_set(truth, i3d, label=f'I3D: {_SIZES[index]} px')
    inputs = {
        'true': (upscale.low_resolution(truth, 2), None),
        'redrawn by the stage before': (None, redrawn),
        'drawn freely by the stage before': (
            None, free[index - 1].latents[:, 0])}
    for name, (pixels, latents) in inputs.items():
      if latents is None:
        latents = _encode(stage, pixels)
      else:
        pixels = np.concatenate([
            stage.codec.decode(latents[i:i + 1]) for i in range(count)])
      level = 0.0 if name == 'true' else _LEVEL
      made = _run(stage, latents, requests, level)
      drawn = _run(stage, latents, requests, level, _MORE_STEPS)
      steps = stage.stages[0].defaults.options.num_steps
      if name.startswith('redrawn'):
        # The next stage gets this one's output.
        redrawn = _encode(stage, made)
      for method, clips in (
          (f'sr{index}, steps: {steps}', made),
          (f'sr{index}, steps: {_MORE_STEPS}', drawn),
          ('bicubic', bicubic(pixels, 2))):
        row = dict(stage=f'sr{index}', size=_SIZES[index], input=name,
                   method=method, clips=count, fvd=fvd.compare(
                       real, fvd.feature_set(clips, i3d, label=method)
                   )['value'])
        if not name.startswith('drawn freely'):
          found = reconstruction.compare_clips(truth, clips, network)
          row |= {k: found[k] for k in ('psnr', 'perceptual')}
        rows.append(row)
        print(row, flush=True)
  return rows


def _scales(args, index: int) -> dict[str, float]:
  """Guidance of the base alone."""
  if index:
    return {}
  return {k: float(v) for k, v in (
      item.split('=') for item in args.guidance.split(','))}


def _cascade(args) -> list[dict[str, Any]]:
  """Part 2: what is read after each stage."""
  requests = requests_lib.number([
      requests_lib.Request(
          prompt=moving_digits.caption(i // 4 % 10, i % 4),
          label=moving_digits.WORDS[i // 4 % 10])
      for i in range(args.samples)])
  pipeline = _load(args, 'base', 'sr1', 'sr2')
  outputs = cascade.run(
      pipeline, requests, [_plain(s, _LEVEL if i else 0.0, _scales(args, i))
                           for i, s in enumerate(pipeline.stages)],
      batch_size=_BATCH)
  reader = digit_reader.train_reader()
  digits = [i // 4 % 10 for i in range(args.samples)]
  directions = [i % 4 for i in range(args.samples)]
  rows = []
  for stage, output, size in zip(
      pipeline.stages, outputs, _SIZES, strict=True):
    clips = np.stack(list(cascade.decode(pipeline, output, _BATCH)))
    real = digit_reader.reader_accuracy(
        reader, size=size, num_frames=17, count=160,
        difficulty=_difficulty(args))['real']
    rows.append(dict(
        stage=stage.name, size=size,
        **digit_reader.score(reader.read(clips), digits, directions),
        real=real))
    print(rows[-1], flush=True)
  return rows


def _robustness(args) -> list[dict[str, Any]]:
  """Part 3: noise on the latents that the stage is told nothing of."""
  twin = args.out / 'sr1_without_augmentation'
  trained = json.loads((args.quickstart / 'sr1' / 'config.json').read_text())
  alike = [f'--config.{section}.{key}={trained[section][key]}'
           for section, key in (('train', 'num_steps'),
                                ('optimizer', 'decay_steps'))]
  code = cli.main([
      'train', '--config', _CONFIG + ('_long' if args.long else ''),
      '--workdir', str(twin),
      f'--config.tokenizer.workdir={args.quickstart / "tokenizer"}',
      f'--config.data.path={args.quickstart / "latents" / "64"}',
      f'--config.ema={tuple(trained["ema"])}',
      '--config.diffusion.max_low_res_level=0.0', *alike])
  if code:
    raise SystemExit(code)
  requests, network = _requests(args), reconstruction.load_networks()
  truth = _truth(args, 64)
  with_augmentation = _load(args, 'sr1', given=True)
  without = pipelines.load_pipeline(
      [str(twin)], mesh_lib.make_mesh(), low_res_given=True)
  low = upscale.low_resolution(truth, 2)
  clean = _encode(with_augmentation, low)
  schedule = with_augmentation.stages[0].sampler.schedule
  eps = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
  rows = []
  for noise in _NOISES:
    alpha, sigma = (np.asarray(x) for x in schedule.alpha_sigma(
        jnp.float32(noise)))
    # Of the signal's own size: a stage cannot tell it by the scale.
    corrupted = (clean + sigma / alpha * eps).astype(np.float32)
    pixels = np.concatenate([with_augmentation.codec.decode(
        corrupted[i:i + 1]) for i in range(len(corrupted))])
    for name, clips in (
        ('without augmentation', _run(without, corrupted, requests, 0.0)),
        *((f'with augmentation, noise level {level}',
           _run(with_augmentation, corrupted, requests, level))
          for level in (0.0, 0.1, 0.2)),
        ('bicubic', bicubic(pixels, 2))):
      found = reconstruction.compare_clips(truth, clips, network)
      rows.append(dict(noise=noise, sigma=float(sigma / alpha), method=name,
                       psnr=found['psnr'], perceptual=found['perceptual']))
      print(rows[-1], flush=True)
  return rows


if __name__ == '__main__':
  main()
