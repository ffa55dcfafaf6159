"""Whether a network of fused kernels equals the plain one on this device.

  python -m benchmarks.accelerator.network --size l --form $FORM

Loss and gradients of a shallow denoiser with random parameters (a new one's
gates are closed), in bfloat16, of the form and of the plain form, each against
the plain form in float32: so attention, norms, sums, GELU and all that a
compiler puts around them are held at once.
"""
import argparse
import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerator import child
from benchmarks.accelerator import programs

_DEPTH = 4
_NOISE = 0.03  # Of every parameter, beside its first value.


def compare(size: programs.Size, form: programs.Form) -> dict[str, Any]:
  """Errors of loss and gradients of a form, and of the plain form."""
  size = dataclasses.replace(size, depth=min(size.depth, _DEPTH))
  plain = programs.Form('xla', 'plain', form.remat, form.unroll)
  objective = programs.objective(size, plain)
  truth = dataclasses.replace(
      objective, denoiser=objective.denoiser.clone(dtype=jnp.float32))
  params = _random_params(size, plain)
  batch = programs.random_batch(size)
  results = lambda objective: jax.jit(jax.value_and_grad(
      lambda p: objective.loss(p, batch, jax.random.key(2))[0]))(params)
  with jax.default_matmul_precision('highest'):
    loss, gradients = results(truth)
  return dict(loss=float(loss)) | {
      name: _errors(results(programs.objective(size, used)), loss, gradients)
      for name, used in (('form', form), ('plain', plain))}


def _random_params(size: programs.Size, form: programs.Form) -> Any:
  params = programs.train_program(size, form).init(jax.random.key(0)).params
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return tree.unflatten([
      leaf + _NOISE * jax.random.normal(key, leaf.shape)
      for leaf, key in zip(leaves, keys, strict=True)])


def _errors(found, loss, gradients) -> dict[str, Any]:
  """Of the loss, and of the gradients as shares of their norms."""
  norm = lambda x: jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum())
  shares = jax.tree.map(lambda a, b: float(norm(a - b) / norm(b)), found[1],
                        gradients)
  named = {jax.tree_util.keystr(path): share for path, share in
           jax.tree_util.tree_leaves_with_path(shares)}
  largest = sorted(named, key=lambda name: -named[name])[:3]
  return dict(
      loss_error=float(jnp.abs(found[0] - loss)),
      median_gradient_error=sorted(named.values())[len(named) // 2],
      largest_gradient_errors={name: named[name] for name in largest})


def main() -> None:
  """Prints one row."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--form', type=child.parse_form, required=True)
  parser.add_argument('--size', choices=programs.SIZES, required=True)
  args = parser.parse_args()
  print(json.dumps(
      dict(device=jax.devices()[0].device_kind, jax=jax.__version__)
      | compare(programs.SIZES[args.size], args.form)), flush=True)


if __name__ == '__main__':
  main()
