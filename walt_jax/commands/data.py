"""`walt data`: prepare videos, render the embedded data, inspect a data set."""
import argparse
from collections.abc import Callable
import functools
import logging
import pathlib
from typing import Any

import jax

from walt_jax.builders import text_encoders
from walt_jax.commands.flags import outputs
from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.core import json_text
from walt_jax.core import paths
from walt_jax.core import progress
from walt_jax.data import inspect
from walt_jax.data import latent_cache
from walt_jax.data import render
from walt_jax.data.prepare import accounts
from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import prepare
from walt_jax.data.sources import moving_digits
from walt_jax.data.sources import source as source_lib
from walt_jax.data.sources.stage_play import scenes
from walt_jax.data.sources.stage_play import source as stage_play
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.storage import shards
from walt_jax.media import samples
from walt_jax.parallel import distributed
from walt_jax.parallel import session
from walt_jax.text import limits

_TEST = 'test'  # The common name of a held-out split.
_CLIPS_PER_DEVICE = 8  # Encoded at once.
_FEW_CLIPS = 64  # A set up to this size is also written as files.


def run(args: argparse.Namespace) -> None:
  """Runs `walt data ACTION`."""
  actions = dict(prepare=_prepare, render=_render, inspect=_inspect)
  actions[args.action](args)


def _prepare(args: argparse.Namespace) -> None:
  if args.latents != (args.workdir is not None):
    raise errors.UserError('--latents and --workdir TOKENIZER go together')
  source, output = paths.path(args.input), paths.path(args.output)
  if paths.is_remote(source) and not args.latents:
    raise errors.UserError(
        f'--input {args.input}: raw files are read from this machine alone; '
        'mount the bucket (gcsfuse) or copy the folder (gcloud storage cp -r) '
        'and give that; --output may lie in a bucket')
  if args.latents and (source / manifest_lib.MANIFEST).exists():
    _write_latents(source, output, args)
    return
  if distributed.is_joined() or args.process:
    raise errors.UserError(
        f'--input {args.input} holds no prepared data (no '
        f'{manifest_lib.MANIFEST}): prepare it on one machine first, and then '
        'cache its latents on several')
  if paths.is_remote(source):
    raise errors.UserError(
        f'--input {args.input} holds no prepared data (no '
        f'{manifest_lib.MANIFEST}), and raw files are read from this machine '
        'alone: prepare a local copy first')
  given = dict(
      size=args.size, fps=args.fps, num_shards=args.num_shards,
      min_frames=args.num_frames, clip_frames=args.clip_frames,
      clip_stride=args.clip_stride, codec=args.codec, quality=args.quality,
      heldout=args.heldout)
  settings = prepare.Settings(
      **{name: value for name, value in given.items() if value is not None})
  manifest = _replacing(output, args, lambda: prepare.prepare(
      source, output, settings, annotations=_annotations(args),
      split_folders=args.split_folders,
      limit=text_encoders.default_caption_limit(
          args.text, args.text_path, args.max_tokens),
      on=prepare.Engine(
          args.workers, args.beam_pipeline_options)))
  counts = manifest['counts']
  print(f'{output}: {counts["clips"]} clips of {counts["used"]} files in '
        f'{len(manifest["classes"])} classes; {counts["rejected"]} files '
        f'rejected, {counts["missing"]} named but missing, '
        f'{counts["damaged"]} used in part, {counts.get("with_cuts", 0)} cut '
        f'where time jumps, {counts.get("deinterlaced", 0)} deinterlaced '
        f'(see {output / manifest_lib.MANIFEST})')
  _tell_captions(manifest, output)
  frames = manifest.get('frame_folders', {})  # Sets of 0.1.0 have none.
  if frames.get('count'):
    print(f'{frames["count"]} of the files are folders of numbered images, '
          f'taken as clips of {frames["fps"]:g} frames/s'
          + ('' if args.fps else ' (--fps gives another rate; --num_frames 1 '
             'takes single images)'))
  if args.latents:
    _write_latents(output, output / 'latents', args)


def _replacing(output: pathlib.Path, args: argparse.Namespace,
               write: Callable[[], Any]) -> Any:
  """Writes a set, in place of one of other settings if `--overwrite` says so.
  """
  try:
    return write()
  except shards.OtherSet as error:
    if not args.overwrite:
      raise errors.UserError(f'{error}, or add --overwrite') from None
  if not distributed.is_joined() and getattr(args, 'process', None):
    raise errors.UserError(
        f'--overwrite with --process: which of them would remove what is in '
        f'{output}? Remove it first')
  if jax.process_index() == 0:
    shards.remove(output)
    samples.remove_set(output)  # Of rendered sets, clips to look at.
  if distributed.is_joined():
    distributed.meet('the removal of the older set')
  return write()


def _tell_captions(manifest: dict, output: pathlib.Path) -> None:
  """Warns of clips without a caption, and of captions that are cut.

  Args:
    manifest: That of the data set.
    output: Folder of the data set.
  """
  counts = manifest.get('captions', {})
  if counts.get('matched_by_end'):
    print(f'{counts["matched_by_end"]} lines of tables name no file as it '
          'stands and were matched by the end of its path')
  log = logging.getLogger('walt_jax')
  clips = sum(split['num_examples'] for split in manifest['splits'].values())
  if counts.get('captions') == 0 and 'inputs' in manifest:
    lines = (output / accounts.LIST).read_text().splitlines()
    beside = [line['file'] for line in map(json_text.loads, lines)
              if line['outcome'] == 'annotations']
    if beside:
      log.warning('None of %d clips has a caption: %s gives none%s.', clips,
                  beside[0], f', nor do {len(beside) - 1} more files'
                  if beside[1:] else '')
  elif counts.get('captions') and counts['clips_without']:
    log.warning('%d of %d clips have no caption.', counts['clips_without'],
                clips)
  if counts.get('cut'):
    limit = manifest['caption_limit']
    log.warning('%s (%s, --max_tokens %d).', limits.describe(
        counts['cut'], counts['captions'], limit['max_tokens'], 'captions'),
                limit['encoder'], limit['max_tokens'])


def _annotations(args: argparse.Namespace):
  """Reads what --annotations names; None leaves it to the input folder."""
  if args.annotations is None:
    return None
  return annotations.read([fetched.local(path) for path in args.annotations],
                          args.ucf_split)


def _write_latents(dataset: pathlib.Path, output: pathlib.Path,
                   args: argparse.Namespace) -> None:
  """Caches the latents of all splits of a prepared dataset."""
  processes = _processes(args)
  session.say('data prepare')
  manifest = manifest_lib.read_manifest(dataset)
  splits = {split: dataset_lib.PreparedDataset(dataset, split)
            for split, entry in manifest['splits'].items()
            if entry['num_examples']}
  text = '' if args.text in (None, 'none') else args.text
  frozen = text_encoders.load(
      args.workdir, text, args.text_path, args.max_tokens,
      allow_code=args.allow_code)
  settings = latent_cache.CacheSettings(
      tokenizer_sha256=frozen.sha256, text_sha256=frozen.text_sha256,
      num_frames=args.num_frames or _stored(manifest, 'num_frames',
                                            'min_frames'),
      size=_cache_size(args, manifest), fps=args.fps,
      low_res_factor=args.low_res_factor,
      images_per_clip=args.images_per_clip)
  written = _replacing(output, args, lambda: latent_cache.write_cache(
      splits, output, settings, encode=frozen.encode,
      text=frozen.text, source_sha256=manifest['task_sha256'],
      batch_size=_CLIPS_PER_DEVICE * frozen.num_devices, processes=processes))
  if written is None:
    print(f'{output}: process {processes.number} of {processes.count} has done '
          'its part')
    return
  if processes.number:
    return  # It was finished already, as the first process says.
  if text:
    _tell_captions(written, output)
  left_out = sum(map(len, written['left_out'].values()))
  print(f'{output}: latents of {sum(map(len, splits.values())) - left_out} '
        f'clips by tokenizer {frozen.sha256[:12]}; {left_out} clips were too '
        'short')


def _processes(args: argparse.Namespace) -> latent_cache.Processes:
  """Those that share the work, joined or not."""
  if distributed.is_joined():
    number, count = jax.process_index(), jax.process_count()
  else:
    number, count = args.process or (0, 1)
  return latent_cache.Processes(
      number, count, args.host_timeout, args.start_timeout,
      functools.partial(distributed.meet, 'the latent cache'))


def _stored(manifest: dict, *names: str) -> int:
  """The first of some settings that the dataset was made with."""
  settings = manifest['settings']
  return next(settings[name] for name in names if name in settings)


def _cache_size(args: argparse.Namespace, manifest: dict) -> tuple[int, int]:
  if (args.height is None) != (args.width is None):
    raise errors.UserError('--height and --width go together')
  if args.height is not None:
    height, width = args.height, args.width
  else:
    height = width = args.size or _stored(manifest, 'size')
  factor = args.low_res_factor
  if factor and (height % factor or width % factor):
    raise errors.UserError(f'--low_res_factor {factor} does not divide clips '
                           f'of {height}x{width} pixels')
  return height, width


def _render(args: argparse.Namespace) -> None:
  """Writes clips of a world as a dataset and, if wanted, to look at."""
  split = 'heldout' if args.split == _TEST else args.split
  wanted = {split: args.num}
  if args.heldout:
    if split == 'heldout':
      raise errors.UserError('--heldout adds to another split: drop it, or '
                             'choose --split train')
    wanted['heldout'] = args.heldout
  try:
    splits = {name: _world(args, name, count)
              for name, count in wanted.items()}
  except ValueError as error:
    raise errors.UserError(str(error)) from error
  source = splits[split]
  settings = dict(name=args.name, size=args.size,
                  num_frames=args.num_frames, difficulty=source.difficulty,
                  seed=source.seed)
  if isinstance(source, moving_digits.MovingDigits):
    settings['labels'] = source.labels
  else:
    settings['version'] = scenes.VERSION
  output = paths.path(args.output)
  _replacing(output, args, lambda: render.write_sources(
      splits, output, dict(settings=settings)))
  shown = args.clips
  if shown is None:
    shown = args.num if split == 'heldout' or args.num <= _FEW_CLIPS else 0
  shown = min(shown, args.num)
  if shown:
    _write_clips(source, output, shown, settings | dict(split=split))
  counts = ', '.join(f'{name} {count}' for name, count in wanted.items())
  beside = f'; {shown} of them also as files' if shown else ''
  what = args.name.replace('_', ' ')
  print(f'{output}: clips of {what} ({counts}{beside})')


def _world(args: argparse.Namespace, split: str, count: int
           ) -> moving_digits.MovingDigits | stage_play.StagePlay:
  """One split of what `walt data render` is asked for."""
  if args.name == 'moving_digits':
    return moving_digits.MovingDigits(
        split=split, num_examples=count, size=args.size,
        num_frames=args.num_frames, difficulty=args.difficulty or 'quick',
        labels=args.labels or 'digit_direction', seed=args.seed)
  if args.labels:
    raise errors.UserError(
        f'--labels {args.labels} is of moving digits; labels of {args.name} '
        'name actor and action; leave it out')
  return stage_play.StagePlay(
      split=split, num_examples=count, height=args.size, width=args.size,
      num_frames=args.num_frames, difficulty=args.difficulty or 'solo',
      seed=args.seed)


def _write_clips(source: source_lib.Source, output: pathlib.Path, count: int,
                 settings: dict) -> None:
  """Writes the first clips of a source as files, with `samples.json`."""
  fps = source[0]['fps']
  writer = samples.SampleWriter(output, fps=fps, kind='real')
  for index in progress.track(range(count), 'write clips', 'clip'):
    example = source[index]
    writer.add(samples.Entry(
        stem=f'{index:05d}', caption=example['caption'],
        label=source.classes[example['label']], index=index), example['video'])
  writer.finish(settings=settings)


def _inspect(args: argparse.Namespace) -> None:
  for line in inspect.inspect(
      paths.path(args.path), paths.path(args.out) if args.out else None,
      args.clips, made_by=outputs.made_by(args)):
    print(line)
