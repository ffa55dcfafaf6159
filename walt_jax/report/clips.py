"""Clips of the report: real beside generated, original beside reconstructed."""
import base64
import collections
from collections.abc import Callable, Sequence
import html
import math
import pathlib

import numpy as np

from walt_jax.core import errors
from walt_jax.media import samples
from walt_jax.media import video

Name = Callable[[pathlib.Path], str]


def missing(text: str) -> str:
  """A card that says what is not there; `text` is HTML."""
  return f'<p class="card missing">{text}</p>'


def clip_html(sample_set: samples.SampleSet, stem: str, caption: str) -> str:
  """A clip that plays in the page, or its picture if it has one frame."""
  path = sample_set.directory / stem
  alt = html.escape(caption, quote=True)
  try:
    if (png := path.with_name(f'{stem}.png')).is_file():
      data = base64.b64encode(png.read_bytes()).decode()
      return f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    mp4 = path.with_name(f'{stem}.mp4')
    content = (mp4.read_bytes() if mp4.is_file() else video.encode_mp4(
        sample_set.clip(stem), sample_set.fps))
  except (OSError, errors.UserError) as error:
    return f'<small>{html.escape(str(error))}</small>'
  data = base64.b64encode(content).decode()
  return (f'<video muted loop playsinline preload="metadata" '
          f'aria-label="{alt}" src="data:video/mp4;base64,{data}"></video>')


def generated(sets: Sequence[samples.SampleSet],
              real: Sequence[samples.SampleSet], name: Name,
              max_clips: int) -> str:
  """Generated clips, each beside a real clip of the same caption or label."""
  if not sets:
    content = missing('No generated clips here: <code>walt sample</code> '
                      'writes them.')
    return content + (_real_alone(real, name, max_clips) if real else '')
  parts = []
  if not real:
    parts.append(missing('No real clips to stand beside the generated ones.'))
  beside = (' A held-out real clip of the same request stands first.'
            if real else '')
  for sample_set in sets:
    shown = pick(sample_set.entries, max_clips)
    matches = match(shown, real)
    many = any(entry.stages for entry in shown)
    cards = ''.join(
        _card(entry, [*(_real_column(found, entry.shape) if real else ()),
                      *_stage_columns(sample_set, entry)])
        for entry, found in zip(shown, matches, strict=True))
    parts.append(
        f'<h3>{html.escape(name(sample_set.directory))}</h3>'
        f'<p class="lead">{_count(shown, sample_set)}{_drawn_by(sample_set)}'
        f'{beside}</p>'
        f'<div class="clips{" wide" if many else ""}">{cards}</div>'
        f'{_stage_table(sample_set)}')
  return ''.join(parts)


def _real_alone(real, name: Name, max_clips: int) -> str:
  parts = []
  for sample_set in real:
    shown = pick(sample_set.entries, max_clips)
    cards = ''.join(_card(entry, _real_column(
        (sample_set, entry), entry.shape))
                    for entry in shown)
    parts.append(f'<h3>{html.escape(name(sample_set.directory))}</h3>'
                 f'<p class="lead">{_count(shown, sample_set)}</p>'
                 f'<div class="clips">{cards}</div>')
  return ''.join(parts)


def reconstructions(sets: Sequence[samples.SampleSet], name: Name,
                    max_clips: int) -> str:
  """Each original beside its reconstruction, with the clip's PSNR."""
  if not sets:
    return missing('No reconstructions here.')
  parts = []
  for sample_set in sets:
    shown = pick(sample_set.entries, max_clips)
    cards = []
    for entry in shown:
      columns = _stage_columns(sample_set, entry, last='reconstructed')
      note = ''
      if entry.original:
        columns.insert(0, ('real', 'real', clip_html(
            sample_set, entry.original, f'original of {_title(entry)}')))
        note = _psnr_note(sample_set, entry.stem, entry.original)
      cards.append(_card(entry, columns, note))
    parts.append(
        f'<h3>{html.escape(name(sample_set.directory))}</h3>'
        f'<p class="lead">{_count(shown, sample_set)}</p>'
        f'<div class="clips">{"".join(cards)}</div>')
  return ''.join(parts)


def pick(entries: Sequence[samples.Entry],
         max_clips: int) -> list[samples.Entry]:
  """At most `max_clips` entries, as many requests among them as can be.

  The first clip of each request comes before the second of any; of clips that
  come equally early, those are picked that are spread evenly over all.
  """
  rounds: dict[int, list[int]] = {}
  seen: collections.Counter[tuple[str, ...]] = collections.Counter()
  for number, entry in enumerate(entries):
    keys = tuple(_keys(entry))
    rounds.setdefault(seen[keys], []).append(number)
    if keys:
      seen[keys] += 1
  found: list[int] = []
  for _, numbers in sorted(rounds.items()):
    wanted = min(max_clips - len(found), len(numbers))
    found += [numbers[i * len(numbers) // wanted] for i in range(wanted)]
  return [entries[number] for number in sorted(found)]


def match(entries: Sequence[samples.Entry], real: Sequence[samples.SampleSet]
          ) -> list[tuple[samples.SampleSet, samples.Entry] | None]:
  """Finds each entry a real clip, of its caption, label, or else the next one.

  A real clip serves again only when all of its kind have served; where none
  fits, an entry that asked for nothing takes any real clip, others None.
  """
  by_key: dict[str, list] = {}
  everything = [(sample_set, entry) for sample_set in real
                for entry in sample_set.entries]
  for item in everything:
    for key in _keys(item[1]):
      by_key.setdefault(key, []).append(item)
  used: dict[str, int] = {}
  found: list[tuple[samples.SampleSet, samples.Entry] | None] = []
  for entry in entries:
    keys = _keys(entry)
    key = next((key for key in keys if key in by_key), '')
    choices = by_key.get(key, []) if keys else everything
    if not choices:
      found.append(None)
      continue
    found.append(choices[used.get(key, 0) % len(choices)])
    used[key] = used.get(key, 0) + 1
  return found


def _keys(entry: samples.Entry) -> list[str]:
  # A caption says more than the name of a class may.
  keys = [f'caption {entry.caption}'] if entry.caption else []
  return keys + ([f'label {entry.label}'] if entry.label else [])


def psnr(clip: np.ndarray, truth: np.ndarray) -> float:
  """Peak signal to noise ratio of two uint8 clips, in dB."""
  error = np.mean((clip.astype(np.float64) - truth) ** 2)
  return math.inf if error == 0 else 10 * math.log10(255 ** 2 / error)


def _psnr_note(sample_set: samples.SampleSet, stem: str, original: str) -> str:
  try:
    clip, truth = sample_set.clip(stem), sample_set.clip(original)
  except errors.UserError:
    return ''
  return f'{psnr(clip, truth):.1f} dB' if clip.shape == truth.shape else ''


def _real_column(found, shape: Sequence[int]) -> list[tuple[str, str, str]]:
  """The real clip, and its size where that is not of the clip beside it."""
  if found is None:
    return [('real', 'real', '<div class="none"><small>no real clip of this '
             'request</small></div>')]
  sample_set, entry = found
  other = entry.shape and shape and entry.shape[1:3] != tuple(shape[1:3])
  size = f', {entry.shape[2]}×{entry.shape[1]}' if other else ''
  return [('real', f'real{size}', clip_html(
      sample_set, entry.stem, f'real clip, {_title(entry)}'))]


def _stage_columns(sample_set: samples.SampleSet, entry: samples.Entry,
                   last: str = 'generated') -> list[tuple[str, str, str]]:
  """(CSS class, heading, clip) of each stage, the final clip last."""
  names = [stage.name for stage in sample_set.stages]
  final = names[-1] if names and entry.stages else last
  columns = [('', stage, clip_html(sample_set, stem,
                                   f'{_title(entry)}, {stage}'))
             for stage, stem in entry.stages.items() if stem != entry.stem]
  return [*columns, ('', final, clip_html(
      sample_set, entry.stem, f'{_title(entry)}, {final}'))]


def _title(entry: samples.Entry) -> str:
  return entry.caption or entry.label or entry.stem


def _card(entry: samples.Entry, columns: Sequence[tuple[str, str, str]],
          note: str = '') -> str:
  details = [note] if note else []
  if entry.seed is not None:
    details.append(f'seed {entry.seed}' if entry.index is None else
                   f'seed {entry.seed} #{entry.index}')
  if entry.prompts:
    details += [f'from frame {frame}: {prompt}'
                for frame, prompt in entry.prompts]
  small = f' <small>{html.escape(" · ".join(details))}</small>'
  clips = ''.join(
      f'<div class="{css}">{clip}<small>{html.escape(heading)}</small></div>'
      for css, heading, clip in columns)
  return (f'<figure class="card"><figcaption>{html.escape(_title(entry))}'
          f'{small if details else ""}</figcaption>'
          f'<div class="row">{clips}</div></figure>')


def _count(shown, sample_set: samples.SampleSet) -> str:
  total = len(sample_set.entries)
  if not total:
    return 'The folder is empty.'
  shape = shown[0].shape
  size = f', {shape[0]} frames of {shape[2]}×{shape[1]}' if shape else ''
  few = f'{len(shown)} of ' if len(shown) < total else ''
  return (f'{few}{total} clip{"s" if total > 1 else ""}{size} at '
          f'{sample_set.fps:g} frames a second.')


def _drawn_by(sample_set: samples.SampleSet) -> str:
  """The stages and how long each was trained."""
  if not sample_set.stages:
    return ''
  stages = ', '.join(f'{stage.name} after {stage.step:,} training steps'
                     for stage in sample_set.stages)
  return html.escape(f' Drawn by {stages}.')


def _stage_table(sample_set: samples.SampleSet) -> str:
  """How each stage was run."""
  if not sample_set.stages:
    return ''
  cell = lambda value: f'<td>{html.escape(str(value))}</td>'
  rows = []
  for stage in sample_set.stages:
    guidance = ', '.join(f'{key} {value:g}'
                         for key, value in stage.guidance.items()) or 'none'
    noise = '' if stage.noise_level is None else f'{stage.noise_level:g}'
    seconds = '' if stage.seconds is None else f'{stage.seconds:.1f}'
    rows.append('<tr>' + ''.join(map(cell, (
        stage.name, stage.step, stage.weights, stage.sampler, stage.steps,
        guidance, noise, '×'.join(map(str, stage.shape[:3])), seconds,
        stage.sha256[:12]))) + '</tr>')
  heads = ('stage', 'trained steps', 'weights', 'sampler', 'steps', 'guidance',
           'noise level', 'frames×rows×columns', 'seconds', 'sha256')
  head = ''.join(f'<th>{text}</th>' for text in heads)
  return ('<details><summary>How these were sampled</summary><div class="card '
          f'scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
          '</details>')
