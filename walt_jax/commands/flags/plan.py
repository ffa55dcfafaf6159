"""Flags of `walt plan`."""
from typing import Any

from walt_jax.commands.flags import config
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs
from walt_jax.commands.flags import values


def add(commands: Any) -> None:
  """Adds `walt plan`."""
  parser = commands.add_parser(
      'plan', help='parameters, FLOPs and memory of a config, without running '
      'it',
      description='Counts what a config takes: parameters by part, FLOPs of a '
      'training step and of a sample, tokens; for a tokenizer also its '
      'receptive field and compression, for a denoiser what encoding its '
      'clips takes. With a topology, compiles the train step, the encoders '
      'and the sampler for those absent TPUs (extra "tpu_plan") or GPUs '
      '(extra "gpu_plan"): memory by part, collectives, a roofline and a '
      'ledger of what every kernel costs. Nothing is allocated.')
  config.add(parser)
  add = parser.add_argument
  add('--topology', metavar='NAME',
      help='TPUs: v4, v5e, v5p, v6e or tpu7x and a shape, such as v5p:4x4x4; '
      'GPUs: h100, h200, b200, a100, l4 or rtx4090 and their number, such as '
      'h100:8, or nodes x GPUs, such as h100:4x8; or gpu:N, for an estimate '
      'of memory without a compiler')
  add('--then', type=values.separated(locations.read), default=[],
      metavar='CONFIG[,CONFIG]', help='super-resolution configs that follow in '
      'a cascade: plans drawing clips by all stages, as `walt sample` does')
  add('--mesh', type=values.mesh, metavar='AXIS=N[,AXIS=N]',
      help='with --then: the mesh to draw on, as `walt sample` takes it')
  add('--ledger', type=values.positive_int, nargs='?', const=20, default=0,
      metavar='N', help='list the N (20) costliest kernels of each program')
  add('--sweep', action='store_true',
      help='compare meshes and remat policies on the topology; recommends one')
  add('--num_compiled', type=values.positive_int, default=4, metavar='N',
      help='layouts that --sweep compiles, the most promising first (4)')
  add('--largest_batch', action='store_true',
      help='search for the largest global batch that fits; some compilations')
  add('--no_encoder', action='store_true',
      help="leave out a denoiser's encoders: steps are then those of a batch "
      'that is encoded already')
  add('--no_sampler', action='store_true', help='do not compile the sampler')
  add('--no_train_step', action='store_true',
      help='compile the sampler alone (of a tokenizer: decoding)')
  add('--num_samples', type=values.positive_int, metavar='N',
      help='samples that are drawn at once (8)')
  add('--json', type=locations.written_file, metavar='FILE',
      help='write the figures here')
  add('--html', type=locations.written_file, metavar='FILE',
      help='write a page here')
  outputs.add_overwrite(parser)
  parser.set_defaults(module='walt_jax.commands.plan')
