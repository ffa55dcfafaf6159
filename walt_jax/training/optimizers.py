"""Optimizers, their schedules, and gradients in parts of a batch."""
from collections.abc import Callable
import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import optax

from walt_jax.core import ranges
from walt_jax.parallel import rules as partition
from walt_jax.training import adafactor
from walt_jax.training import muon

PyTree = Any
LearningRate = Annotated[float, ranges.Range(0, 10)]


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
  """Everything that decides an update from gradients.

  Attributes:
    name: Optimizer: 'adamw', 'adafactor', or 'muon' (for the large matrices of
      the stacked layers, with AdamW's rates and sizes of updates; AdamW for
      the rest).
    peak_lr: Rate after the warm-up.
    muon_lr_ratio: Rate of Muon's matrices, as a multiple of that of the rest.
    schedule: Course of the rate after the warm-up: 'cosine', 'constant', or
      'linear' (constant, then a straight line to the end over the last
      `decay_fraction` of `decay_steps`).
    warmup_steps: Steps of linear growth from 0.
    decay_steps: The schedule's horizon, warm-up included. It, not the number of
      steps trained, sets the rate: a run may stop and continue.
    decay_fraction: Share of `decay_steps` that decays, for 'linear'.
    final_lr: Rate at and after `decay_steps`, as a part of `peak_lr`.
    clip_norm: Bound of the global gradient norm; 0: none.
    b1: Decay of the first moment; Adafactor keeps none where it is 0.
    b2: Decay of the second moment (AdamW).
    eps: Term that AdamW adds to the root of the second moment.
    weight_decay: Decoupled weight decay, of matrices alone.
    parameter_scale: Adafactor: whether the rate is scaled by the size of each
      parameter.
    min_factored: Adafactor: smallest side of a matrix that is factored.
    accumulation_steps: Parts of the batch that are taken one after the other
      to save memory; their gradients are averaged for one update.
  """
  name: Literal['adamw', 'adafactor', 'muon'] = 'adamw'
  peak_lr: LearningRate = 5e-4
  muon_lr_ratio: Annotated[float, ranges.Range(0, 1_000)] = 1.0
  schedule: Literal['cosine', 'constant', 'linear'] = 'cosine'
  warmup_steps: ranges.Natural = 5_000
  decay_steps: ranges.Natural = 60_000
  decay_fraction: ranges.SomeFraction = 0.4
  final_lr: ranges.Fraction = 0.0
  clip_norm: ranges.Rate = 1.0
  b1: ranges.Decay = 0.9
  b2: ranges.Decay = 0.99
  eps: ranges.SomeFraction = 1e-8
  weight_decay: LearningRate = 0.0
  parameter_scale: bool = False
  min_factored: ranges.Count = 128
  accumulation_steps: ranges.Rows = 1

  def __post_init__(self):
    if self.name not in ('adamw', 'adafactor', 'muon'):
      raise ValueError(f'optimizer.name={self.name!r} is none of adamw, '
                       'adafactor, muon.')
    if self.schedule not in ('cosine', 'constant', 'linear'):
      raise ValueError(f'optimizer.schedule={self.schedule!r} is none of '
                       'cosine, constant, linear.')
    if self.schedule != 'constant' and self.decay_steps <= self.warmup_steps:
      raise ValueError(
          f'optimizer.decay_steps={self.decay_steps} must be above '
          f'optimizer.warmup_steps={self.warmup_steps}.')
    if not 0 < self.decay_fraction <= 1:
      raise ValueError(f'optimizer.decay_fraction={self.decay_fraction} is '
                       'not in (0, 1].')
    if self.accumulation_steps < 1:
      raise ValueError(f'optimizer.accumulation_steps='
                       f'{self.accumulation_steps} must be at least 1.')


def learning_rate(options: OptimizerOptions) -> optax.Schedule:
  """Returns the rate of the update that is `step` (from 0)."""
  peak = options.peak_lr
  warmup, end = options.warmup_steps, options.decay_steps

  def rate(step):
    step = jnp.asarray(step, jnp.float32)
    # The very first update already moves: its rate is peak / warmup.
    grow = jnp.minimum((step + 1) / max(warmup, 1), 1.0)
    if options.schedule == 'constant':
      return peak * grow
    if options.schedule == 'cosine':
      done = jnp.clip((step - warmup) / (end - warmup), 0, 1)
      shape = 0.5 * (1 + jnp.cos(jnp.pi * done))
    else:
      length = min(options.decay_fraction * end, end - warmup)
      shape = jnp.clip((end - step) / length, 0, 1)
    return peak * grow * (options.final_lr + (1 - options.final_lr) * shape)

  return rate


def make_optimizer(
    options: OptimizerOptions, rules: partition.Rules
) -> optax.GradientTransformation:
  """Builds clipping, the optimizer and its schedule.

  Args:
    options: See `OptimizerOptions`.
    rules: Partition rules of the parameters; they tell which leaves are
      matrices (weight decay, Adafactor) and which axes are layers.
  """
  parts = []
  if options.clip_norm:
    parts.append(optax.clip_by_global_norm(options.clip_norm))
  adam = optax.scale_by_adam(
      options.b1, options.b2, options.eps, mu_dtype=jnp.float32)
  if options.name == 'adamw':
    parts.append(adam)
  elif options.name == 'muon':
    parts.append(optax.partition(
        dict(muon=muon.scale_by_muon(rules, options.muon_lr_ratio), adam=adam),
        lambda params: jax.tree.map(
            lambda hidden: 'muon' if hidden else 'adam',
            muon.is_hidden(params, rules))))
  else:
    parts.append(adafactor.scale_by_adafactor(
        rules, min_factored=options.min_factored))
    if options.parameter_scale:
      parts.append(adafactor.scale_by_parameter_size(rules))
    if options.b1:
      parts.append(optax.ema(options.b1, debias=False))
  if options.weight_decay:
    parts.append(optax.add_decayed_weights(
        options.weight_decay, mask=lambda params: _is_matrix(params, rules)))
  parts.append(optax.scale_by_learning_rate(learning_rate(options)))
  return optax.chain(*parts)


def _is_matrix(params: PyTree, rules: partition.Rules) -> PyTree:
  def is_matrix(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return partition.matrix_axes(name, leaf.ndim, rules)[1] > 0
  return jax.tree_util.tree_map_with_path(is_matrix, params)


def value_and_grad(
    loss_fn: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]],
    num_parts: int = 1, apart: str | None = None,
):
  """Returns `(params, batch, key) -> ((loss, metrics), gradients)`.

  With more than one part the rows of the batch go through `loss_fn` in equal
  parts, one after the other, and losses, metrics and gradients are averaged:
  memory of a part, gradient of the whole. Part i takes the rows i, i + n, ...,
  so that a batch sharded over devices stays where it is.

  Args:
    loss_fn: `loss_fn(params, batch, key) -> (mean loss, metrics)`. Every part
      gets the same key: draws must depend on the rows' own numbers.
    num_parts: n; must divide every row count.
    apart: Axis of the mesh over which rows are cut and parts are not reduced:
      sums over it, of gradients as of losses and metrics, are left for the end.
      None leaves it to the compiler, which reduces the gradients of each part.
  """
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  if num_parts == 1:
    return grad_fn

  def split(rows):
    if rows.shape[0] % num_parts:
      raise ValueError(f'{rows.shape[0]} rows cannot be cut into {num_parts} '
                       'equal parts.')
    return jnp.swapaxes(
        rows.reshape(-1, num_parts, *rows.shape[1:]), 0, 1)

  def accumulated(params, batch, key):
    def add(total, part):
      out = grad_fn(params, part, key)
      return jax.tree.map(lambda t, o: t + o / num_parts, total, out), None

    parts = jax.tree.map(split, batch)
    shapes = jax.eval_shape(
        grad_fn, params, jax.tree.map(lambda rows: rows[0], parts), key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts)
    return total

  if apart is None:
    return accumulated

  def reduced_once(params, batch, key):
    def on_part_of_axis(params, batch, key):
      with partition.without_axis(apart):
        return jax.lax.pmean(accumulated(params, batch, key), apart)

    return jax.shard_map(
        on_part_of_axis, in_specs=(P(), P(apart), P()), out_specs=P(),
        axis_names={apart}, check_vma=False)(params, batch, key)

  return reduced_once
