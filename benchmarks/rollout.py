"""Long clips and image to video on moving digits: what stays as it was.

  make quickstart
  (the two commands in configs/digits_rollout.py, RUN = runs/quickstart)
  python -m benchmarks.rollout --quickstart runs/quickstart \
    --rollout runs/quickstart/rollout --out runs/rollout

1. Digit and direction read in each stretch of 17 frames of long clips, beside
   what the readers find in real clips as long, and how much the picture jumps
   where windows meet: base, and sr1 with blended windows and without.
2. Image to video, as long: the true first frame of held-out clips is given.
   PSNR of the first frame as the model decodes it (in the file it is the given
   one), of the second against the true second, and what is read in each
   stretch.

Outcome: `table.md`, `results.json`.
"""
import argparse
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from walt_jax.builders import pipelines
from walt_jax.data.sources import moving_digits
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.evaluation import digit_reader
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib

_WINDOW = 17
_BATCH = 16


def main() -> None:
  """Entry point."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quickstart', type=pathlib.Path, required=True)
  parser.add_argument('--rollout', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--samples', type=int, default=160)
  parser.add_argument('--sr_samples', type=int, default=16,
                      help='of which pass through sr1')
  parser.add_argument('--num_frames', type=int, default=41)
  parser.add_argument('--guidance', default='label=2,text=2.5')
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  reader = digit_reader.train_reader()
  results = dict(over_time=_over_time(args, reader),
                 image=_image_to_video(args, reader))
  (args.out / 'results.json').write_text(json.dumps(results, indent=1))
  text = table(results)
  (args.out / 'table.md').write_text(text)
  print(text)


def _load(args, *workdirs: pathlib.Path) -> pipeline_lib.Pipeline:
  return pipelines.load_pipeline(
      [str(w) for w in workdirs], mesh_lib.make_mesh())


def _settings(args, pipeline) -> list[pipeline_lib.StageSettings]:
  scales = {k: float(v) for k, v in (
      item.split('=') for item in args.guidance.split(','))}
  return [pipeline_lib.StageSettings(
      stage.defaults.options, guidance_lib.Guidance(**{} if index else scales),
      0.1 if index else 0.0) for index, stage in enumerate(pipeline.stages)]


def _asked(count: int) -> tuple[list[requests_lib.Request], list[int],
                                list[int]]:
  digits = [i // 4 % 10 for i in range(count)]
  directions = [i % 4 for i in range(count)]
  requests = requests_lib.number([
      requests_lib.Request(prompt=moving_digits.caption(d, w),
                           label=moving_digits.WORDS[d])
      for d, w in zip(digits, directions, strict=True)])
  return requests, digits, directions


def _centred(clips: np.ndarray) -> np.ndarray:
  """Clips [N, T, S, S, 3] rolled so that what moves begins in the middle.

  The world is a torus, but the reader cuts its digit out of a plane. Pixels
  alone decide: the circular mean of the moving part.
  """
  size = clips.shape[2]
  still = np.maximum(digit_reader.sharpen_motion(clips)[1], 0)
  still = still * (still > still.max(axis=(1, 2), keepdims=True) / 2)
  turn = np.exp(2j * np.pi * np.arange(still.shape[1]) / still.shape[1])
  rolled = []
  for clip, ink in zip(clips, still, strict=True):
    shift = [int(round(size * (0.5 - np.angle(ink.sum(axis) @ turn)
                               / (2 * np.pi)))) for axis in (1, 0)]
    rolled.append(np.roll(clip, shift, axis=(1, 2)))
  return np.stack(rolled)


def _real(count: int, num_frames: int):
  """Held-out clips, their digits and directions."""
  return digit_reader.held_out_clips(count, num_frames=num_frames)


def _over_time(args, reader) -> dict[str, Any]:
  """Part 1."""
  requests, digits, directions = _asked(args.samples)
  pipeline = _load(args, args.rollout)
  plan = pipeline.plan(args.num_frames)
  output = cascade.run(pipeline, requests, _settings(args, pipeline),
                       batch_size=_BATCH, plan=plan)[0]
  clips = np.stack(list(cascade.decode(pipeline, output, _BATCH)))
  real, *truth = _real(args.samples, args.num_frames)
  rows = _read_stretches(
      reader, (clips, digits, directions), (real, *truth), plan.new_frames)
  meets = [plan.first_new(w) for w in range(1, plan.num_windows)]
  seams = {'real clips': seam(real, meets), 'base': seam(clips, meets)}
  cascade_pipeline = _load(args, args.rollout, args.quickstart / 'sr1')
  outputs = cascade.run(
      cascade_pipeline, requests[:args.sr_samples],
      _settings(args, cascade_pipeline), batch_size=_BATCH, plan=plan)
  for name, blend in (('sr1, blended', True), ('sr1, cut', False)):
    made = np.stack(list(cascade.decode(
        cascade_pipeline, dataclasses.replace(outputs[1], blend=blend),
        _BATCH)))
    # Blended windows meet over all the frames that they share.
    where = meets if not blend else [
        m - k for m in meets for k in range(plan.context_frames + 1)]
    seams[name] = seam(made, where, rest=meets, shared=plan.context_frames)
  return dict(rows=rows, seams=seams, samples=args.samples,
              sr_samples=args.sr_samples)


def _read_stretches(reader, made, real, stride: int) -> list[dict[str, Any]]:
  """Reads windows of 17 frames.

  Args:
    reader: Of digits and directions.
    made: Clips, and the digits and directions that they should show.
    real: The same of real clips.
    stride: Frames from one window to the next.
  """
  rows = []
  for first in range(0, made[0].shape[1] - _WINDOW + 1, stride):
    read = lambda clips, *asked, first=first: digit_reader.score(
        reader.read(_centred(clips[:, first:first + _WINDOW])), *asked)
    rows.append(dict(first=first, last=first + _WINDOW - 1, **read(*made),
                     real=read(*real)))
    print(rows[-1], flush=True)
  return rows


def seam(clips: np.ndarray, meets: list[int], *,
         rest: list[int] | None = None, shared: int = 0) -> dict[str, float]:
  """How much frames change where windows meet, and elsewhere.

  Args:
    clips: uint8 [N, T, H, W, 3].
    meets: Numbers of frames that are compared with the one before.
    rest: First new frames of the windows; all but the `shared` frames before
      each are elsewhere. By default `meets`.
    shared: See `rest`.

  Returns:
    Mean absolute change (of 255) at the largest and the mean of `meets`, and
    elsewhere.
  """
  change = np.stack([
      np.abs(np.diff(clip.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
      for clip in clips])  # [N, T - 1]; entry i leads to frame i + 1.
  near = {m - k for m in (rest or meets) for k in range(shared + 1)}
  elsewhere = [i for i in range(change.shape[1]) if i + 1 not in near]
  at = change[:, [m - 1 for m in meets]]
  return dict(at=float(at.mean()), largest=float(at.max(axis=1).mean()),
              elsewhere=float(change[:, elsewhere].mean()))


def _image_to_video(args, reader) -> dict[str, Any]:
  """Part 2."""
  count = args.samples
  real, digits, directions = _real(count, args.num_frames)
  requests = requests_lib.number([
      requests_lib.Request(prompt=moving_digits.caption(d, w), image='given')
      for d, w in zip(digits, directions, strict=True)])
  pipeline = _load(args, args.rollout)
  given = [clip[:1] for clip in real]
  settings = [pipeline_lib.StageSettings(
      pipeline.stages[0].defaults.options, guidance_lib.Guidance(text=2.5))]
  plan = pipeline.plan(args.num_frames)
  output = cascade.run(pipeline, requests, settings, batch_size=_BATCH,
                       given=given, plan=plan)[0]
  written = np.stack(list(cascade.decode(pipeline, output, _BATCH)))
  drawn = dataclasses.replace(output, kept=[None] * count)
  decoded = np.stack(list(cascade.decode(pipeline, drawn, _BATCH)))
  return dict(
      samples=count,
      first_frame_psnr=_psnr(real[:, :1], decoded[:, :1]),
      first_frame_equal=bool((written[:, :1] == real[:, :1]).all()),
      reconstruction_psnr=_psnr(real[:, :1], np.concatenate([
          pipeline.codec.decode(pipeline.codec.encode(real[i:i + 1, :1]))
          for i in range(count)])),
      second_frame_psnr=_psnr(real[:, 1:2], decoded[:, 1:2]),
      first_to_second_psnr=_psnr(real[:, :1], real[:, 1:2]),
      rows=_read_stretches(reader, (written, digits, directions),
                           (real, digits, directions), plan.new_frames))


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Mean PSNR in dB of uint8 clips."""
  error = np.square(a.astype(np.float32) - b).mean(axis=(1, 2, 3, 4))
  return float((10 * np.log10(255**2 / np.maximum(error, 1e-4))).mean())


def table(results: dict[str, Any]) -> str:
  """The tables as Markdown."""
  share = lambda a: (f'{a["correct"]}/{a["total"]} = {a["accuracy"]:.1%} '
                     f'({a["low"]:.1%} to {a["high"]:.1%})')
  lines = ['| begun with | frames | digit | direction | reader on real clips |',
           '| --- | --- | --- | --- | --- |']
  for name, part in (('caption, label', 'over_time'),
                     ('caption, first frame', 'image')):
    for row in results[part]['rows']:
      real = row['real']
      lines.append(
          f'| {name} | {row["first"]} to {row["last"]} | '
          f'{share(row["digit"])} | {share(row["direction"])} | '
          f'{real["digit"]["accuracy"]:.1%}, '
          f'{real["direction"]["accuracy"]:.1%} |')
  lines += ['', '| change from frame to frame, of 255 | where windows meet | '
            'the largest of it | elsewhere |', '| --- | --- | --- | --- |']
  for name, row in results['over_time']['seams'].items():
    lines.append(f'| {name} | {row["at"]:.2f} | {row["largest"]:.2f} | '
                 f'{row["elsewhere"]:.2f} |')
  image = results['image']
  lines += [
      '', '| image to video | |', '| --- | --- |',
      f'| first frame in the file is the given one | '
      f'{image["first_frame_equal"]} |',
      f'| first frame as decoded | {image["first_frame_psnr"]:.2f} dB |',
      f'| the tokenizer alone | {image["reconstruction_psnr"]:.2f} dB |',
      f'| second frame, against the true one | '
      f'{image["second_frame_psnr"]:.2f} dB |',
      f'| the true first frame, against the second | '
      f'{image["first_to_second_psnr"]:.2f} dB |']
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  main()
