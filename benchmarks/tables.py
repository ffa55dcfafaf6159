"""Writes the tables of the documents from benchmarks/results.

  python -m benchmarks.tables [--check]

A table stands between `<!-- table NAME -->` and `<!-- end -->`; everything else
in a document is written by people. `make tables` runs this after a benchmark,
and a test holds the documents equal to the results.
"""
import argparse
from collections.abc import Callable, Iterable, Sequence
import dataclasses
import json
import pathlib
import re
import statistics
import sys
from typing import Any

from benchmarks import ablations
from benchmarks import harness
from walt_jax.core import files

_DOCS = pathlib.Path(__file__).parents[1] / 'docs' / 'measurements'

Cells = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table and where it comes from.

  Attributes:
    name: Its name in the marker.
    document: File below docs/measurements.
    result: File below benchmarks/results.
    head: Titles of the columns.
    rows: Makes the rows' cells of the parsed result.
  """
  name: str
  document: str
  result: str
  head: Cells
  rows: Callable[[Any], Iterable[Cells]]

  def markdown(self) -> str:
    """The table of the result as it is now."""
    result = json.loads((harness.RESULTS / self.result).read_text())
    lines = [self.head, ['---'] * len(self.head), *self.rows(result)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _decoding(result: Any) -> Iterable[Cells]:
  cases: dict[str, dict[str, Any]] = {}
  for case, row in result['rows'].items():
    name, size = case.split('@')
    cases.setdefault(name, {})[size] = row
  for name, sizes in cases.items():
    whole, small = sizes['whole'], sizes['prepared']
    height, width = whole['size']
    yield (f'{name}, {width}x{height}', f'{whole["wall_ratio"]:.2f}',
           f'{small["wall_ratio"]:.2f}', '0.9')


def _cpu_speed(result: Any) -> Iterable[Cells]:
  names = dict(
      forward='denoiser, forward', train='denoiser, train step',
      sample='denoiser, ten DDIM passes', encode='tokenizer, encode',
      decode='tokenizer, decode', gan='tokenizer, step of both players')
  for case, name in names.items():
    row = result['rows'][case]
    yield (name, f'{row["ratio"]:.2f}', f'{row["limit"]:g}',
           f'{row["ours_peak_mib"]:,} / {row["torch_peak_mib"]:,}')


def _h100_train_step(result: Any) -> Iterable[Cells]:
  rows = [row for row in result['rows'] if 'ms' in row]
  twin = next(row for row in rows if row['who'] == 'torch')
  yield ('PyTorch twin', 'all', '', '0', f'{twin["ms"]:.1f}', '1',
         f'{twin["peak_GiB"]:.1f} (peak)')
  ours = sorted((row for row in rows if row['who'] != 'torch'),
                key=lambda row: (row['self_conditioning'], row['ms']))
  names = dict(cudnn='cuDNN', xla='XLA')
  for row in ours:
    same_work = row['self_conditioning'] == 0
    yield (names[row['form']], f'`{row["remat"]}`', str(row['unroll']),
           f'{row["self_conditioning"]:g}', f'{row["ms"]:.1f}',
           f'{twin["ms"] / row["ms"]:.2f}' if same_work else '',
           f'{row["temporaries_GiB"]:.1f}')


def _h200_train_step(result: Any) -> Iterable[Cells]:
  for when in ('before', 'after'):
    found = result['rows'][when]
    found = found.get('train_l_and_twin', found)
    for who, name in (('twin', 'PyTorch twin'), ('ours', 'walt_jax')):
      row = found[who]
      each = row.get('each', row)['ms']
      together = f'{row["ms"]:.1f}' if 'each' in row else ''
      yield (name, when, f'{each:.1f}', together,
             '1' if who == 'twin' else f'{found["speed_of_twin"]:.2f}',
             f'{row["peak_bytes"] / 2**30:.1f}')


def _h200_kernels(result: Any) -> Iterable[Cells]:
  for window, choices in result['rows']['microseconds'].items():
    for choice, row in choices.items():
      kernels = {key: value for key, value in row.items()
                 if key not in ('rest', 'error', 'refused')}
      if kernels:
        yield (window, re.sub("[{}']", '', choice), ', '.join(
            f'{name.removeprefix("window_attention_")} {value:.0f}'
            for name, value in kernels.items()))


def _tiling(result: Any) -> Iterable[Cells]:
  for run in result['runs']:
    overlaps = [run[f'blend_{overlap}'] for overlap in (1, 2, 4, 8)]
    yield (f'`{run["norm"]}`, {run["tile"]}', *(
        f'{one["pixel_psnr"]:.1f} dB ({one["work"]:.1f})'
        for one in overlaps))


def _tokenizer_gan(result: Any) -> Iterable[Cells]:
  run = result['runs'][0]
  with_gan, without = run['ucf101_small'], run['ucf101_small_no_gan']
  for step in with_gan:
    pairs = ((f'{with_gan[step][key]:{form}}', f'{without[step][key]:{form}}')
             for key, form in (('psnr', '.2f'), ('ssim', '.3f'),
                               ('perceptual_lite2', '.3f'), ('rfvd', '.0f')))
    yield (f'{int(step):,}', *(
        a if a == b else f'{a} / {b}' for a, b in pairs))


def _upscaling(result: Any) -> Iterable[Cells]:
  def number(row, key, form):
    return f'{row[key]:{form}}' if key in row else ''

  for row in result['rows']['upscaling']:
    yield (f'{row["stage"]}, {row["size"]} px', row['input'], row['method'],
           number(row, 'psnr', '.2f'), number(row, 'perceptual', '.4f'),
           number(row, 'fvd', '.0f'))


def _share(score: dict[str, Any]) -> str:
  return (f'{score["correct"]}/{score["total"]} = {score["accuracy"]:.1%} '
          f'({score["low"]:.1%} to {score["high"]:.1%})')


def _cascade(result: Any) -> Iterable[Cells]:
  for row in result['rows']['cascade']:
    real = row['real']
    yield (f'{row["stage"]}, {row["size"]} px', _share(row['digit']),
           _share(row['direction']), f'{real["digit"]["accuracy"]:.1%}, '
           f'{real["direction"]["accuracy"]:.1%}')


def _base_recipes(result: Any) -> Iterable[Cells]:
  for name, row in result['rows'].items():
    given = row['v_loss_given']
    yield (f'`{name}`', f'{row["v_loss"]:.3f}',
           '' if given is None else f'{given:.3f}',
           _share(row['digit']), _share(row['direction']))


def _ablations(result: Any) -> Iterable[Cells]:
  mean = lambda name, key: statistics.mean(
      row[key] for row in result['rows'][name])
  for name in result['rows']:
    fvd = mean(name, 'fvd')
    cells = (name, f'{mean(name, "digit"):.1%}',
             f'{mean(name, "direction"):.1%}', f'{fvd:.0f}')
    if name not in ablations.ABLATIONS:
      yield (*cells, '', '')
      continue
    before, after = ablations.ABLATIONS[name].paper
    same = (after > before) == (fvd > mean(ablations.PLAIN, 'fvd'))
    yield (*cells, f'{before} -> {after}', 'yes' if same else 'no')


def _noise_augmentation(result: Any) -> Iterable[Cells]:
  for row in result['rows']['robustness']:
    yield (f'{row["sigma"]:.2f}', row['method'], f'{row["psnr"]:.2f}',
           f'{row["perceptual"]:.4f}')


def _planned(row: dict[str, Any]) -> Cells:
  """Config, slice, batch, mesh and remat of a plan."""
  mesh = ' x '.join(str(size) for size in row['mesh'].values())
  name = row['config'].removeprefix('configs/').replace('.py', '')
  changed = ' '.join(row['overrides'])
  return (f'`{name}`' + (f', {changed}' if changed else ''),
          row['topology'], str(row['batch']), mesh, row['remat'])


def _needed(row: dict[str, Any]) -> str:
  return (f'{row["needed_bytes"] / 2**30:.1f} of '
          f'{row["capacity_bytes"] / 2**30:.1f}')


def _plans(result: Any) -> Iterable[Cells]:
  for row in result['rows'].values():
    start = (*_planned(row), '; '.join(dict.fromkeys(
        row['attention'].values())), _needed(row))
    if not row['fits'] or row['refusals']:
      reasons = '; '.join(row.get('refusals', ['does not fit']))
      yield (*start, reasons, '', '', '', '', _wanted(row))
      continue
    hidden = row['seconds'] - row['hidden_collective_seconds']
    yield (*start, f'**{1e3 * row["compute_seconds"]:.0f}**',
           f'{1e3 * hidden:.0f} - {1e3 * row["seconds"]:.0f}',
           f'{row["mfu"]:.2f}', f'{row["attention_share"]:.0%}',
           f'{1e3 * row["roofline_seconds"]:.0f} - '
           f'{1e3 * row["roofline_slow_seconds"]:.0f}',
           _wanted(row))


def _wanted(row: dict[str, Any]) -> str:
  return '' if row['wanted_ms'] is None else str(row['wanted_ms'])


def _plans_in_short(result: Any) -> Iterable[Cells]:
  for row in result['rows'].values():
    told = row['fits'] and not row['refusals']
    yield (*_planned(row), _needed(row),
           f'{1e3 * row["seconds"]:.0f}' if told else '-',
           f'{row["mfu"]:.2f}' if told else '-')


def _encoders(result: Any) -> Iterable[Cells]:
  for name, row in result['rows'].items():
    yield (f'`{name}`', f'`{row["tokenizer"]}`',
           f'{row["flops_per_step"] / 1e15:.3g}',
           f'{row["share_of_model_flops"]:.2f}',
           f'{row["cache_bytes_per_clip"] / 1e3:.0f}', row['train_from'])


def _steps(result: Any) -> Iterable[Cells]:
  for row in result['rows'].values():
    if 'steps' not in row:
      continue
    name, topology, batch, *_ = _planned(row)
    cells = []
    for step in row['steps'].values():
      seconds = step['predicted_seconds']
      fits = '' if step['fits'] else ' (does not fit)'
      cells += [f'{step["hbm_needed_bytes"] / 2**30:.1f}{fits}',
                '-' if seconds is None else f'{1e3 * seconds:.0f}']
    encoder = row['steps']['clips']['predicted_encoder_seconds']
    yield (name, topology, batch, *cells,
           '-' if encoder is None else f'{1e3 * encoder:.0f}',
           row['train_from'] or '-')


def _token_cost(result: Any) -> Iterable[Cells]:
  for row in result['rows'].values():
    time = ('; '.join(row['refusals']) or 'does not fit'
            if 'seconds' not in row else f'{1e6 * row["seconds_a_token"]:.3f}')
    yield (f'{row["frames"]}x{row["height"]}x{row["width"]}', row['form'],
           f'{row["clip_tokens"]:,}', str(row['rows']),
           f'{row["needed_bytes"] / 2**30:.1f}', time)


def _fuzz(result: Any) -> Iterable[Cells]:
  rows = result['rows']
  for name, row in rows.items():
    yield (f'`{name}`', f'{row["tried"]:,}',
           f'{row["passed"] / row["tried"]:.0%}', f'{row["accepted"]:,}',
           f'{row["refused"]:,}', str(row['stray']),
           f'{row["slowest"]:.2f}', f'{row["jump_mib"]:.0f}')
  total = lambda key: f'{sum(row[key] for row in rows.values()):,}'
  yield (f'all {len(rows)}', total('tried'), '', total('accepted'),
         total('refused'), total('stray'), '', '')


TABLES = (
    Table('fuzz', '../reliability.md', 'fuzz.json',
          ('reader', 'inputs', 'past the header', 'accepted', 'refused',
           'stray', 'slowest, s', 'most memory, MiB'), _fuzz),
    Table('cpu_speed', 'cpu.md', 'cpu_speed.json',
          ('one core', "our time over PyTorch's", 'limit',
           'memory, ours / PyTorch, MiB'), _cpu_speed),
    Table('decoding', 'data.md', 'decoding.json',
          ("file", "bare loop's time over the reader's, whole size",
           'short side 128', 'wanted'), _decoding),
    Table('h100_train_step', 'training.md', 'h100_train_step.json',
          ('attention', 'kept for the gradient', 'layers unrolled',
           'self-conditioning', 'ms a step', "of the twin's speed",
           'temporaries, GiB'), _h100_train_step),
    Table('h200_train_step', 'training.md', 'h200.json',
          ('who', 'kernels', 'ms a step, each waited for', 'six together',
           "of the twin's speed", 'peak, GiB'), _h200_train_step),
    Table('h200_kernels', 'training.md', 'h200.json',
          ('window', 'tiles, warps (forward, keys, queries)',
           'us of a layer by kernel'), _h200_kernels),
    Table('super_resolution', 'sampling.md', 'super_resolution.json',
          ('stage', 'input', 'method', 'PSNR, dB', 'perceptual', 'FVD'),
          _upscaling),
    Table('cascade', 'sampling.md', 'cascade.json',
          ('after', 'digit', 'direction', 'reader on real clips'), _cascade),
    Table('base_recipes', 'training.md', 'base_recipes.json',
          ('recipe, and its `peak_lr`', 'held-out v-loss',
           'with the first frame given', 'digits right', 'directions right'),
          _base_recipes),
    Table('image_first', 'training.md', 'image_first.json',
          ('recipe, and its `peak_lr`', 'held-out v-loss',
           'with the first frame given', 'digits right', 'directions right'),
          _base_recipes),
    Table('ablations', 'training.md', 'ablations.json',
          ('change', 'digits right', 'directions right', 'FVD',
           "paper's FVD (Table 3)", 'same direction?'), _ablations),
    Table('noise_augmentation', 'sampling.md', 'noise_augmentation.json',
          ('noise on the input (deviations)', 'method', 'PSNR, dB',
           'perceptual'), _noise_augmentation),
    Table('tokenizer_gan', 'tokenizer.md', 'tokenizer_gan.json',
          ('step', 'PSNR, dB', 'SSIM', 'perceptual (Lite2)', 'rFVD'),
          _tokenizer_gan),
    Table('tiling', 'tokenizer.md', 'tiling.json',
          ('norm, tile in cells', 'overlap 1 (work)', '2', '4', '8'), _tiling),
    Table('plans', 'plans.md', 'plans.json',
          ('config', 'slice', 'batch', 'mesh (data x fsdp x tensor)', 'remat',
           'attention', 'GiB needed', 'ledger without collectives, ms',
           'with, hidden - not, ms', 'MFU, not hidden',
           'attention core, window transposes and casts', 'roofline, ms',
           'wanted, ms'), _plans),
    Table('plans_in_short', '../scaling.md', 'plans.json',
          ('config', 'slice', 'batch', 'mesh (data x fsdp x tensor)', 'remat',
           'GiB needed', 'ms by the ledger, collectives not hidden', 'MFU'),
          _plans_in_short),
    Table('encoders', '../scaling.md', 'encoders.json',
          ('config', 'tokenizer', 'encoding a batch, PFLOP',
           "over the model's", 'kB of a clip in a cache', 'train from'),
          _encoders),
    Table('steps', '../scaling.md', 'plans.json',
          ('config', 'slice', 'batch', 'from clips: GiB', 'ms',
           'from a cache: GiB', 'ms', 'encoding clips, ms', 'train from'),
          _steps),
    Table('token_cost', 'plans.md', 'token_cost.json',
          ('clip', 'attention', 'tokens', 'clips a step', 'GiB needed',
           'microseconds a token'), _token_cost),
)


def updated(text: str, tables: Iterable[Table]) -> str:
  """A document with its tables as the results are.

  Raises:
    ValueError: A table has no place in the document, or more than one.
  """
  for table in tables:
    between = re.compile(
        rf'(<!-- table {re.escape(table.name)} -->\n).*?(<!-- end -->)',
        re.DOTALL)
    text, count = between.subn(
        lambda match, table=table: (
            f'{match[1]}\n{table.markdown()}\n\n{match[2]}'), text)
    if count != 1:
      raise ValueError(f'{table.document} has {count} places for the table '
                       f'{table.name}; it takes one.')
  return text


def outdated() -> dict[pathlib.Path, str]:
  """Documents whose tables differ from the results, and what they should be."""
  found = {}
  for name in dict.fromkeys(table.document for table in TABLES):
    path = _DOCS / name
    text = path.read_text()
    new = updated(text, (table for table in TABLES if table.document == name))
    if new != text:
      found[path] = new
  return found


def main() -> int:
  """Writes what is outdated; with --check only names it, and returns 1."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--check', action='store_true')
  args = parser.parse_args()
  found = outdated()
  for path, text in found.items():
    print(path.relative_to(_DOCS.parents[1]))
    if not args.check:
      files.write_text(path, text)
  return int(args.check and bool(found))


if __name__ == '__main__':
  sys.exit(main())
