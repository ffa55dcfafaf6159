"""The denoiser of the paper in NumPy, a row and a window at a time.

Written from section 4 of the paper and the names of the parameters, for
clearness alone; nothing of `walt_jax` is called. Everything is float64.
"""
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

EPSILON = 1e-6  # Of the norms.
Window = tuple[int, int, int]
Params = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the parameters do not say.

  Attributes:
    spatial_window: (1, rows, columns), in tokens.
    spacetime_window: (frames, rows, columns).
    patch: Side of a patch.
    low_res_factor: Factor of the low-resolution latents; 0 without.
    own_text_window: Whether text attention sees each layer's own window.
    activation: 'gelu' or 'relu2'.
    frames: Whether there is an input for given frames.
    self_condition: Whether there is an input for an estimate of x_0.
    linear_skip: Whether the output takes a mix of the inputs.
  """
  spatial_window: Window
  spacetime_window: Window
  patch: int = 1
  low_res_factor: int = 0
  own_text_window: bool = False
  activation: str = 'gelu'
  frames: bool = True
  self_condition: bool = True
  linear_skip: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a batch; None stands for what is not given.

  Attributes:
    x_t: Noisy latents [T, h, w, c].
    timestep: [F] in (0, 1].
    is_image: Whether the frames are independent images.
    label: [F] class ids.
    text: [F, L, W] token states.
    text_mask: [F, L], true at real tokens.
    self_cond: [T, h, w, c].
    frame_cond: [T, h, w, c], zero where nothing is given.
    frame_mask: [T].
    low_res: [T, h/f, w/f, c].
    low_res_level: [F].
    vectors: Embedded conditions [F, D], to be added to that of time.
    tokens: Embedded conditions [F, S, D], to follow the text.
  """
  x_t: np.ndarray
  timestep: np.ndarray
  is_image: bool = False
  label: np.ndarray | None = None
  text: np.ndarray | None = None
  text_mask: np.ndarray | None = None
  self_cond: np.ndarray | None = None
  frame_cond: np.ndarray | None = None
  frame_mask: np.ndarray | None = None
  low_res: np.ndarray | None = None
  low_res_level: np.ndarray | None = None
  vectors: np.ndarray | None = None
  tokens: np.ndarray | None = None


def denoise(params: Params, settings: Settings, row: Row) -> np.ndarray:
  """The output [T, h, w, c] for one row."""
  frames, height, width, channels = row.x_t.shape
  inputs = _inputs(params, settings, row)
  size = settings.patch
  rows, columns = height // size, width // size

  tokens = np.zeros((frames, rows, columns, len(params['position']['time'][0])))
  for t, i, j in np.ndindex(frames, rows, columns):
    patch = inputs[t, i * size:(i + 1) * size, j * size:(j + 1) * size]
    time = params['position']['time'][0 if row.is_image else t]
    tokens[t, i, j] = (_dense(params['patch_projection'], patch.reshape(-1))
                       + params['position']['space'][i, j] + time)

  # One embedding a frame; a video has the same for all.
  embedding = _silu(_global_embedding(params, row, frames))
  text = _text_tokens(params, row, frames)
  pairs = params['layers']['spatial']['mlp']['mlp_in']['bias'].shape[0]
  for pair in range(pairs):
    for kind in ('spatial', 'spacetime'):
      layer = _entry(params['layers'][kind], pair)
      tokens = _layer(params, layer, settings, kind, tokens, embedding, text,
                      row.is_image)

  output = np.zeros_like(row.x_t, dtype=np.float64)
  for t, i, j in np.ndindex(frames, rows, columns):
    shift, scale = np.split(
        _dense(params['final_modulation'], embedding[t]), 2)
    token = _norm(tokens[t, i, j]) * (1 + scale) + shift
    patch = _dense(params['head'], token).reshape(size, size, channels)
    output[t, i * size:(i + 1) * size, j * size:(j + 1) * size] = patch
  if settings.linear_skip:
    parts = [row.x_t]
    if settings.low_res_factor:
      parts.append(_upscaled(params, settings, row))
    for t in range(frames):
      gates = np.split(_dense(params['skip_gates'], embedding[t]), len(parts))
      for gate, part in zip(gates, parts, strict=True):
        output[t] += gate * part[t]
  return output


def _layer(params, layer, settings, kind, x, embedding, text, is_image):
  """A block: attention, text, MLP, each on a residual; x [T, H, W, D]."""
  spacetime = kind == 'spacetime'
  window = settings.spacetime_window if spacetime else settings.spatial_window
  if 'down' in layer['modulation']:  # A_i = A_1 + W_b W_a (c + t).
    vectors = np.stack([
        _dense(params['modulation'], e)
        + e @ layer['modulation']['down']['kernel']
        @ layer['modulation']['up']['kernel'] for e in embedding])
  else:
    vectors = np.stack([_dense(layer['modulation'], e) for e in embedding])
  # [T, 1, 1, D] each.
  shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (
      part[:, None, None] for part in np.split(vectors, 6, axis=-1))

  y = _norm(x) * (1 + scale) + shift
  x = x + gate * _self_attention(
      layer['attention'], window, y, identity=is_image and spacetime)
  if text is not None:
    y = _norm(x, layer['cross_norm'])
    x = x + _text_attention(
        layer['cross_attention'],
        window if settings.own_text_window else settings.spatial_window, y,
        *text)
  y = _norm(x) * (1 + mlp_scale) + mlp_shift
  hidden = _dense(layer['mlp']['mlp_in'], y)
  hidden = (_gelu(hidden) if settings.activation == 'gelu'
            else np.maximum(hidden, 0) ** 2)
  return x + mlp_gate * _dense(layer['mlp']['mlp_out'], hidden)


def _self_attention(params, window, x, identity):
  """Tokens see their own window; with `identity` themselves alone."""
  out = np.zeros_like(x)
  for places in _windows(x.shape[:3], window):
    inside = np.stack([x[place] for place in places])
    query, key, value = _heads(params, inside, inside)
    bias = np.zeros((query.shape[1], len(places), len(places)))
    if 'relative_bias' in params:
      for a, b in np.ndindex(len(places), len(places)):
        offset = [i - j + extent - 1 for i, j, extent in zip(
            places[a], places[b], window, strict=True)]
        bias[:, a, b] = params['relative_bias'][tuple(offset)]
    seen = (value if identity else
            _attend(query, key, value, bias, np.ones(len(places), bool)))
    for place, token in zip(places, _merged(params, seen), strict=True):
      out[place] = token
  return out


def _text_attention(params, window, x, text, mask):
  """Keys and values are concat(tokens of the query's window, text)."""
  out = np.zeros_like(x)
  for places in _windows(x.shape[:3], window):
    inside = np.stack([x[place] for place in places])
    frame = places[0][0]
    query, key, value = _heads(
        params, inside, np.concatenate([inside, text[frame]]))
    seen = np.concatenate([np.ones(len(places), bool), mask[frame]])
    for place, token in zip(places, _merged(params, _attend(
        query, key, value, 0, seen)), strict=True):
      out[place] = token
  return out


def _windows(grid, window):
  """Lists of the places (t, i, j) of each window, in raster order."""
  for corner in np.ndindex(*(
      extent // size for extent, size in zip(grid, window, strict=True))):
    yield [tuple(np.multiply(corner, window) + inner)
           for inner in np.ndindex(*window)]


def _heads(params, tokens, context):
  """Queries [L, K, d], keys and values [S, K, d]; normalised if they are."""
  project = lambda name, x: (
      np.einsum('ld,dke->lke', x, params[name]['kernel'])
      + params[name]['bias'])
  query, key = project('query', tokens), project('key', context)
  if 'query_norm' in params:
    query = _norm(query) * params['query_norm']['scale']
    key = _norm(key) * params['key_norm']['scale']
  return query, key, project('value', context)


def _attend(query, key, value, bias, seen):
  """softmax(q k / sqrt(d) + bias) v over the keys that are seen."""
  logits = np.einsum('lkd,skd->kls', query, key) / np.sqrt(query.shape[-1])
  logits = np.where(seen, logits + bias, -np.inf)
  weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
  weights /= weights.sum(axis=-1, keepdims=True)
  return np.einsum('kls,skd->lkd', weights, value)


def _merged(params, heads):
  return np.einsum('lkd,kde->le', heads, params['out']['kernel']) + (
      params['out']['bias'])


def _inputs(params, settings, row):
  """Channels: noisy latents, own estimate, given frames, mask, low."""
  zeros = np.zeros_like(row.x_t)
  parts = [row.x_t]
  if settings.self_condition:
    parts.append(zeros if row.self_cond is None else row.self_cond)
  if settings.frames:
    parts.append(zeros if row.frame_cond is None else row.frame_cond)
    mask = zeros[..., :1].copy()
    if row.frame_mask is not None:
      mask += row.frame_mask[:, None, None, None]
    parts.append(mask)
  if settings.low_res_factor:
    parts.append(_upscaled(params, settings, row))
  return np.concatenate(parts, axis=-1)


def _upscaled(params, settings, row):
  """A 3x3 convolution of each frame (zeros outside), then depth to space."""
  factor = settings.low_res_factor
  frames, height, width, channels = row.x_t.shape
  low = (np.zeros((frames, height // factor, width // factor, channels))
         if row.low_res is None else row.low_res)
  conv = params['low_res_upscaler']['conv']
  padded = np.pad(low, ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = np.zeros(row.x_t.shape)
  for t, i, j in np.ndindex(low.shape[:3]):
    cell = np.einsum('abc,abcd->d', padded[t, i:i + 3, j:j + 3],
                     conv['kernel']) + conv['bias']
    out[t, i * factor:(i + 1) * factor, j * factor:(j + 1) * factor] = (
        cell.reshape(factor, factor, channels))
  return out


def _global_embedding(params, row, frames):
  """[T, D]: time, label, noise level and own conditions, added up."""
  spread = lambda x: np.broadcast_to(x, (frames, *x.shape[1:]))
  total = spread(np.stack([
      _time(params['time_embedding'], t) for t in row.timestep]))
  if 'label_embedding' in params:
    table = params['label_embedding']['embedding']
    none = np.array([len(table) - 1])  # The last entry is no class.
    total = total + spread(table[none if row.label is None else row.label])
  if 'noise_level_embedding' in params:
    level = np.zeros(1) if row.low_res_level is None else row.low_res_level
    total = total + spread(np.stack([
        _time(params['noise_level_embedding'], t) for t in level]))
  if row.vectors is not None:
    total = total + spread(row.vectors)
  return total


def _time(params, timestep):
  """128 cosines and 128 sines of 1000 t, periods from 2 pi to 10000 of it."""
  angles = 1000 * timestep / 10_000 ** (np.arange(128) / 128)
  features = np.concatenate([np.cos(angles), np.sin(angles)])
  return _dense(params['dense_hidden'],
                _silu(_dense(params['dense_in'], features)))


def _text_tokens(params, row, frames):
  """Tokens [T, S, D] that each frame sees, and their mask; or None."""
  found = []
  if 'text_projection' in params:
    if row.text is not None:
      mask = (np.ones(row.text.shape[:2], bool) if row.text_mask is None
              else row.text_mask)
      found.append((_norm(_dense(params['text_projection'], row.text),
                          params['text_norm']), mask))
    else:
      width = params['text_norm']['scale'].shape[0]
      found.append((np.zeros((1, 0, width)), np.zeros((1, 0), bool)))
  if row.tokens is not None:
    found.append((row.tokens, np.ones(row.tokens.shape[:2], bool)))
  if not found:
    return None
  spread = lambda x: np.broadcast_to(x, (frames, *x.shape[1:]))
  return tuple(np.concatenate([spread(part) for part in parts], axis=1)
               for parts in zip(*found, strict=True))


def _entry(tree, index):
  """The parameters of one of the layers that are stacked."""
  if isinstance(tree, Mapping):
    return {name: _entry(value, index) for name, value in tree.items()}
  return tree[index]


def _dense(params, x):
  return x @ params['kernel'] + params['bias']


def _norm(x, params=None):
  """LayerNorm over the last axis."""
  x = x - x.mean(axis=-1, keepdims=True)
  x = x / np.sqrt((x ** 2).mean(axis=-1, keepdims=True) + EPSILON)
  return x if params is None else x * params['scale'] + params['bias']


def _silu(x):
  return x / (1 + np.exp(-x))


def _gelu(x):
  """The form with tanh (1606.08415)."""
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))
