"""What a token costs as clips grow: windows against full attention.

  python -m benchmarks.token_cost [--topology h100:1] [CASE ..]

Compiles train steps of two layers of ucf101:l, a spatial and a spatiotemporal
one, for clips of more frames and of larger frames, and takes their time from
the ledger of one absent chip. With windows every step has about as many tokens
as the largest clip, rows of clips as many as that takes, so that small clips
keep the chip as busy; with full attention, whose logits lie in memory and grow
with the square of a clip's tokens, as many as fit. Writes
benchmarks/results/token_cost.json and docs/token_cost.svg.
"""
import argparse
import dataclasses
import json
import math
from typing import Any

import jax

from benchmarks import harness
from benchmarks import token_cost_plot
from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import places
from walt_jax.planning import programs

FRAMES = (17, 37, 77, 137)
SIZES = ((128, 128), (256, 256), (512, 896))
FORMS = ('windows', 'full')
_F_T, _F_S = 4, 8  # Of the tokenizer.
_LAYERS = 2
_TOKENS = 35 * 64 * 112  # Of a step with windows: those of the largest clip.
# With full attention a step of the most pairs of tokens takes 63 GiB; a clip
# of 20,480 tokens would take 126.
MAX_FULL = 10_240
_PAIRS = 2 * MAX_FULL ** 2


@dataclasses.dataclass(frozen=True)
class Case:
  """A size of clips.

  Attributes:
    frames: Frames of a clip.
    height: Rows of a frame.
    width: Columns of a frame.
    form: 'windows' or 'full' attention.
  """
  frames: int
  height: int
  width: int
  form: str

  @property
  def name(self) -> str:
    """Such as '17x128x128 windows'."""
    return f'{self.frames}x{self.height}x{self.width} {self.form}'

  @property
  def grid(self) -> tuple[int, int, int]:
    """Latent frames, rows and columns; a cell is a token."""
    return (1 + (self.frames - 1) // _F_T, self.height // _F_S,
            self.width // _F_S)

  @property
  def tokens(self) -> int:
    """Tokens of a clip."""
    return math.prod(self.grid)

  @property
  def rows(self) -> int:
    """Clips of a step."""
    if self.form == 'full':
      return _PAIRS // self.tokens ** 2
    return max(1, _TOKENS // self.tokens)

  @property
  def overrides(self) -> dict[str, Any]:
    """Config keys."""
    t, h, w = self.grid
    keys = {
        'data.num_frames': self.frames, 'data.height': self.height,
        'data.width': self.width, 'data.batch_size': self.rows,
        'latents.frames': t, 'latents.height': h, 'latents.width': w,
        'model.depth': _LAYERS, 'diffusion.self_condition_probability': 0}
    if self.form == 'full':
      keys |= {'model.spatial_window': self.grid,
               'model.spacetime_window': self.grid}
    return keys


CASES = [
    case for form in FORMS for height, width in SIZES for frames in FRAMES
    if (case := Case(frames, height, width, form)).form == 'windows'
    or case.tokens <= MAX_FULL]


def row(case: Case, place: places.Place) -> harness.Row:
  """The step's time by ledger, and what it takes of memory."""
  config = config_lib.load(
      'configs/ucf101.py:l',
      [(key, str(value)) for key, value in case.overrides.items()])
  run = absent_runs.absent_run(
      config, mesh_lib.make_mesh(-1, 1, 1, devices=place.devices))
  found = programs.compiled(
      programs.Program('train step', run.trace_train_step()), place, 0.)
  tokens = case.rows * case.tokens
  known = dict(
      dataclasses.asdict(case), topology=place.name, clip_tokens=case.tokens,
      rows=case.rows, needed_bytes=found.compiled.needed_bytes,
      fits=found.fits, refusals=list(found.ledger.refusals)
      if found.ledger else [])
  if found.seconds is None:
    return known
  return known | dict(
      seconds=found.seconds, seconds_a_token=found.seconds / tokens)


def main() -> None:
  """Compiles the cases and writes rows and plot."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('cases', nargs='*', metavar='CASE',
                      help=f'such as {CASES[0].name!r}; all by default')
  parser.add_argument('--topology', default='h100:1')
  args = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')  # Absent chips open none.
  jax.config.update('jax_enable_compilation_cache', False)
  place = places.get(args.topology)
  result = harness.RESULTS / 'token_cost.json'
  rows = json.loads(result.read_text())['rows'] if result.exists() else {}
  for case in CASES:
    if not args.cases or case.name in args.cases:
      rows[case.name] = row(case, place)
      print(case.name, rows[case.name], flush=True)
      harness.write('token_cost', {
          one.name: rows[one.name] for one in CASES if one.name in rows})
  token_cost_plot.write(list(rows.values()))


if __name__ == '__main__':
  main()
