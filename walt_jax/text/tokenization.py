"""Prompts to token ids. Tokenizers can be pickled into data workers."""
import bisect
from collections.abc import Sequence
import contextlib
import os
from typing import Protocol

import numpy as np

from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.core import fetched

_MOST_IDS = 1 << 24


class Tokenizer(Protocol):
  """Cuts prompts into at most `max_tokens` ids, special tokens included."""

  max_tokens: int

  def __call__(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 [N, L] and mask bool [N, L], L = max_tokens."""
    ...

  def full_ids(self, prompt: str) -> list[int]:
    """All ids of a prompt, uncut."""
    ...

  def kept_text(self, prompt: str) -> str:
    """The beginning of the prompt that `max_tokens` ids hold."""
    ...


class WordPieceTokenizer:
  """A `tokenizer.json` of the `tokenizers` library, as MiniLM has."""

  def __init__(self, path: str | os.PathLike, max_tokens: int):
    """Reads the file; its own padding and cutting are switched off."""
    import tokenizers
    if not fetched.local(path).is_file():
      raise errors.UserError(f'no such tokenizer: {path}')
    self._path = str(path)
    with self._explained():
      self._full = tokenizers.Tokenizer.from_file(
          os.fspath(fetched.local(path)))
      self._full.no_padding()
      self._full.no_truncation()
      special = self._full.num_special_tokens_to_add(is_pair=False)
      largest = max(self._full.get_vocab().values(), default=0)
    if largest >= _MOST_IDS:  # The library makes room for each id below.
      raise errors.UserError(f'cannot read the tokenizer {path}: it has the id '
                             f'{largest}; it must be below {_MOST_IDS}')
    if max_tokens <= special:
      raise errors.UserError(f'max_tokens must be above {special}, the number '
                             f'of special tokens, got {max_tokens}')
    self.max_tokens = max_tokens
    with self._explained():
      self._cut = tokenizers.Tokenizer.from_str(self._full.to_str())
      self._cut.enable_truncation(max_tokens)

  def __call__(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 [N, L] and mask bool [N, L]."""
    with self._explained():
      encoded = self._cut.encode_batch(list(prompts))
      return pad([encoding.ids for encoding in encoded], self.max_tokens)

  def full_ids(self, prompt: str) -> list[int]:
    """All ids of a prompt, uncut."""
    with self._explained():
      return self._full.encode(prompt).ids

  def kept_text(self, prompt: str) -> str:
    """The beginning of the prompt that `max_tokens` ids hold."""
    with self._explained():
      ends = [end for _, end in self._cut.encode(prompt).offsets]
    return prompt[:max(ends, default=0)]

  @contextlib.contextmanager
  def _explained(self):
    """Makes a UserError of what the library raises on a damaged file.

    It is written in Rust, raises bare Exceptions, and panics.
    """
    try:
      yield
    except BaseException as error:
      if not isinstance(error, Exception) and (
          type(error).__name__ != 'PanicException'):
        raise
      raise errors.UserError(
          f'cannot read the tokenizer {self._path}: {errors.words(error)}'
      ) from None


class SentencePieceTokenizer:
  """A SentencePiece `spiece.model`, as T5 has; ids end with `</s>`.

  A prompt is nothing but text: `</s>` or `<extra_id_0>` in it are read as
  characters, never as control tokens.
  """

  def __init__(self, path: str | os.PathLike, max_tokens: int):
    """Reads the file."""
    with extras.needed('text', 'the text encoder t5', 'SentencePiece'):
      import sentencepiece
    if not fetched.local(path).is_file():
      raise errors.UserError(
          f'no such SentencePiece vocabulary: {path}; give the spiece.model '
          'that belongs to the text encoder')
    try:
      self._pieces = sentencepiece.SentencePieceProcessor(
          model_proto=fetched.local(path).read_bytes())
    except (RuntimeError, OSError) as error:
      raise errors.UserError(
          f'cannot read the vocabulary {path}: {error}') from None
    if self._pieces.pad_id() < 0 or self._pieces.eos_id() < 0:
      raise errors.UserError(
          f'the vocabulary {path} has no <pad> or no </s>: it is not one of '
          'T5')
    if max_tokens < 2:
      raise errors.UserError(
          f'max_tokens must be above 1, for </s>, got {max_tokens}')
    self.max_tokens = max_tokens

  @property
  def vocabulary(self) -> int:
    """Number of pieces."""
    return self._pieces.vocab_size()

  def __call__(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 [N, L] and mask bool [N, L]."""
    rows = [ids[:self.max_tokens - 1] + [self._pieces.eos_id()]
            for ids in map(self._pieces.encode, prompts)]
    return pad(rows, self.max_tokens, self._pieces.pad_id())

  def full_ids(self, prompt: str) -> list[int]:
    """All ids of a prompt, uncut."""
    return [*self._pieces.encode(prompt), self._pieces.eos_id()]

  def kept_text(self, prompt: str) -> str:
    """The beginning of the prompt that `max_tokens` ids hold."""
    cut = bisect.bisect_right(
        range(1, len(prompt) + 1), self.max_tokens,
        key=lambda end: len(self.full_ids(prompt[:end])))
    return prompt[:cut]


def pad(rows: Sequence[Sequence[int]], length: int,
        pad_id: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Fills rows of ids up: int32 [N, length] and mask bool [N, length]."""
  ids = np.full((len(rows), length), pad_id, np.int32)
  mask = np.zeros((len(rows), length), bool)
  for row, values in enumerate(rows):
    ids[row, :len(values)] = values
    mask[row, :len(values)] = True
  return ids, mask
