"""`walt data`: prepare videos, render the embedded data, inspect a data set."""
import argparse
import pathlib

from walt_jax import errors, progress
from walt_jax.data import prepare, sources

_TEST = 'test'  # The common name of a held-out split.


def run(args: argparse.Namespace) -> None:
  """Runs `walt data ACTION`."""
  actions = dict(prepare=_prepare, render=_render, inspect=_inspect)
  actions[args.action](args)


def _prepare(args: argparse.Namespace) -> None:
  if args.latents != (args.workdir is not None):
    raise errors.UserError('--latents and --workdir TOKENIZER go together')
  source, output = pathlib.Path(args.input), pathlib.Path(args.output)
  if args.latents and (source / sources.MANIFEST).exists():
    _write_latents(source, output, args)
    return
  given = dict(size=args.size, fps=args.fps, num_shards=args.num_shards,
               min_frames=args.num_frames)
  settings = prepare.Settings(
      **{name: value for name, value in given.items() if value is not None})
  manifest = prepare.prepare(source, output, settings,
                             workers=args.workers or 1)
  counts = manifest['counts']
  print(f'{output}: {counts["clips"]} clips of {counts["used"]} files in '
        f'{len(manifest["classes"])} classes; {counts["rejected"]} files '
        f'rejected (see {output / sources.MANIFEST})')
  if args.latents:
    _write_latents(output, output / 'latents', args)


def _write_latents(dataset: pathlib.Path, output: pathlib.Path,
                   args: argparse.Namespace) -> None:
  """Caches the latents of a prepared dataset."""
  from walt_jax import builders
  from walt_jax.data import latent_cache
  manifest = sources.read_manifest(dataset)
  frozen = builders.load_frozen_encode(args.workdir)
  splits = {split: sources.PreparedDataset(dataset, split)
            for split, entry in manifest['splits'].items()
            if entry['num_examples']}
  settings = latent_cache.CacheSettings(
      tokenizer_sha256=frozen.sha256, text_sha256=frozen.text_sha256,
      num_frames=args.num_frames or prepare.Settings.min_frames,
      size=args.size or manifest['settings']['size'])
  latent_cache.write_cache(
      splits, output, settings, encode=frozen.encode,
      embed_text=frozen.embed_text, source_sha256=manifest['task_sha256'])
  print(f'{output}: latents of {sum(map(len, splits.values()))} clips by '
        f'tokenizer {frozen.sha256[:12]}')


def _render(args: argparse.Namespace) -> None:
  """Writes clips of moving digits, as files and as a dataset."""
  from walt_jax.data import moving_digits
  from walt_jax.media import samples
  split = 'heldout' if args.split == _TEST else args.split
  try:
    source = moving_digits.MovingDigits(
        split=split, num_examples=args.num, size=args.size,
        num_frames=args.num_frames, difficulty=args.difficulty or 'quick')
  except ValueError as error:
    raise errors.UserError(str(error)) from error
  output = pathlib.Path(args.output)
  settings = dict(name='moving_digits', split=split, num=args.num,
                  size=args.size, num_frames=args.num_frames,
                  difficulty=source.difficulty, labels=source.labels,
                  seed=source.seed)
  prepare.write_source(source, output, split, dict(settings=settings))
  writer = samples.SampleWriter(output, fps=moving_digits.FPS, kind='real')
  for index in progress.track(range(len(source)), 'write clips', 'clip'):
    example = source[index]
    writer.add(samples.Entry(
        stem=f'{index:05d}', caption=example['caption'],
        label=source.classes[example['label']], index=index), example['video'])
  writer.finish(settings=settings)
  print(f'{output}: {len(source)} clips of moving digits ({split})')


def _inspect(args: argparse.Namespace) -> None:
  from walt_jax.data import inspect
  inspect.inspect(pathlib.Path(args.path))
