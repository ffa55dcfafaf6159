"""Named policies: what a layer keeps for the backward pass.

'none' keeps everything. The others recompute what they do not keep. Beside
the layer's input, in units of one tensor of tokens [B, T, H, W, D] and with an
MLP of 4 D:

  'matmuls'  keeps the results of products with weights and the context of
             attention: queries, keys, values, context and its projection (1
             each), the MLP's hidden layer (4) and output (1), 10 units;
  'minimal'  keeps context, hidden layer and output of the MLP, 6 units:
             queries, keys, values and the projection of the context are
             computed again, attention and the MLP's products are not;
  'offload'  keeps what 'minimal' does, in host memory;
  'full'     keeps nothing.

The MLP's output is kept for the gradient of the gate behind it: else the
largest product would run again for that alone. A fused attention kernel names
its context and the log-sum of its softmax in its own forward rule, and so does
not run again. Cross-attention adds another attention to each. The expanded
bias of a window [K, L, L], float32, is kept as well.

Where passes between products are kernels (on a GPU), 'matmuls' keeps their
results too, residual sums, norms and the MLP's activation, and products with
their bias: 18 units. To read them takes less time than to compute them again.
"""
from collections.abc import Callable

from flax import linen as nn
import jax

# Names of intermediate results (`jax.ad_checkpoint.checkpoint_name`).
ATTENTION_CONTEXT = 'attention_context'  # Before its projection.
ATTENTION_LOG_SUM = 'attention_log_sum'  # Of fused attention's softmax.
MLP_HIDDEN = 'mlp_hidden'  # Before the activation.
MLP_OUTPUT = 'mlp_output'
# Of passes that are kernels, with the biases that products take on the way.
PASS_RESULT = 'pass_result'
PROJECTION = 'projection'
RELATIVE_BIAS = 'relative_bias'  # Of every pair of tokens of a window.
_ATTENTION = (ATTENTION_CONTEXT, ATTENTION_LOG_SUM, RELATIVE_BIAS)
_MINIMAL = (*_ATTENTION, MLP_HIDDEN, MLP_OUTPUT)

_policies = jax.checkpoint_policies
POLICIES = {
    'none': None,
    'matmuls': _policies.save_from_both_policies(
        _policies.dots_with_no_batch_dims_saveable,
        _policies.save_only_these_names(
            *_ATTENTION, PASS_RESULT, PROJECTION)),
    'minimal': _policies.save_only_these_names(*_MINIMAL),
    'full': _policies.nothing_saveable,
    'offload': _policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=list(_MINIMAL),
        offload_src='device', offload_dst='pinned_host'),
}


def keeps_passes(policy: str) -> bool:
  """Whether a policy keeps `PASS_RESULT`."""
  return policy in ('none', 'matmuls')


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
