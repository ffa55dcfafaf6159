"""A training step from clips beside one from a latent cache: time, memory.

The encoders are frozen, but they are part of a step that trains from clips;
from a cache they are a pass over small arrays.
"""
import dataclasses
from typing import Any

import jax

from walt_jax.builders import absent_encoders
from walt_jax.builders import absent_runs
from walt_jax.builders import schema
from walt_jax.core import types
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot
from walt_jax.planning import counting
from walt_jax.planning import programs

ENCODER = 'encoder'
CACHED_ENCODER = 'encoder, from a latent cache'
CLIPS, CACHE = 'clips', 'latent cache'
# Above this share of a step the encoders had better run once.
_WORTH_CACHING = .1


def costs(config: schema.Experiment, model_flops: int) -> dict[str, Any]:
  """What encoding a batch of clips takes, from shapes alone.

  Args:
    config: Config of any stage; a tokenizer's has no encoders.
    model_flops: FLOPs of a training step without them.

  Returns:
    Plain JSON values: `tokenizer` (where its sizes are from),
    `flops_per_step`, `share_of_model_flops`, `cache_bytes_per_clip` and
    `train_from`, by FLOPs.

  Raises:
    UserError: See `absent_encoders.absent_encoders`.
  """
  if not isinstance(config, schema.DenoiserExperiment):
    return {}
  # Counts do not depend on the platform; this one's forms are plain products.
  encoders = absent_encoders.absent_encoders(config, 'cpu')
  # One row at a time is traced the quickest, and the loop counts them.
  flops = counting.product_flops(
      encoders.encoder(num_shards=1, rows_at_once=1), encoders.shapes,
      encoders.batch(cached=False), jax.eval_shape(lambda: jax.random.key(0)))
  share = flops / model_flops
  return dict(encoder=dict(
      tokenizer=encoders.source, flops_per_step=flops,
      share_of_model_flops=share,
      cache_bytes_per_clip=encoders.cache_bytes_per_clip,
      train_from=_advice(config, share)))


def _advice(config: schema.DenoiserExperiment, share: float) -> str:
  """What to train from, where encoders take a share of the model's part."""
  return (CACHE if reads_cache(config) or share > _WORTH_CACHING else CLIPS)


def reads_cache(config: schema.DenoiserExperiment) -> bool:
  """Whether a config's data are a latent cache already."""
  return config.data.name == 'latents'


@dataclasses.dataclass(frozen=True)
class Step:
  """A training step from one kind of data, on one device.

  Attributes:
    fits: Whether both of its programs fit, beside what lies there meanwhile.
    needed_bytes: The larger of the two.
    parts: Bytes beside those of the train step's own program.
    seconds: Predicted, no collective hidden; None where nothing supports it.
    overlapped_seconds: The same with collectives hidden.
    encoder_seconds: The encoder's part of `seconds`.
  """
  fits: bool
  needed_bytes: int
  parts: dict[str, int]
  seconds: float | None
  overlapped_seconds: float | None
  encoder_seconds: float | None

  def as_json(self, num_devices: int) -> dict[str, Any]:
    """Plain values; bytes are of a chip of `num_devices`."""
    return dict(
        fits=self.fits, hbm_needed_bytes=num_devices * self.needed_bytes,
        predicted_seconds=self.seconds,
        predicted_overlapped_seconds=self.overlapped_seconds,
        predicted_encoder_seconds=self.encoder_seconds)


class Steps:
  """Compiles encoders and adds them to a train step."""

  def __init__(self, config: schema.DenoiserExperiment,
               run: absent_runs.AbsentRun, train_step: programs.Found,
               effort: float):
    """Compiles nothing yet.

    Args:
      config: The config.
      run: Its train step on absent devices.
      train_step: The same, compiled.
      effort: Effort of the compiler for speed, see `aot`.
    """
    self._run, self._train_step, self._effort = run, train_step, effort
    self._encoders = absent_encoders.absent_encoders(
        config, mesh_lib.platform(run.mesh))

  def encoder(self, *, cached: bool) -> programs.Found:
    """Compiles the encoder of one kind of data."""
    return programs.compiled(
        programs.Program(CACHED_ENCODER if cached else ENCODER,
                         self._encoders.trace(self._run, cached=cached)),
        self._train_step.place, self._effort)

  def step(self, encoder: programs.Found, *, cached: bool) -> Step:
    """A step: what `encoder` makes, and the train step that takes it.

    The weights of both and the state stay in memory while either runs, and
    the batch that comes next lies there already.
    """
    state = aot.device_bytes(self._run.state, self._run.shardings)
    shardings = self._encoders.shardings(self._run.mesh)
    frozen = aot.device_bytes(self._encoders.shapes, shardings)
    used = _used(self._encoders.shapes, cached=cached)
    unused = frozen - aot.device_bytes(
        *(_chosen(tree, used) for tree in (self._encoders.shapes, shardings)))
    waiting = self._batch_bytes(cached)
    train = self._train_step
    while_training = train.compiled.needed_bytes + frozen + waiting
    while_encoding = encoder.compiled.needed_bytes + state + unused
    needed = max(while_training, while_encoding)
    chip = train.place.chip
    return Step(
        fits=train.fits and encoder.fits and (
            needed * chip.num_devices <= chip.hbm_bytes),
        needed_bytes=needed,
        parts=dict(frozen=frozen, waiting_batch=waiting,
                   encoding=needed - while_training),
        seconds=_sum(train.seconds, encoder.seconds),
        overlapped_seconds=_sum(train.overlapped_seconds,
                                encoder.overlapped_seconds),
        encoder_seconds=encoder.seconds)

  def _batch_bytes(self, cached: bool) -> int:
    """Bytes of the batch that one device holds, as the data come."""
    batch: types.Batch = self._encoders.batch(cached=cached)
    rows = mesh_lib.batch_sharding(self._run.mesh)
    return aot.device_bytes(batch, jax.tree.map(lambda _: rows, batch))


def _used(shapes: dict[str, Any], *, cached: bool) -> list[tuple[str, ...]]:
  """Weights that are inputs of an encoder: those that it computes with."""
  used: list[tuple[str, ...]] = [('tokenizer', 'statistics')]
  if not cached:
    used += [('tokenizer', 'params', 'encoder'), ('text',)]
  return [path for path in used if path[0] in shapes]


def _chosen(tree: Any, paths: list[tuple[str, ...]]) -> list[Any]:
  chosen = []
  for path in paths:
    branch = tree
    for key in path:
      branch = branch[key]
    chosen.append(branch)
  return chosen


def _sum(*seconds: float | None) -> float | None:
  known = [one for one in seconds if one is not None]
  return sum(known) if len(known) == len(seconds) else None


def as_json(config: schema.DenoiserExperiment, steps: dict[str, Step],
            num_devices: int) -> dict[str, Any]:
  """The steps side by side, and by their times what to train from."""
  result: dict[str, Any] = dict(steps={
      name: step.as_json(num_devices) for name, step in steps.items()})
  clips, cache = steps.get(CLIPS), steps.get(CACHE)
  if clips and cache and clips.seconds and cache.seconds:
    result['train_from'] = _advice(
        config, clips.seconds / cache.seconds - 1)
  return result


def table(steps: dict[str, dict[str, Any]]) -> list[str]:
  """Lines about steps, as `as_json` gives them."""
  lines = ['a step from:']
  for name, step in steps.items():
    verdict = 'fits' if step['fits'] else 'does not fit'
    seconds = step['predicted_seconds']
    time = 'no prediction' if seconds is None else (
        f'{step["predicted_overlapped_seconds"]:.4g} - {seconds:.4g} s, of '
        f'which encoding {step["predicted_encoder_seconds"]:.4g} s')
    lines.append(f'  {name:<30} {step["hbm_needed_bytes"] / 2**30:.2f} GiB, '
                 f'{verdict}; {time}')
  return lines
