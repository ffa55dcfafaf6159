"""`walt evaluate`: scores clips and writes one JSON result."""
import argparse
from collections.abc import Callable, Iterator
import json
import os
import pathlib
import sys
from typing import Any
import warnings

import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.evaluation import sets
from walt_jax.metrics import protocols

_HELD_OUT_CLIPS = 320  # Real clips on which the readers show what they can.
_SAME = ('metric', 'frames', 'network', 'preprocessing', 'covariance', 'root',
         'protocol', 'real_content', 'given_frames', 'num_splits',
         'split_size')
_COUNTED = ('fvd', 'fid', 'is')  # Scores that depend on how many clips.


def run(args: argparse.Namespace) -> None:
  """Runs `walt evaluate METRIC` and writes its result to `args.json`."""
  if args.metric == 'compare':
    result = compare(*args.files)
  else:
    protocols.get(args.protocol)
    if args.json:
      _check_writable(args.json)
    with warnings.catch_warnings():
      warnings.simplefilter('always')
      warnings.showwarning = _show_warning
      result = _METRICS[args.metric](args)
  if not sets.is_main():
    return
  if args.json:
    write_result(args.json, result)
  _print(result)


def write_result(path: str | os.PathLike, result: dict[str, Any]):
  """Writes a result as JSON, whole or not at all."""
  files.write_text(path, json.dumps(result, indent=1, allow_nan=False) + '\n')


def compare(first: str, second: str) -> dict[str, Any]:
  """Compares two results measured the same way.

  Raises:
    errors.UserError: They are not.
  """
  a, b = _read_result(first), _read_result(second)
  for name in _SAME:
    if _identity(a.get(name)) != _identity(b.get(name)):
      raise errors.UserError(
          f'{first} and {second} may not be compared: {name} is '
          f'{_short(a.get(name))} in one and {_short(b.get(name))} in the '
          'other; evaluate both the same way')
  for name in ('num_real', 'num_generated'):
    counted = str(a.get('metric')).split('-', 1)[0] in _COUNTED
    if counted and a.get(name) != b.get(name):
      raise errors.UserError(
          f'{first} and {second} may not be compared: {name} is {a.get(name)} '
          f'and {b.get(name)}, and {a["metric"]} depends on the number of '
          'clips')
  return dict(metric=a['metric'], values=[a['value'], b['value']],
              value=b['value'] - a['value'], protocol=a.get('protocol'),
              files=[str(first), str(second)])


def _reconstruction(args: argparse.Namespace) -> dict[str, Any]:
  from walt_jax.metrics import fvd
  from walt_jax.metrics import reconstruction
  from walt_jax.metrics import video_features
  from walt_jax.pretrained import i3d
  real: Any = sets.open_clips(args, 'real')
  other: Any
  result: dict[str, Any] = {}
  if args.workdir:
    from walt_jax.builders import tokenizers
    if len(args.workdir) != 1:
      raise errors.UserError('reconstruction takes one --workdir, got '
                             f'{",".join(args.workdir)}')
    tokenizer = tokenizers.load_tokenizer(args.workdir[0])
    other = list(reconstructions(tokenizer, real, args.batch_size or 8))
    result['tokenizer_sha256'] = tokenizer.sha256
    real = [clip[:len(o)] for clip, o in zip(real, other, strict=True)]
  else:
    other = sets.open_clips(args, 'generated')
    if len(other) != len(real):
      raise errors.UserError(
          f'--real holds {len(real)} clips and --generated {len(other)}; they '
          'are compared in order and must be as many')
    if other[0].shape != real[0].shape:
      raise errors.UserError(
          f'--real has clips of {sets.size_of(real[0])} and '
          f'--generated of {sets.size_of(other[0])}; they must be '
          'equal')
  pairs = reconstruction.load_network()
  result |= reconstruction.summary(real, other, pairs)
  rfvd = None
  frames = video_features.scored_frames(len(real[0]))
  if frames >= i3d.MIN_FRAMES:
    network = video_features.load_network(
        args.network, **sets.video_form(args))
    rfvd = fvd.compare(
        *(fvd.feature_set(clips, network, label=name)
          for name, clips in (('real', real), ('reconstructed', other))))
  # The result's own network is that of the perceptual distance.
  return dict(
      metric='reconstruction', value=result['psnr'],
      values=[result['psnr']], num_real=len(real), num_generated=len(other),
      frames=len(real[0]), network=result.pop('perceptual_network'),
      preprocessing='none', covariance=None, protocol=args.protocol,
      comparable_to=[], rfvd=rfvd, **result)


def reconstructions(tokenizer: Any, clips, batch_size: int = 8
                    ) -> Iterator[np.ndarray]:
  """Encodes and decodes uint8 clips [T, H, W, 3] by a `frozen.Tokenizer`.

  The posterior's mean is decoded. Clips whose length is not 1 + a multiple
  of f_t lose their last frames. The last batch is padded, so that all have
  one shape.
  """
  import jax

  from walt_jax.core import pixels as pixels_lib
  from walt_jax.tokenizer import inference
  from walt_jax.tokenizer import statistics as statistics_lib
  module = tokenizer.module

  @jax.jit
  def reconstruct(params, statistics, pixels):
    posterior = inference.encode_posterior(module, params, pixels)
    latents = statistics_lib.normalise(posterior.mean, statistics)
    return pixels_lib.to_uint8(
        inference.decode_pixels(module, params, statistics, latents))

  def finish(batch):
    pixels = np.stack(batch + [batch[-1]] * (batch_size - len(batch)))
    done = reconstruct(tokenizer.params, tokenizer.statistics, pixels)
    return np.asarray(done)[:len(batch)]

  batch: list[np.ndarray] = []
  for clip in clips:
    usable = 1 + (len(clip) - 1) // module.f_t * module.f_t
    batch.append(clip[:usable])
    if len(batch) == batch_size:
      yield from finish(batch)
      batch = []
  if batch:
    yield from finish(batch)


def _control(args: argparse.Namespace) -> dict[str, Any]:
  from walt_jax.data.sources import moving_digits
  from walt_jax.evaluation import digit_reader
  generated = sets.open_clips(args, 'generated')
  digits, directions = [], []
  if not generated.entries:
    raise errors.UserError(
        f'{generated.path} has no samples.json, so nothing says what was '
        'asked for; give a folder written by walt sample')
  for entry in generated.entries:
    # A caption says more than the name of a class may.
    asked = entry.caption or entry.label or ''
    try:
      digit, direction = moving_digits.parse_name(asked)
    except ValueError:
      raise errors.UserError(
          f'sample {entry.stem} of {generated.path} was asked to show '
          f'{asked!r}, which names no moving digit'
      ) from None
    digits.append(digit)
    directions.append(direction)
  clips = generated.stack()
  if clips.shape[2] != clips.shape[3] or clips.shape[2] % 32:
    raise errors.UserError(
        f'{generated.path} has frames of {sets.size_of(clips[0])}; '
        'the readers need squares of a multiple of 32 pixels')
  reader = digit_reader.train_reader()
  result = digit_reader.score(reader.read(clips), digits, directions)
  tokenizer = _tokenizer_of(generated)
  readers = digit_reader.reader_accuracy(
      reader, size=clips.shape[2], num_frames=clips.shape[1],
      count=_HELD_OUT_CLIPS,
      reconstruct=None if tokenizer is None else _reconstruct_fn(tokenizer))
  return dict(
      metric='control', value=result['digit']['accuracy'],
      values=[result['digit']['accuracy']], num_real=_HELD_OUT_CLIPS,
      num_generated=len(clips), frames=clips.shape[1],
      network=dict(name='moving-digits-readers', source='trained here',
                   sha256=''), preprocessing='none', covariance=None,
      protocol=args.protocol, comparable_to=[], readers=readers, **result)


def _reconstruct_fn(tokenizer: Any) -> Callable[[np.ndarray], np.ndarray]:
  return lambda clips: np.stack(list(reconstructions(tokenizer, clips)))


def _tokenizer_of(generated) -> Any:
  """The tokenizer that decoded the samples, if it is still there."""
  if not generated.stages:
    return None
  workdir = pathlib.Path(generated.stages[0].workdir)
  if not workdir.is_dir():
    return None
  from walt_jax.builders import tokenizers
  return tokenizers.load_tokenizer(str(workdir))


def _scores(args: argparse.Namespace) -> dict[str, Any]:
  """FVD, FID or IS: of sets, of a checkpoint, or of all to come."""
  if not args.workdir:
    if args.follow:
      raise errors.UserError('--follow needs the --workdir of a training run')
    return sets.score(args)
  if args.follow:
    from walt_jax.evaluation import follow
    return follow.follow(args)
  from walt_jax.evaluation import checkpoint
  return checkpoint.score(args)


_METRICS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    'fvd': _scores, 'fid': _scores, 'is': _scores,
    'reconstruction': _reconstruction, 'control': _control}


def _check_writable(path: str):
  folder = pathlib.Path(path).resolve().parent
  if not folder.is_dir() or not os.access(folder, os.W_OK):
    raise errors.UserError(
        f'cannot write --json {path}: no such folder, or not writable')


def _read_result(path: str) -> dict[str, Any]:
  try:
    result = json.loads(pathlib.Path(path).read_text())
    result['metric'], result['value']  # Both must be there.
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise errors.UserError(
        f'{path} is not a result of walt evaluate '
        f'({type(error).__name__})') from None
  return result


def _identity(value: Any) -> Any:
  """A network is the same wherever its weights came from."""
  if isinstance(value, dict):
    return {name: value.get(name) for name in ('name', 'sha256')}
  return value


def _short(value: Any) -> str:
  if isinstance(value, dict):
    return ' '.join(filter(None, (
        value.get('name'), str(value.get('sha256') or '')[:12])))
  return str(value)


def _show_warning(message, category, filename, lineno, file=None, line=None):
  del category, filename, lineno, file, line
  print(f'walt: warning: {message}', file=sys.stderr)


def _print(result: dict[str, Any]):
  numbers = {name: value for name, value in result.items()
             if isinstance(value, float)}
  print(result['metric'], ' '.join(
      f'{name} {value:.4g}' for name, value in numbers.items()))
