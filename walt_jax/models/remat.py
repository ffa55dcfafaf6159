"""Named policies: what a layer keeps for the backward pass.

'none' keeps everything. The others recompute what they do not keep:
'matmuls' keeps the results of matrix products with weights, 'minimal' those
of attention and the MLP's input alone, 'full' nothing but the layer's input;
'offload' keeps what 'minimal' does in host memory.
"""
from collections.abc import Callable

from flax import linen as nn
import jax

# Names of intermediate results (`jax.ad_checkpoint.checkpoint_name`).
ATTENTION_OUTPUT = 'attention_output'
# Before the output projection, and what its kernels keep beside it.
ATTENTION_CONTEXT = 'attention_context'
ATTENTION_LOG_SUM = 'attention_log_sum'
MLP_HIDDEN = 'mlp_hidden'

_policies = jax.checkpoint_policies
POLICIES = {
    'none': None,
    'matmuls': _policies.dots_with_no_batch_dims_saveable,
    'minimal': _policies.save_only_these_names(ATTENTION_OUTPUT, MLP_HIDDEN),
    'full': _policies.nothing_saveable,
    'offload': _policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[ATTENTION_OUTPUT, MLP_HIDDEN],
        offload_src='device', offload_dst='pinned_host'),
}


def rematerialise(
    module: Callable[..., nn.Module], policy: str, *, prevent_cse: bool,
) -> Callable[..., nn.Module]:
  """Wraps a module class so that its calls keep what the policy says.

  Args:
    module: The class.
    policy: A name of `POLICIES`.
    prevent_cse: Needed outside of a loop, where the compiler would merge the
      recomputation with the first computation.
  """
  if policy not in POLICIES:
    raise ValueError(f'Unknown remat policy {policy!r}; choose of '
                     f'{tuple(POLICIES)}.')
  if policy == 'none':
    return module
  return nn.remat(module, policy=POLICIES[policy], prevent_cse=prevent_cse)
