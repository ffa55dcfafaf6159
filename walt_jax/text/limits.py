"""Texts of more tokens than a text encoder reads: cut, counted and told.

Preparation, training and sampling all cut at the same token, count what they
cut by `is_cut`, and tell it in the words of `describe`.
"""
from collections.abc import Sequence
import logging
import threading

import numpy as np

from walt_jax.text import tokenization

_TAIL_WORDS = 4


def is_cut(tokenizer: tokenization.Tokenizer, text: str) -> bool:
  """Whether a text has more than `max_tokens` ids."""
  return len(tokenizer.full_ids(text)) > tokenizer.max_tokens


def describe(count: int, total: int, max_tokens: int, what: str,
             example: str = '') -> str:
  """Says how many texts are cut.

  Args:
    count: Number of texts that are cut.
    total: Number of all.
    max_tokens: What the text encoder reads, special tokens included.
    what: Their name: 'captions' or 'prompts'.
    example: What is kept of one of them.
  """
  tail = ' '.join(example.split()[-_TAIL_WORDS:])
  return (f'{count} of {total} {what} have more than the {max_tokens} tokens '
          'that the text encoder reads: the rest is cut'
          + (f', such as after "..{tail}"' if tail else ''))


def warn(tokenizer: tokenization.Tokenizer, texts: Sequence[str],
         what: str) -> int:
  """Warns if some texts will be cut; returns how many."""
  cut = [text for text in texts if is_cut(tokenizer, text)]
  if cut:
    logging.getLogger('walt_jax').warning('%s.', describe(
        len(cut), len(texts), tokenizer.max_tokens, what,
        tokenizer.kept_text(cut[0])))
  return len(cut)


class CountingTokenizer:
  """A tokenizer for a stream of captions, which warns of those that it cuts.

  It tells of the first, and again whenever ten times as many were cut. Each
  process of data workers counts what it reads.
  """

  def __init__(self, tokenizer: tokenization.Tokenizer):
    """Counts from nothing."""
    self._tokenizer = tokenizer
    self._lock = threading.Lock()
    self._seen = self._cut = 0
    self._next_told = 1

  def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 [N, L] and mask bool [N, L]."""
    ids, mask = self._tokenizer(texts)
    # Only a row without padding can have been cut.
    cut = [texts[row] for row in np.flatnonzero(mask.all(axis=1)).tolist()
           if is_cut(self._tokenizer, texts[row])]
    with self._lock:
      self._seen += len(texts)
      self._cut += len(cut)
      if self._cut >= self._next_told:
        self._next_told = 10 ** len(str(self._cut))
        logging.getLogger('walt_jax').warning('%s.', describe(
            self._cut, self._seen, self._tokenizer.max_tokens,
            'captions read so far', self._tokenizer.kept_text(cut[-1])))
    return ids, mask

  def __getstate__(self):  # Locks do not travel to worker processes.
    return {name: value for name, value in self.__dict__.items()
            if name != '_lock'}

  def __setstate__(self, state):
    self.__dict__ |= state
    self._lock = threading.Lock()
