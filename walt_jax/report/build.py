"""One self-contained HTML page of a folder of runs.

A folder such as `runs/quickstart/` holds work directories, folders of samples
and `scores.json`; whatever is there is shown, and what is missing is said.
"""
import dataclasses
import html
import os
import pathlib

from walt_jax.core import errors
from walt_jax.core import files
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.media import samples
from walt_jax.report import cards
from walt_jax.report import clips
from walt_jax.report import runs
from walt_jax.report import score_cards
from walt_jax.report import scores_file
from walt_jax.report import skeleton

_MAX_DEPTH = 2  # Folders below the one reported that are looked into.
_SKIPPED = (run_files.CHECKPOINTS, run_files.IMAGES, run_files.TENSORBOARD)
_STAGES = ('tokenizer', 'base', 'sr1', 'sr2')  # In the order of training.


@dataclasses.dataclass(frozen=True)
class Found:
  """What a folder holds for a report.

  Attributes:
    workdirs: Folders with `metrics.jsonl`, in the order of training.
    sample_sets: Sample sets of folders with `samples.json`.
    scores: Folder with `scores.json`, or None.
    problems: Files that were there but could not be read, one line each.
  """
  workdirs: tuple[pathlib.Path, ...]
  sample_sets: tuple[samples.SampleSet, ...]
  scores: pathlib.Path | None
  problems: tuple[str, ...] = ()


def find(directory: str | os.PathLike) -> Found:
  """Looks through a folder and two levels below it.

  Raises:
    errors.UserError: No such folder, or nothing in it to report.
  """
  directory = paths.path(directory)
  if not directory.is_dir():
    raise errors.UserError(f'no such folder: {directory}')
  folders, level = [directory], [directory]
  for _ in range(_MAX_DEPTH):
    level = [path for folder in level for path in sorted(folder.iterdir())
             if path.is_dir() and path.name not in _SKIPPED
             and not path.name.startswith('.')]
    folders += level
  sample_sets, problems = [], []
  for folder in folders:
    if samples.is_sample_folder(folder):
      try:
        sample_sets.append(samples.read_samples(folder))
      except Exception as error:  # pylint: disable=broad-except
        problems.append(f'{folder}: {errors.words(error)}')
  rank = {name: number for number, name in enumerate(_STAGES)}
  workdirs = sorted(
      (folder for folder in folders
       if (folder / run_files.METRICS).is_file()),
      key=lambda path: (rank.get(path.name, len(rank)), str(path)))
  has_scores = (directory / scores_file.FILE_NAME).is_file()
  if not (workdirs or sample_sets or has_scores or problems):
    raise errors.UserError(
        f'nothing to report in {directory}: no {run_files.METRICS}, '
        f'{samples.FILE_NAME} or {scores_file.FILE_NAME} in it or its folders')
  return Found(tuple(workdirs), tuple(sample_sets),
               directory if has_scores else None, tuple(problems))


def render(directory: str | os.PathLike, max_clips: int = 24) -> str:
  """Returns the page.

  Args:
    directory: A folder of runs.
    max_clips: Clips shown of each folder of samples.
  """
  directory = paths.path(directory)
  found = find(directory)
  of_kind = lambda kind: [s for s in found.sample_sets if s.kind == kind]
  real = of_kind('real')
  title = paths.absolute(directory).name
  name = lambda path: (str(path.relative_to(directory))
                       if path != directory else title)
  makers = [
      ('samples', 'Generated clips', lambda: clips.generated(
          of_kind('generated'), real, name, max_clips)),
      ('reconstructions', 'Reconstructions', lambda: clips.reconstructions(
          of_kind('reconstruction'), name, max_clips)),
      ('scores', 'Scores', lambda: score_cards.score_section(
          found.scores)),
      ('curves', 'Training', lambda: runs.curves(
          found.workdirs, name)),
      ('timing', 'Timing', lambda: score_cards.timing_section(
          found.scores, of_kind('generated'), name)),
  ]
  sections = [(anchor, head, cards.or_problem(head, make))
              for anchor, head, make in makers]
  before = cards.or_problem('Scores', lambda: score_cards.tiles(found.scores))
  before += ''.join(f'<p class="card missing">{html.escape(problem)}</p>'
                    for problem in found.problems)
  page = skeleton.page(f'walt report: {title}', sections, before)
  # Lone surrogates, which no file can hold.
  return page.encode(errors='replace').decode()


def write_report(directory: str | os.PathLike,
                 out: str | os.PathLike | None = None,
                 max_clips: int = 24, *,
                 made_by: made_by_lib.MadeBy | None = None) -> pathlib.Path:
  """Writes the page, by default DIR/report.html; returns its path."""
  page = render(directory, max_clips)
  content = (made_by.in_page(page) if made_by else page).encode()
  path = paths.path(out) if out else paths.path(directory) / 'report.html'
  files.write_bytes(path, content)
  return path
