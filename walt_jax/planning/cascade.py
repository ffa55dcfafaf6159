"""What drawing clips by all stages of a cascade takes: memory and time."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from walt_jax.builders import absent_runs
from walt_jax.builders import pipelines
from walt_jax.builders import sampling_meshes
from walt_jax.builders import schema
from walt_jax.parallel import compiler_options
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot
from walt_jax.planning import drawing
from walt_jax.planning import places
from walt_jax.planning import programs


def cascade_plan(
    names: Sequence[str], configs: Sequence[schema.DenoiserExperiment],
    topology: str, num_samples: int, asked: Mapping[str, int] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
  """Compiles all that `walt sample` of a cascade runs, for absent devices.

  Stages run one after the other and give their weights back, so that memory is
  what the largest program needs, and the time of a batch is the sum.

  Args:
    names: What the user calls the configs.
    configs: The base, then each super-resolution stage in order.
    topology: Such as 'v5e:2x2'.
    num_samples: Clips that are drawn at once.
    asked: Sizes of axes of the mesh, as `walt sample --mesh` takes them; None:
      the base's own.
    report: Called with a line before long work.

  Returns:
    Plain JSON values, as `topology_plan.topology_plan` gives them.

  Raises:
    UserError: If there is no such topology, the stages do not follow each
      other, or a config does not fit the mesh.
  """
  pipelines.check_chain(names, configs)
  place = places.get(topology)
  mesh = sampling_meshes.sampling_mesh(configs[0], asked, place.devices)
  platform = mesh_lib.platform(mesh)
  runs = [absent_runs.absent_run(config, mesh, num_samples=num_samples)
          for config in configs]
  stages = []
  for name, config, run in zip(names, configs, runs, strict=True):
    report(f'compiling the sampler of {run.num_samples} samples of {name} for '
           f'{place.name}, {mesh_lib.words(mesh)}; weights: '
           f'{sampling_meshes.weights_words(config, mesh)}')
    stages.append(drawing.Stage(config, run, programs.compiled(
        programs.Program(f'sampler of {name}', run.trace_sampler()), place,
        aot.DEFAULT_EFFORT)))
  report(f'compiling text encoder and decoder for {place.name}')
  found = drawing.drawing(stages, place)
  return dict(
      topology=place.name, chip=place.chip.name, num_chips=place.num_chips,
      mesh=dict(mesh.shape), compiler_options=compiler_options.of(platform),
      prediction_notes=list(place.notes),
      programs=[stage.sampler.as_json() for stage in stages]
      + found['programs'], drawing=found['drawing'])
