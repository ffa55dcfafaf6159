"""One small set of samples, drawn on whatever mesh is asked for.

  python -m tests.e2e.mesh_samples HOST:PORT PROCESS NUM_PROCESSES OUT.npy

draws it as one process of several, on a mesh of all their devices.
"""
import sys

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from tests.e2e import tiny
from walt_jax.builders import config as config_lib
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.core import types
from walt_jax.diffusion import guidance
from walt_jax.diffusion import noise
from walt_jax.diffusion import samplers
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules as partition
from walt_jax.sampling import stage_sampler

ROWS, LATENTS = 8, (2, 4, 4, 3)


def draw_on(mesh: jax.sharding.Mesh) -> np.ndarray:
  """An image first, all conditions, guidance; parameters cut as in training.

  Returns:
    float32 [8, 2, 4, 4, 3], the same in every process.
  """
  model = denoiser_lib.Denoiser(
      width=16, depth=2, num_heads=2, mlp_width=32, patch=1,
      spatial_window=(1, 4, 4), spacetime_window=(2, 2, 2), num_classes=3,
      text_width=6, low_res_factor=2, use_noise_level=True)
  objective = objectives.objective(
      schema.of(config_lib.load(f'{tiny.QUICKSTART}:smoke')), 'cpu')
  random = np.random.default_rng(0)

  def normal(*dims):
    return random.normal(size=dims).astype(np.float32)

  params = jax.tree.map(
      lambda leaf: 0.3 * normal(*leaf.shape), jax.eval_shape(
          model.init, jax.random.key(0), jnp.zeros((1, *LATENTS)),
          jnp.ones((1, 1)), types.Conditioning())['params'])
  conditioning = types.Conditioning(
      label=random.integers(0, 3, (ROWS, 1)).astype(np.int32),
      text=normal(ROWS, 1, 5, 6), text_mask=np.ones((ROWS, 1, 5), bool),
      low_res=normal(ROWS, 2, 2, 2, 3))
  keys = np.asarray(jax.random.key_data(
      noise.row_keys(jax.random.key(1), ROWS)))

  sample = stage_sampler.StageSampler(
      model, objective.schedule, objective.prediction, LATENTS,
      self_condition=True).make(
          samplers.SamplerOptions(num_steps=4, factorized=True),
          guidance.Guidance(text=3.0, label=2.0))

  def draw(params, keys, conditioning):
    return sample(params, jax.random.wrap_key_data(keys), conditioning,
                  jnp.float32(0.2))

  def place(values, shardings):
    return jax.tree.map(
        lambda value, sharding: jax.make_array_from_callback(
            value.shape, sharding, lambda index: value[index]),
        values, shardings)

  cut = partition.tree_shardings(params, mesh, partition.DENOISER_RULES)
  batch = mesh_lib.batch_sharding(mesh)
  rows = jax.tree.map(lambda _: batch, conditioning)
  with partition.activate(mesh):
    drawn = jax.jit(
        draw, in_shardings=(cut, batch, rows), out_shardings=batch)(
            place(params, cut), place(keys, batch), place(conditioning, rows))
  return np.asarray(multihost_utils.process_allgather(drawn, tiled=True))


def main() -> None:
  """Runs one of the processes; process 0 writes."""
  address, process, count, out = sys.argv[1:]
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(address, int(count), int(process))
  drawn = draw_on(mesh_lib.make_mesh(2, 2, 2))
  if jax.process_index() == 0:
    np.save(out, drawn)


if __name__ == '__main__':
  main()
