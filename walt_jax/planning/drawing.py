"""All that drawing clips runs: text encoder, sampler, decoder; time, memory."""
from collections.abc import Sequence
import dataclasses
from typing import Any

from walt_jax.builders import absent_drawing
from walt_jax.builders import absent_encoders
from walt_jax.builders import absent_runs
from walt_jax.builders import schema
from walt_jax.parallel import device_memory
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot
from walt_jax.planning import places
from walt_jax.planning import programs

TEXT = 'text encoder'


@dataclasses.dataclass(frozen=True)
class Part:
  """A program of drawing a batch, and how often it runs.

  Attributes:
    found: What is known of it.
    times: Runs for the batch.
  """
  found: programs.Found
  times: int

  @property
  def seconds(self) -> float | None:
    """Predicted for the batch; None where nothing supports it."""
    one = self.found.seconds
    return None if one is None else self.times * one


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage that draws.

  Attributes:
    config: Its config.
    run: Its sampler on absent devices.
    sampler: The same, compiled.
  """
  config: schema.DenoiserExperiment
  run: absent_runs.AbsentRun
  sampler: programs.Found


def drawing(stages: Sequence[Stage], place: places.Place) -> dict[str, Any]:
  """Compiles what `walt sample` runs beside the samplers.

  Args:
    stages: A denoiser, or the stages of a cascade; the last is decoded.
    place: The devices.

  Returns:
    Plain JSON values: `programs` to append to those of the plan, and
    `drawing`, of which docs/scaling.md tells the keys.
  """
  run = stages[-1].run
  platform = mesh_lib.platform(run.mesh)
  encoders = absent_encoders.absent_encoders(stages[-1].config, platform)
  parts = [Part(stage.sampler, 1) for stage in stages]
  # Every stage with text encodes the prompt; all have the same encoder.
  texts = [stage.config for stage in stages if stage.config.text.name]
  if texts:
    text = absent_drawing.text_program(
        absent_encoders.absent_encoders(texts[0], platform), run.mesh)
    assert text is not None
    parts.insert(0, Part(programs.compiled(
        programs.Program(TEXT, text), _one_device(place),
        aot.DEFAULT_EFFORT), len(texts)))
  choice, decoding = _decoder(encoders, run, place)
  parts += decoding
  devices = place.chip.num_devices
  seconds = [part.seconds for part in parts]
  known = [one for one in seconds if one is not None]
  needed = max(part.found.compiled.needed_bytes for part in parts)
  return dict(
      programs=[part.found.as_json() for part in parts
                if all(part.found is not stage.sampler for stage in stages)],
      drawing=dict(
          num_samples=run.num_samples, decoding=choice.form.words,
          tokenizer=encoders.source,
          fits=all(part.found.fits for part in parts),
          hbm_needed_bytes=devices * needed,
          hbm_capacity_bytes=place.chip.hbm_bytes,
          predicted_seconds=(sum(known) if len(known) == len(parts)
                             else None),
          parts=[dict(name=part.found.name, times=part.times,
                      predicted_seconds=part.seconds,
                      hbm_needed_bytes=(
                          devices * part.found.compiled.needed_bytes))
                 for part in parts]))


def _decoder(encoders: absent_encoders.AbsentEncoders,
             run: absent_runs.AbsentRun, place: places.Place):
  """The first form of decoding that fits, compiled; else the last one."""
  free = device_memory.usable(place.chip.hbm_bytes // place.chip.num_devices)
  for decoder in absent_drawing.decoders(
      encoders, run.mesh, run.num_samples, free):
    found = [
        Part(programs.compiled(
            programs.Program(name, traced),
            _some_devices(place, decoder.choice.num_devices),
            # As for a tokenizer's own programs, see `compiler_effort`.
            aot.LOWEST_EFFORT), times)
        for name, (traced, times) in decoder.programs.items()]
    if all(part.found.fits for part in found):
      break
  return decoder.choice, found


def _one_device(place: places.Place) -> places.Place:
  return _some_devices(place, 1)


def _some_devices(place: places.Place, count: int) -> places.Place:
  """A part of a place, for programs that the other devices do not run."""
  return place if count == len(place.devices) else dataclasses.replace(
      place, num_chips=count // place.chip.num_devices or 1)


def table(found: dict[str, Any]) -> list[str]:
  """Lines about `drawing`, as it stands in a plan."""
  seconds = found['predicted_seconds']
  lines = [
      f'drawing {found["num_samples"]} clips: '
      f'{found["hbm_needed_bytes"] / 2**30:.2f} GiB, '
      f'{"fits" if found["fits"] else "does not fit"}; '
      f'{"no prediction" if seconds is None else f"{seconds:.4g} s"}; '
      f'decoding {found["decoding"]}']
  for part in found['parts']:
    one = part['predicted_seconds']
    lines.append(
        f'  {part["name"]:<40} x {part["times"]:<4} '
        f'{part["hbm_needed_bytes"] / 2**30:.2f} GiB, '
        f'{"no prediction" if one is None else f"{one:.4g} s"}')
  return lines
