"""T5 encoder: golden values, loading, vocabulary, refusals."""
import io
import json
import pathlib
import pickle
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from tests import real_data
from walt_jax.core import errors
from walt_jax.text import encoder
from walt_jax.text import limits
from walt_jax.text import t5
from walt_jax.text import tokenization
from walt_jax.text import weights

sentencepiece = pytest.importorskip('sentencepiece')

# Written by tests/parity/t5_parity_test.py with transformers.
GOLDEN = pathlib.Path(__file__).parent / 't5_golden.npz'
VARIANTS = ('gated-gelu', 'relu')
CORPUS = [f'a {digit} moves {way}' for digit in
          ('zero one two three four five six seven eight nine'.split())
          for way in ('left', 'right', 'up', 'down')]


def setUpModule():
  global golden, tiny_vocabulary
  with np.load(GOLDEN) as file:
    golden = dict(file)
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(CORPUS), model_writer=model, model_type='bpe',
      vocab_size=60, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
  tiny_vocabulary = model.getvalue()


def tensors_of(variant: str) -> dict[str, np.ndarray]:
  prefix = f'{variant}/'
  return {name.removeprefix(prefix): tensor for name, tensor in golden.items()
          if name.startswith(prefix)}


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def write(self, variant='gated-gelu', tensors=None, shards=1, **changes):
    """Writes config, weights and vocabulary; a change to None drops a key."""
    config = json.loads(str(golden[f'{variant}:config'])) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (self.folder / 'config.json').write_text(json.dumps(config))
    (self.folder / 'spiece.model').write_bytes(tiny_vocabulary)
    tensors = tensors_of(variant) if tensors is None else tensors
    if shards == 1:
      safetensors_numpy.save_file(tensors, self.folder / weights.SINGLE)
      return
    names = sorted(tensors)
    index = {}
    for shard in range(shards):
      file = f'model-{shard + 1:05}-of-{shards:05}.safetensors'
      part = names[shard::shards]
      safetensors_numpy.save_file(
          {name: tensors[name] for name in part}, self.folder / file)
      index |= dict.fromkeys(part, file)
    (self.folder / weights.INDEX).write_text(json.dumps({'weight_map': index}))

  def load(self, **options):
    return encoder.load_text_encoder('t5', self.folder, **options)


class GoldenTest(FolderTest):

  @parameterized.product(variant=VARIANTS, shards=(1, 3))
  def test_states(self, variant, shards):
    self.write(variant, shards=shards)
    loaded = self.load()
    ids, mask = golden['ids'], golden['mask']
    states = jax.jit(loaded.encode)(loaded.params, ids, mask)
    self.assertEqual(states.dtype, jnp.float32)
    np.testing.assert_allclose(
        states[mask], golden[f'{variant}:states'][mask], atol=2e-5)
    self.assertFalse(states[~mask].any())

  def test_padding_does_not_matter(self):
    self.write()
    loaded = self.load()
    ids, mask = golden['ids'][2:], golden['mask'][2:]
    length = int(mask.sum())
    alone = loaded.encode(loaded.params, ids[:, :length], mask[:, :length])
    other = loaded.encode(loaded.params, np.where(mask, ids, 17), mask)
    np.testing.assert_allclose(other[:, :length], alone, atol=1e-5)

  @parameterized.parameters(*VARIANTS)
  def test_bfloat16_is_near(self, variant):
    self.write(variant)
    loaded = self.load(dtype=jnp.bfloat16)
    self.assertEqual(
        loaded.params['layers']['query']['kernel'].dtype, ml_dtypes.bfloat16)
    self.assertEqual(loaded.params['norm']['scale'].dtype, np.float32)
    mask = golden['mask']
    states = loaded.encode(loaded.params, golden['ids'], mask)
    wanted = golden[f'{variant}:states'][mask]
    error = np.square(states[mask] - wanted).mean() / np.square(wanted).mean()
    self.assertLess(error ** 0.5, 0.02)

  @parameterized.product(
      variant=VARIANTS, dtype=(jnp.float32, jnp.bfloat16))
  def test_parameters_are_those_of_the_module(self, variant, dtype):
    self.write(variant)
    loaded = self.load(max_tokens=5, dtype=dtype)
    made = jax.eval_shape(loaded.module.init, jax.random.key(0),
                          *loaded.tokenize(['a']))['params']
    describe = lambda x: (x.shape, str(x.dtype))
    self.assertEqual(jax.tree.map(describe, made),
                     jax.tree.map(describe, loaded.params))

  def test_half_precision_files_and_untied_words(self):
    for dtype in (ml_dtypes.bfloat16, np.float16):
      tensors = {name: tensor.astype(dtype)
                 for name, tensor in tensors_of('gated-gelu').items()}
      tensors['encoder.embed_tokens.weight'] = tensors.pop('shared.weight')
      tensors['decoder.final_layer_norm.weight'] = np.ones(24, dtype)
      self.write(tensors=tensors)
      words = self.load().params['words']['embedding']
      self.assertEqual(words.dtype, np.float32)
      np.testing.assert_array_equal(
          words, tensors['encoder.embed_tokens.weight'].astype(np.float32))

  def test_embed(self):
    self.write()
    loaded = self.load(max_tokens=8)
    states, mask = loaded.embed(['a seven moves left', '', 'a one moves up'])
    self.assertEqual(states.shape, (3, 8, 24))
    self.assertEqual(mask[1].sum(), 1)  # </s> alone.
    self.assertLen(loaded.sha256, 64)


class BucketsTest(absltest.TestCase):

  def test_near_offsets_are_single_and_far_ones_shared(self):
    buckets = t5.relative_buckets(200, 32, 128)
    np.testing.assert_array_equal(buckets[:8, 0], np.arange(8))
    np.testing.assert_array_equal(buckets[0, 1:8], 16 + np.arange(1, 8))
    self.assertEqual(buckets[128:, 0].min(), 15)
    self.assertEqual(buckets[0, 128:].max(), 31)
    # Eight buckets double the distance four times: 8 and 16 are 2 apart.
    self.assertEqual(buckets[16, 0] - buckets[8, 0], 2)
    self.assertTrue((np.diff(buckets[:, 0]) >= 0).all())


class VocabularyTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'spiece.model'
    self.path.write_bytes(tiny_vocabulary)

  def test_tokens_of_the_real_vocabulary(self):
    tokenizer = tokenization.SentencePieceTokenizer(
        real_data.path('text/t5_spiece.model'), golden['token_ids'].shape[1])
    self.assertEqual(tokenizer.vocabulary, 32000)
    ids, mask = tokenizer(golden['prompts'].tolist())
    np.testing.assert_array_equal(ids, golden['token_ids'])
    np.testing.assert_array_equal(mask, golden['token_mask'])

  def test_long_prompts_are_cut(self):
    tokenizer = tokenization.SentencePieceTokenizer(self.path, 12)
    long = ' '.join(CORPUS[:3])
    ids, mask = tokenizer([long])
    self.assertTrue(mask.all())
    self.assertEqual(ids[0, -1], 1)  # </s> survives the cut.
    self.assertEqual(ids[0, :-1].tolist(), tokenizer.full_ids(long)[:11])
    kept = tokenizer.kept_text(long)
    self.assertTrue(long.startswith(kept))
    self.assertLen(tokenizer.full_ids(kept), 12)
    self.assertEqual(tokenizer.kept_text('a one'), 'a one')
    self.assertFalse(limits.is_cut(tokenizer, 'a one'))
    self.assertTrue(limits.is_cut(tokenizer, long))
    self.assertFalse(limits.is_cut(tokenizer, kept))

  def test_control_tokens_in_a_prompt_are_characters(self):
    tokenizer = tokenization.SentencePieceTokenizer(self.path, 12)
    self.assertEqual(tokenizer.full_ids('a</s>b').count(1), 1)

  def test_pickles(self):
    tokenizer = tokenization.SentencePieceTokenizer(self.path, 12)
    copy = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(copy(['a one'])[0], tokenizer(['a one'])[0])


class RefusalsTest(FolderTest):

  def test_no_path(self):
    with self.assertRaisesRegex(errors.UserError, 'text.path'):
      encoder.load_text_encoder('t5')

  def test_no_vocabulary_or_another_file(self):
    self.write()
    with self.assertRaisesRegex(errors.UserError, 'nowhere'):
      self.load(vocabulary='nowhere')
    (self.folder / 'spiece.model').write_bytes(b'not a vocabulary')
    with self.assertRaisesRegex(errors.UserError, 'cannot read'):
      self.load()
    with self.assertRaisesRegex(errors.UserError, 'SentencePiece'):
      encoder.load_text_encoder('minilm', vocabulary='nowhere')

  def test_vocabulary_of_another_model(self):
    tensors = tensors_of('relu')
    tensors['shared.weight'] = tensors['shared.weight'][:50]
    self.write('relu', tensors, vocab_size=50)
    with self.assertRaisesRegex(errors.UserError, '60 pieces.* 50'):
      self.load()

  @parameterized.parameters(
      (dict(model_type='umt5'), 'model_type'),
      (dict(feed_forward_proj='gated-tanh'), 'gated-tanh'),
      (dict(d_ff=None), 'd_ff'), (dict(d_ff=41), r'\[24, 40\].*\[24, 41\]'))
  def test_other_variants(self, changes, message):
    self.write(**changes)
    with self.assertRaisesRegex(errors.UserError, message):
      self.load()

  def test_ungated_weights_for_a_gated_config(self):
    self.write(tensors=tensors_of('relu'), d_kv=4)
    with self.assertRaisesRegex(errors.UserError, 'wi_0'):
      self.load()

  def test_impossible_max_tokens(self):
    self.write()
    with self.assertRaisesRegex(errors.UserError, 'max_tokens'):
      self.load(max_tokens=1)


if __name__ == '__main__':
  absltest.main()
