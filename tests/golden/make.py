"""Makes the golden runs: what the `walt` of today leaves, for that of tomorrow.

  python tests/golden/make.py            all of `files/`, and `expected.json`
  python tests/golden/make.py --numbers  `expected.json` alone, in minutes

`files/` holds a tokenizer with a discriminator, a base denoiser trained by
Muon on a latent cache, a super-resolution stage trained by Adafactor on
prepared clips, an export of the base, samples and a score: all in tiny shapes,
all made by the `walt` command. `USES` says what is done with them later, and
`expected.json` what came of it; tests/e2e/golden_test.py does it again.

Files made by later code would prove nothing of earlier files: they are made
anew only where earlier ones are given up on purpose. `--numbers` is for a new
version of JAX, whose sums round otherwise, at a commit that passes with the
version before.
"""
import argparse
from collections.abc import Callable, Sequence
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import av
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FILES = HERE / 'files'
EXPECTED = HERE / 'expected.json'
CONFIG = HERE / 'config.py'

# Runs a command and returns what it printed; raises unless it exits with 0.
Walt = Callable[..., str]
# use(walt, files, scratch): runs commands on a copy of the golden files, which
# it may change, and returns what came of it, as JSON holds it.
Use = Callable[[Walt, pathlib.Path, pathlib.Path], Any]

_STAGES = ('tokenizer', 'base', 'sr')
_SAVED_STEP, _LAST_STEP = 2, 4
_CLIPS_PER_CLASS = 8
_COLOURS = dict(red=(220, 40, 40), green=(40, 200, 60), blue=(50, 60, 230))
_REQUESTS = (
    dict(prompt='a red square goes right', label='right'),
    dict(prompt='a blue square goes left', seed=7), dict(label='left'))


def walt(*argv: Any, cwd: pathlib.Path = ROOT) -> str:
  """Runs `walt ARGV` in a process of its own, on one device."""
  environment = os.environ | dict(
      PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu', XLA_FLAGS='')
  environment.setdefault(
      'JAX_COMPILATION_CACHE_DIR', str(ROOT / '.cache' / 'jax'))
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
  print('walt', *argv, flush=True)
  return subprocess.run(
      [sys.executable, '-m', 'walt_jax', *map(str, argv)], cwd=cwd,
      env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_files(files: pathlib.Path) -> None:
  """Makes all golden files in a new folder.

  Paths are given relative to it, so that no config names this machine.
  """
  files.mkdir()
  run = lambda *argv: walt(*argv, cwd=files)
  train = lambda stage: run(
      'train', '--config', f'{CONFIG}:{stage}', '--workdir', stage)
  with tempfile.TemporaryDirectory() as folder:
    _write_videos(pathlib.Path(folder))
    run('data', 'prepare', '--input', folder, '--output', 'prepared',
        '--num_frames', 5, '--size', 32, '--codec', 'png', '--num_shards', 1,
        '--heldout', 0.25, '--workers', 1)
  train('tokenizer')
  run('data', 'prepare', '--latents', '--workdir', 'tokenizer', '--input',
      'prepared', '--output', 'cache', '--num_frames', 5, '--height', 16,
      '--width', 16, '--images_per_clip', 2, '--text', 'minilm',
      '--max_tokens', 8)
  train('base')
  train('sr')
  run('export', '--workdir', 'base', '--out', 'export')
  _write_requests(files / 'requests.jsonl')
  for workdirs, out, argv in (
      ('base,sr', 'samples', _CASCADE),
      ('base', 'samples_factorized', _FACTORIZED)):
    run('sample', '--workdir', workdirs, '--out', out, '--requests',
        'requests.jsonl', '--all_stages', *argv)
  run('evaluate', 'reconstruction', '--workdir', 'tokenizer', '--real',
      'prepared:heldout:16x16', '--json', 'reconstruction.json')
  for path in files.glob('*/tensorboard'):
    shutil.rmtree(path)
  for path in (*files.rglob('*.png'), *files.rglob('*.mp4')):
    path.unlink()  # To look at; nothing reads them.


def _write_videos(folder: pathlib.Path) -> None:
  """Lossless clips of squares that move, in folders of their classes."""
  lines = [dict(file='left/broken.mkv', label='left', caption='nothing')]
  for name, direction in (('left', -1), ('right', 1)):
    (folder / name).mkdir()
    for number in range(_CLIPS_PER_CLASS):
      colour = list(_COLOURS)[number % len(_COLOURS)]
      file = f'{name}/{number}.mkv'
      _write_video(
          folder / file, _square(number, direction, _COLOURS[colour]))
      lines.append(dict(file=file, label=name,
                        caption=f'a {colour} square goes {name}'))
  (folder / 'left' / 'broken.mkv').write_text('no video')
  (folder / 'captions.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines))


def _square(number: int, direction: int, colour: tuple[int, int, int]
            ) -> np.ndarray:
  """A clip of 6 or 7 frames of 32 x 40 pixels."""
  clip = np.full((6 + number % 2, 32, 40, 3), 20 * number, np.uint8)
  for time, frame in enumerate(clip):
    left = 14 + direction * 2 * time
    frame[2 * number:2 * number + 12, left:left + 12] = colour
  return clip


def _write_video(path: pathlib.Path, clip: np.ndarray) -> None:
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('ffv1', rate=8)
    stream.height, stream.width = clip.shape[1:3]
    stream.pix_fmt = 'bgr0'
    stream.codec_context.thread_count = 1  # As in `tests.data.video_files`.
    for image in clip:
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _write_requests(path: pathlib.Path) -> None:
  path.write_text(''.join(json.dumps(line) + '\n' for line in _REQUESTS))


_SAMPLING = ('--seed', 3, '--steps', 2)
_BASE = (*_SAMPLING, '--guidance', 'text=3,label=2')
_CASCADE = (*_SAMPLING, '--guidance', 'text=3,label=2;none',
            '--noise_level', 0.2)
_FACTORIZED = (*_BASE, '--factorized')


def _begin(stage: str) -> Use:
  """The losses of a run begun anew: those of the golden run, and an end."""
  def use(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
    return _train(walt_, files, stage, scratch / stage, _SAVED_STEP)
  return use


def _resume(stage: str) -> Use:
  """The metrics of the golden run, trained on in place."""
  def use(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
    del scratch
    return _train(walt_, files, stage, files / stage, _LAST_STEP,
                  'train.eval_every=4', 'train.eval_samples=0')
  return use


def _train(walt_: Walt, files: pathlib.Path, stage: str,
           workdir: pathlib.Path, num_steps: int, *values: str
           ) -> list[dict[str, float]]:
  """Trains to this step and returns all lines of metrics."""
  # A run that is there has its own copy of the tokenizer.
  tokenizer = '' if workdir.exists() else files / 'tokenizer'
  paths = {
      'tokenizer': (),
      'base': (f'data.path={files}/cache', f'tokenizer.workdir={tokenizer}'),
      'sr': (f'data.path={files}/prepared', f'tokenizer.workdir={tokenizer}')}
  was_there = workdir.exists()
  out = walt_(
      'train', '--config', f'{CONFIG}:{stage}', '--workdir', workdir,
      *(f'--config.{value}' for value in (
          *paths[stage], f'train.num_steps={num_steps}', *values)))
  assert (f'resumed at step {_SAVED_STEP}' in out) == was_there, out
  # Timings, which no two runs have equal, are left out.
  return [{name: value for name, value in json.loads(line).items()
           if not name.startswith(('perf/', 'train/mfu'))}
          for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def _sample(workdirs: Sequence[str], golden: str, *argv: Any) -> Use:
  """What the lossless clips hold, by file.

  Args:
    workdirs: Of the stages.
    golden: The golden clip of each file, with `{}` for its stem.
    *argv: More flags.
  """
  def use(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
    _write_requests(scratch / 'requests.jsonl')
    walt_('sample', '--workdir', ','.join(str(files / w) for w in workdirs),
          '--out', scratch / 'samples', '--requests',
          scratch / 'requests.jsonl', '--all_stages', *argv)
    return {path.name: _compared(
        np.load(path), np.load(files / golden.format(path.stem)))
            for path in sorted((scratch / 'samples').glob('*.npy'))}
  return use


def _compared(clip: np.ndarray, golden: np.ndarray) -> dict[str, Any]:
  """A clip's digest, and how far a pixel of it is from the golden one."""
  return dict(
      shape=list(clip.shape), mean=float(clip.mean()),
      sha256=hashlib.sha256(clip.tobytes()).hexdigest(),
      largest_difference=int(np.abs(clip.astype(int) - golden).max()))


def _reconstruction(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
  """The score, and what `compare` says of the golden one and it."""
  real, score = f'{files}/prepared:heldout:16x16', scratch / 'score.json'
  walt_('evaluate', 'reconstruction', '--workdir', files / 'tokenizer',
        '--real', real, '--json', score)
  compared = scratch / 'compared.json'
  walt_('evaluate', 'compare', files / 'reconstruction.json', score,
        '--json', compared)
  return (json.loads(score.read_text()),
          json.loads(compared.read_text())['value'])


def _fid(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
  """FID of first frames; the network stands in for Inception."""
  score = scratch / 'score.json'
  walt_('evaluate', 'fid', '--workdir', files / 'base', '--real',
        f'{files}/prepared:train:16x16', '--frames', 1, '--num_samples', 8,
        '--steps', 2, '--json', score)
  return {name: value for name, value in json.loads(score.read_text()).items()
          if name in ('metric', 'value', 'num_real', 'num_generated')}


def _inspect(name: str) -> Use:
  """What is printed of a data set."""
  def use(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
    out = walt_('data', 'inspect', files / name, '--out',
                scratch / 'sheet.png')
    return out.replace(str(files), 'FILES').replace(
        str(scratch), 'SCRATCH').splitlines()
  return use


def _export(name: str) -> Use:
  """The files of an export, by digest; its config as it is."""
  def use(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
    out = scratch / 'export'
    walt_('export', '--workdir', files / name, '--out', out)
    return {str(path.relative_to(out)): (
        json.loads(path.read_text()) if path.suffix == '.json'
        else hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(out.rglob('*.*'))}
  return use


def _report(walt_: Walt, files: pathlib.Path, scratch: pathlib.Path):
  """Whether the page shows each run, the score and a caption."""
  page = scratch / 'report.html'
  walt_('report', files, '--out', page)
  text = page.read_text()
  return {name: name in text for name in (
      *_STAGES, 'train/loss', 'reconstruction', 'a red square goes right')}


USES: dict[str, Use] = {
    **{f'begin_{stage}': _begin(stage) for stage in _STAGES},
    **{f'resume_{stage}': _resume(stage) for stage in _STAGES},
    'sample_cascade': _sample(('base', 'sr'), 'samples/{}.npy', *_CASCADE),
    'sample_export': _sample(('export',), 'samples/{}.base.npy', *_BASE),
    'sample_factorized': _sample(
        ('base',), 'samples_factorized/{}.npy', *_FACTORIZED),
    'evaluate_reconstruction': _reconstruction,
    'evaluate_fid': _fid,
    'inspect_prepared': _inspect('prepared'),
    'inspect_cache': _inspect('cache'),
    'export_tokenizer': _export('tokenizer'),
    'export_base': _export('base'),
    'report': _report,
}


def machine() -> dict[str, str]:
  """What the last bit of a sum depends on: the compiler and the processor."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  cpu = sorted({line for line in lines
                if line.startswith(('model name', 'flags', 'Features'))})
  return dict(jaxlib=importlib.metadata.version('jaxlib'), cpu=hashlib.sha256(
      '\n'.join(cpu or [platform.platform()]).encode()).hexdigest())


def use_copy(name: str, walt_: Walt = walt) -> Any:
  """Does what `USES` names on a copy of the golden files."""
  with tempfile.TemporaryDirectory() as folder:
    files, scratch = (pathlib.Path(folder) / n for n in ('files', 'scratch'))
    shutil.copytree(FILES, files)
    scratch.mkdir()
    # Tuples become lists, as they are read.
    return json.loads(json.dumps(USES[name](walt_, files, scratch)))


def main() -> None:
  """Makes the files, unless only the numbers are wanted, and uses them."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--numbers', action='store_true',
                      help='leave the files, write expected.json alone')
  if not parser.parse_args().numbers:
    if FILES.exists():
      raise SystemExit(f'{FILES} is there; delete it first if it is given up')
    with tempfile.TemporaryDirectory() as folder:
      make_files(pathlib.Path(folder) / 'files')
      shutil.copytree(pathlib.Path(folder) / 'files', FILES)
  EXPECTED.write_text(json.dumps(
      dict(machine=machine(), uses={name: use_copy(name) for name in USES}),
      indent=1) + '\n')


if __name__ == '__main__':
  main()
