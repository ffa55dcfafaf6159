"""The children of the accelerator benchmark: each times one program.

  FORM=xla,plain,minimal,1,0.9
  python -m benchmarks.accelerator.child train --size l --form $FORM
  python -m benchmarks.accelerator.child sample --size l --form $FORM
  python -m benchmarks.accelerator.child profile --size l --form $FORM

The first two serve timings as `turns` asks for them; `profile` prints where the
train step's time goes.
"""
import argparse
from collections.abc import Callable
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerator import profiles
from benchmarks.accelerator import programs
from benchmarks.accelerator import turns

_PROFILED_STEPS = 3


def parse_form(text: str) -> programs.Form:
  """'xla,plain,minimal,1,0.9': the fields of `programs.Form` in order."""
  attention, passes, remat, unroll, share = text.split(',')
  return programs.Form(attention, passes, remat, int(unroll), float(share))


def train(size: programs.Size, form: programs.Form) -> None:
  """Serves the train step."""
  run, wait, ready, _, _ = _train_step(size, form)
  turns.serve(ready, run, wait=wait)


def profile(size: programs.Size, form: programs.Form,
            keep: pathlib.Path | None) -> None:
  """Prints where the train step's time goes, beside the ledger.

  Args:
    size: Size of the denoiser.
    form: Its form.
    keep: Folder for the program's text and the times of all instructions.
  """
  step, wait, ready, traced, text = _train_step(size, form)

  def run():
    step()
    wait()

  run()
  measured = profiles.measure(run, _PROFILED_STEPS)
  if keep:
    keep.mkdir(parents=True, exist_ok=True)
    (keep / 'program.txt').write_text(text)
    (keep / 'seconds.json').write_text(json.dumps(measured))
  charges, missing = profiles.ledger_of(
      traced, text, jax.devices()[0].device_kind)
  print(json.dumps(ready | dict(no_ledger=missing) | profiles.beside_ledger(
      measured, text, charges)), flush=True)


def _train_step(size: programs.Size, form: programs.Form
                ) -> tuple[Callable[[], None], Callable[[], None],
                           dict[str, Any], Any, str]:
  """The step, how to wait for it, what is known, and the program twice."""
  program = programs.train_program(size, form)
  state = program.init(jax.random.key(0))
  held, key = jnp.zeros((), bool), jax.random.key(2)
  batch = programs.random_batch(size)
  began = time.perf_counter()
  traced = program.step.trace(state, held, batch, key)
  step = traced.lower().compile()
  seconds = time.perf_counter() - began
  state, held, metrics = step(state, held, batch, key)
  loss, current = float(metrics['loss']), [state, held, metrics]

  def run():
    current[:] = step(*current[:2], batch, key)

  def wait():
    jax.block_until_ready(current)

  ready = _ready(step, seconds) | dict(
      flops=program.flops, loss=loss, failed=bool(held))
  return run, wait, ready, traced, step.as_text()


def sample(size: programs.Size, form: programs.Form, steps: int,
           guidance: float) -> None:
  """Serves drawing the size's rows at once."""
  draw = programs.sampler(size, form, steps, guidance)
  params = programs.train_program(size, form).init(jax.random.key(0)).params
  keys = jax.random.split(jax.random.key(3), size.rows)
  labels = jnp.zeros((size.rows, 1), jnp.int32)
  began = time.perf_counter()
  compiled = draw.lower(params, keys, labels).compile()
  seconds = time.perf_counter() - began
  finite = bool(jnp.isfinite(compiled(params, keys, labels)).all())
  turns.serve(_ready(compiled, seconds) | dict(rows=size.rows, finite=finite),
              lambda: jax.block_until_ready(compiled(params, keys, labels)))


def _ready(compiled: Any, seconds: float) -> dict[str, Any]:
  """What is known of a compiled program that has run once."""
  device = jax.devices()[0]
  memory = compiled.memory_analysis()
  measured = device.memory_stats() or {}
  return dict(
      jax=jax.__version__, device=device.device_kind,
      compile_seconds=round(seconds, 1),
      planned_bytes=int(
          memory.argument_size_in_bytes + memory.output_size_in_bytes
          - memory.alias_size_in_bytes + memory.temp_size_in_bytes),
      peak_bytes=measured.get('peak_bytes_in_use'))


def main() -> None:
  """Entry point of a child."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('what', choices=('train', 'sample', 'profile'))
  parser.add_argument('--size', choices=programs.SIZES, required=True)
  parser.add_argument('--form', type=parse_form, required=True)
  parser.add_argument('--steps', type=int, default=50)
  parser.add_argument('--guidance', type=float, default=1.0)
  parser.add_argument('--keep', type=pathlib.Path)
  args = parser.parse_args()
  size = programs.SIZES[args.size]
  if args.what == 'train':
    train(size, args.form)
  elif args.what == 'profile':
    profile(size, args.form, args.keep)
  else:
    sample(size, args.form, args.steps, args.guidance)


if __name__ == '__main__':
  main()
