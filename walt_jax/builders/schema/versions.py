"""What the configs of earlier versions mean to this one.

`config.json` holds every key that its version knew, and the version. A key
that it lacks came later: it counts as what runs did before there was that key.
That is the key's default, unless `BEFORE` says otherwise. A default may change
only with a new version, whose entry here has the one before.
"""
from collections.abc import Mapping
import copy
from typing import Any

from walt_jax.builders import sections
from walt_jax.builders.schema import experiment

VERSION = 1
# By version, the keys that came or whose default changed with it, and what
# runs of earlier versions did that lack them. Runs of version 0, which wrote
# down no version, did what the defaults of version 1 say.
BEFORE: Mapping[int, Mapping[str, Any]] = {}


def completed(values: Mapping[str, Any], version: int) -> dict[str, Any]:
  """A saved config with the keys that came after it.

  Args:
    values: What `config.json` holds.
    version: Its version.
  """
  result = copy.deepcopy(dict(values))
  for later in range(version + 1, VERSION + 1):
    for key, value in BEFORE.get(later, {}).items():
      *parents, leaf = key.split('.')
      section: Any = result
      for name in parents:
        section = section.get(name) if isinstance(section, dict) else None
      if isinstance(section, dict) and experiment.default(
          values.get('stage'), key.split('.')) is not sections.MISSING:
        section.setdefault(leaf, value)
  return experiment.with_defaults(result)
