"""What a dataset or a latent cache holds: figures to read, and a picture."""
from collections.abc import Iterator
import pathlib
import re

import numpy as np

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import made_by as made_by_lib
from walt_jax.data import latent_cache
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.media import contact_sheet
from walt_jax.media import video

_SHEET = 'contact_sheet.png'
_BINS = 8
_BAR = 40  # Characters of the longest bar.
_MOST_CLASSES = 20  # Listed, most and least frequent.
_MOST_REASONS = 8
_SIDE = 96  # Pixels of a frame on the sheet.
_NUMBER = re.compile(r'\b[0-9]+([.][0-9]+)?\b')  # Reasons of one kind.
_SAMPLE = 256  # Latents looked at.


def inspect(path: pathlib.Path, out: pathlib.Path | None = None,
            num_clips: int = 16, *,
            made_by: made_by_lib.MadeBy | None = None) -> list[str]:
  """Describes a set, and draws a contact sheet of a dataset.

  Args:
    path: Folder of a dataset or of a latent cache.
    out: The sheet's file; default `path`/contact_sheet.png.
    num_clips: Number of clips on the sheet.
    made_by: What the sheet says of how it came to be, or None.

  Returns:
    Lines of text.

  Raises:
    errors.UserError: `path` holds neither, or cannot be written to.
  """
  manifest = manifest_lib.read_manifest(path)
  if manifest['format'] == latent_cache.FORMAT:
    return list(_describe_latents(path, manifest))
  lines = list(_describe(path, manifest))
  out = path / _SHEET if out is None else out
  sheet = video.encode_png(_sheet(path, manifest, num_clips))
  try:
    files.write_bytes(out, made_by.in_png(sheet) if made_by else sheet)
  except errors.UserError as error:
    raise errors.UserError(
        f'{error}, or choose another place with --out FILE.png') from error
  return [*lines, f'contact sheet: {out}']


def _describe(path: pathlib.Path, manifest: dict) -> Iterator[str]:
  """Lines about a dataset of clips."""
  yield f'{path}: {manifest["format"]}, stored as {manifest["codec"]}'
  yield _pairs('files', manifest['counts'])
  if 'captions' in manifest:
    yield _captions(manifest)
  yield from _reasons(manifest)
  for split in manifest['splits']:
    dataset = dataset_lib.PreparedDataset(path, split)
    table = dataset.index
    shards = manifest['splits'][split]['shards']
    yield ''
    yield (f'{split}: {len(dataset)} clips, {int(table["num_frames"].sum())} '
           f'frames, {len(shards)} shards, '
           f'{sum(shard["bytes"] for shard in shards) / 1e6:.1f} MB')
    if not len(dataset):
      continue
    shapes, counts = np.unique(table[['height', 'width']], return_counts=True)
    order = np.argsort(-counts, kind='stable')[:_MOST_CLASSES]
    yield '  height x width:'
    yield from _bars([f'{shapes[n]["height"]} x {shapes[n]["width"]}'
                      for n in order], counts[order])
    seconds = table['num_frames'] / table['fps']
    for name, values in (('frames/s', table['fps']),
                         ('frames', table['num_frames']),
                         ('seconds', seconds)):
      yield f'  {name}:'
      yield from _histogram(values)
    yield from _class_balance(table['label'], dataset.classes)


def _captions(manifest: dict) -> str:
  counts = dict(manifest['captions'])
  cut = counts.pop('cut', None)
  line = _pairs('captions', {'all' if name == 'captions' else name: count
                             for name, count in counts.items()})
  if cut is None:
    return f'{line}; not measured by a text encoder'
  limit = manifest['caption_limit']
  return (f'{line}; {cut} longer than the {limit["max_tokens"]} tokens that '
          f'{limit["encoder"]} reads')


def _pairs(name: str, values: dict) -> str:
  return f'{name}: ' + ', '.join(f'{k} {v}' for k, v in values.items())


def _reasons(manifest: dict) -> Iterator[str]:
  """The most frequent reasons of rejection, and cuts, with an example each."""
  for what in ('rejected', 'damaged'):
    entries = manifest.get(what, [])
    groups: dict[str, list[str]] = {}
    for entry in entries:
      kind = re.split(', at |:', entry['reason'])[0]
      groups.setdefault(_NUMBER.sub('N', kind), []).append(entry['file'])
    for reason, named in sorted(groups.items(),
                                key=lambda item: -len(item[1])
                                )[:_MOST_REASONS]:
      yield f'  {what}: {len(named)} x {reason} (such as {named[0]!r})'
  frames = manifest.get('frame_folders', {})
  if frames.get('count'):
    yield (f'  {frames["count"]} files are folders of numbered images, taken '
           f'to have {frames["fps"]:g} frames/s')
  for what in ('cuts', 'deinterlaced'):
    entries = manifest.get(what, [])
    if entries:
      yield (f'  {what}: in {len(entries)} files (such as '
             f'{entries[0]["file"]!r})')


def _histogram(values: np.ndarray) -> Iterator[str]:
  """Lines of one value each if there are few, else of ranges."""
  distinct, counts = np.unique(values, return_counts=True)
  if len(distinct) <= _BINS:
    yield from _bars([f'{value:g}' for value in distinct], counts)
    return
  counts, edges = np.histogram(values, _BINS)
  yield from _bars([f'{low:.4g} - {high:.4g}' for low, high in zip(
      edges, edges[1:], strict=False)], counts)


def _bars(names: list[str], counts: np.ndarray) -> Iterator[str]:
  width = max(map(len, names))
  for name, count in zip(names, counts, strict=True):
    bar = '#' * round(_BAR * int(count) / int(max(counts)))
    yield f'    {name:>{width}}  {count:>7}  {bar}'.rstrip()


def _class_balance(labels: np.ndarray, classes: tuple[str, ...]
                   ) -> Iterator[str]:
  counts = np.bincount(labels, minlength=len(classes))
  empty = int((counts == 0).sum())
  yield (f'  classes: {len(classes)}, {int(counts.min())} to '
         f'{int(counts.max())} clips each' +
         (f', {empty} without any' if empty else ''))
  order = np.argsort(-counts, kind='stable')
  if len(order) > _MOST_CLASSES:
    half = _MOST_CLASSES // 2
    order = np.concatenate([order[:half], order[-half:]])
  yield from _bars([ascii(classes[n])[1:-1] for n in order], counts[order])


def _describe_latents(path: pathlib.Path, manifest: dict) -> Iterator[str]:
  """Lines about a latent cache."""
  settings = manifest['settings']
  yield f'{path}: {manifest["format"]}'
  yield f'tokenizer: {settings["tokenizer_sha256"]}'
  yield f'text encoder: {settings["text_sha256"] or "none"}'
  if 'captions' in manifest:
    yield _captions(manifest)
  yield _pairs('settings', {name: settings[name] for name in (
      'num_frames', 'size', 'fps', 'low_res_factor', 'images_per_clip')})
  for split, entry in manifest['splits'].items():
    yield ''
    yield f'{split}: {entry["num_examples"]} clips'
    left_out = manifest['left_out'].get(split, [])
    if left_out:
      yield f'  left out as too short: {len(left_out)}, such as {left_out[0]!r}'
    cache = latent_cache.LatentCache(
        path, split, tokenizer_sha256=settings['tokenizer_sha256'])
    for name, shape in manifest['shapes'].items():
      yield f'  {name}: {" x ".join(map(str, shape))}'
    rows = np.linspace(0, len(cache) - 1, min(len(cache), _SAMPLE)).astype(int)
    means = np.stack([cache[row]['mean'] for row in rows])
    channels = means.reshape(-1, means.shape[-1])
    for what, values in (('mean', channels.mean(0)), ('std', channels.std(0))):
      numbers = ' '.join(f'{value:.3f}' for value in values)
      yield f'  {what} by channel, of {len(rows)} clips: {numbers}'


def _sheet(path: pathlib.Path, manifest: dict, num_clips: int) -> np.ndarray:
  """Clips at equal distances over all splits, uint8 [H, W, 3]."""
  splits = {split: entry['num_examples']
            for split, entry in manifest['splits'].items()
            if entry['num_examples']}
  total = sum(splits.values())
  shown, captions, numbers = [], [], []
  for split, count in splits.items():
    dataset = dataset_lib.PreparedDataset(path, split)
    wanted = min(count, max(1, round(num_clips * count / total)))
    for row in np.linspace(0, count - 1, wanted).round().astype(int):
      example = dataset[int(row)]
      frames = codecs.num_frames(example)
      indices = np.array(contact_sheet.pick_frames(frames, 9))
      numbers.append(indices.tolist())
      shown.append(codecs.read_clip(example, indices, _SIDE, _SIDE))
      caption = example['caption'] or dataset.classes[example['label']]
      captions.append(f'{split} {row}: {caption} ({frames} frames)')
  return contact_sheet.contact_sheet(
      shown, captions, numbers=numbers,
      title=f'{path.name}: {total} clips, evenly spaced frames of each shown')
