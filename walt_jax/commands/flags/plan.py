"""Flags of `walt plan`."""
from typing import Any

from walt_jax.commands.flags import config
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt plan`."""
  parser = commands.add_parser(
      'plan', help='parameters, FLOPs and memory of a config, without running '
      'it',
      description='Counts what a config takes: parameters by part, FLOPs of a '
      'training step and of a sample, tokens; for a tokenizer also its '
      'receptive field and compression. With a topology, compiles the train '
      'step and the sampler for that absent TPU slice (extra "tpu_plan"): '
      'memory by part, collectives, a roofline. Nothing is allocated.')
  config.add(parser)
  add = parser.add_argument
  add('--topology', metavar='NAME',
      help='v4, v5e, v5p, v6e or tpu7x and a shape, such as v5p:4x4x4; or '
      'gpu:N, for an estimate of memory')
  add('--sweep', action='store_true',
      help='compare meshes and remat policies on the topology; recommends one')
  add('--num_compiled', type=values.positive_int, default=4, metavar='N',
      help='layouts that --sweep compiles, the most promising first (4)')
  add('--largest_batch', action='store_true',
      help='search for the largest global batch that fits; some compilations')
  add('--no_sampler', action='store_true', help='compile the train step alone')
  add('--no_train_step', action='store_true',
      help='compile the sampler alone (of a tokenizer: decoding)')
  add('--json', metavar='FILE', help='write the figures here')
  add('--html', metavar='FILE', help='write a page here')
  parser.set_defaults(module='walt_jax.commands.plan')
