"""WordPiece prompts: ids, masks, what is kept of a long one, refusals."""
import pathlib
import pickle
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tokenizers
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import processors

from walt_jax.core import errors
from walt_jax.text import tokenization

WORDS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'seven', 'moves', 'left')


def write_tokenizer(path: pathlib.Path) -> None:
  """A vocabulary of eight words that begins and ends prompts as BERT does."""
  vocabulary = {word: number for number, word in enumerate(WORDS)}
  tokenizer = tokenizers.Tokenizer(
      models.WordLevel(vocabulary, unk_token='[UNK]'))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.post_processor = processors.TemplateProcessing(
      single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])
  tokenizer.enable_padding(length=99)  # To be switched off by the reader.
  tokenizer.enable_truncation(3)
  tokenizer.save(str(path))


class WordPieceTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'tokenizer.json'
    write_tokenizer(self.path)

  def test_ids_and_mask_are_padded_to_the_length(self):
    tokenizer = tokenization.WordPieceTokenizer(self.path, 6)
    ids, mask = tokenizer(['a seven', '', 'moves blue'])
    np.testing.assert_array_equal(
        ids, [[2, 4, 5, 3, 0, 0], [2, 3, 0, 0, 0, 0], [2, 6, 1, 3, 0, 0]])
    np.testing.assert_array_equal(mask.sum(axis=1), [4, 2, 4])
    self.assertEqual((ids.dtype, mask.dtype), (np.int32, np.bool_))

  @parameterized.parameters(3, 4, 5, 6, 9)
  def test_what_is_kept_is_a_beginning_that_fits(self, max_tokens):
    tokenizer = tokenization.WordPieceTokenizer(self.path, max_tokens)
    prompt = 'a seven  moves left'
    kept = tokenizer.kept_text(prompt)
    self.assertTrue(prompt.startswith(kept))
    self.assertEqual(len(kept.split()), min(4, max_tokens - 2))
    self.assertEqual(len(tokenizer.full_ids(prompt)), 6)
    ids, mask = tokenizer([prompt])
    alone, alone_mask = tokenizer([kept])
    np.testing.assert_array_equal(ids, alone)
    np.testing.assert_array_equal(mask, alone_mask)

  def test_travels_to_workers(self):
    tokenizer = tokenization.WordPieceTokenizer(self.path, 5)
    copy = pickle.loads(pickle.dumps(tokenizer))
    for found, wanted in zip(copy(['a left']), tokenizer(['a left']),
                             strict=True):
      np.testing.assert_array_equal(found, wanted)

  def test_wrong_files_and_lengths_are_user_errors(self):
    with self.assertRaisesRegex(errors.UserError, 'no such tokenizer'):
      tokenization.WordPieceTokenizer(self.path.with_name('absent'), 6)
    with self.assertRaisesRegex(errors.UserError, 'above 2.*got 2'):
      tokenization.WordPieceTokenizer(self.path, 2)
    self.path.write_text('{}')
    with self.assertRaisesRegex(errors.UserError, 'cannot read the tokenizer'):
      tokenization.WordPieceTokenizer(self.path, 6)


if __name__ == '__main__':
  absltest.main()
