"""Texts that are too long: found, counted and told alike everywhere."""
import logging
import pathlib
import pickle
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.text import tokenization_test
from walt_jax.text import limits
from walt_jax.text import tokenization


class LimitsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    path = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'tokenizer.json'
    tokenization_test.write_tokenizer(path)
    # [CLS], three words, [SEP].
    self.tokenizer = tokenization.WordPieceTokenizer(path, 5)

  @parameterized.parameters(
      ('', False), ('a seven moves', False), ('a seven moves left', True))
  def test_a_text_is_cut_from_one_token_too_many(self, text, cut):
    self.assertEqual(limits.is_cut(self.tokenizer, text), cut)

  def test_warns_with_count_and_place(self):
    with self.assertNoLogs('walt_jax'):
      self.assertEqual(limits.warn(self.tokenizer, ['a seven'], 'prompts'), 0)
    with self.assertLogs('walt_jax', logging.WARNING) as logs:
      self.assertEqual(limits.warn(self.tokenizer, [
          'a', 'seven a moves left', 'left left left left'], 'prompts'), 2)
    self.assertIn(
        '2 of 3 prompts have more than the 5 tokens that the text encoder '
        'reads: the rest is cut, such as after "..seven a moves".',
        logs.output[0])

  def test_a_stream_is_counted_and_told_at_powers_of_ten(self):
    counting = limits.CountingTokenizer(self.tokenizer)
    with self.assertLogs('walt_jax', logging.WARNING) as logs:
      for _ in range(40):
        found = counting(['a', 'a seven moves', 'a seven moves left'])
    for ours, plain in zip(found, self.tokenizer(
        ['a', 'a seven moves', 'a seven moves left']), strict=True):
      np.testing.assert_array_equal(ours, plain)
    self.assertEqual([line.split(':')[2].split(' captions')[0]
                      for line in logs.output], ['1 of 3', '10 of 30'])

  def test_a_counting_tokenizer_travels_to_workers(self):
    copy = pickle.loads(pickle.dumps(limits.CountingTokenizer(self.tokenizer)))
    with self.assertLogs('walt_jax', logging.WARNING):
      copy(['a seven moves left'])


if __name__ == '__main__':
  absltest.main()
