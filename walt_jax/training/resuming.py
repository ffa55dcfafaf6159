"""Which configs may continue a run that was begun with another."""
from collections.abc import Mapping
import json
import re
from typing import Any

from walt_jax.core import errors

# Keys that a resumed run may set otherwise: they do not change what is learnt
# by which step. `optimizer.decay_steps`, not `train.num_steps`, sets the rate.
_FREE_KEYS = re.compile(
    r'^(train|mesh|sampler|derived\.frame_rate)(\.|$)'
    r'|^tokenizer\.encode_rows$'
    r'|^model\.(attention_form|passes_form|remat_policy|scan_unroll)$'
    r'|(^|[._])(num_workers|workers|path|workdir|dir)$')


def check_resume(saved: Mapping[str, Any], new: Mapping[str, Any]) -> None:
  """Refuses to continue with a config that another run was begun with.

  Only `train.*`, `sampler.*`, `mesh`, how layers are executed, worker counts
  and paths may differ.

  Raises:
    UserError: Names the first key that differs, both values, and the fix.
  """
  old, now = _flat(saved), _flat(new)
  for key in sorted(old.keys() | now.keys()):
    if old.get(key) == now.get(key) and (key in old) == (key in now):
      continue
    if not _FREE_KEYS.search(key):
      was = json.dumps(old[key]) if key in old else 'absent'
      wants = json.dumps(now[key]) if key in now else 'absent'
      raise errors.UserError(
          f'config key {key} is {wants} but the work directory was begun with '
          f'{was}; set --config.{key}={was} or use a new --workdir')


def _flat(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Returns {'a.b': value}; tuples and lists compare equal."""
  if isinstance(tree, Mapping) and tree:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
      flat |= _flat(value, f'{prefix}.{key}' if prefix else str(key))
    return flat
  return {prefix: json.loads(json.dumps(tree))}
