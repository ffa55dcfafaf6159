"""The packaged text encoder: golden values, padding, meaning."""
import json
import pathlib
import pickle
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.text import encoder
from walt_jax.text import limits
from walt_jax.text import minilm

# Written by tests/parity/minilm_parity_test.py with transformers' BertModel.
GOLDEN = pathlib.Path(__file__).parent / 'minilm_golden.npz'


class MiniLmTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    with np.load(GOLDEN) as golden:
      cls.golden = dict(golden)
    cls.encoder = encoder.load_text_encoder(
        max_tokens=cls.golden['ids'].shape[1])

  def test_golden(self):
    states, mask = self.encoder.embed(self.golden['prompts'].tolist())
    ids, _ = self.encoder.tokenize(self.golden['prompts'].tolist())
    np.testing.assert_array_equal(ids, self.golden['ids'])
    np.testing.assert_array_equal(mask, self.golden['mask'])
    self.assertEqual(states.shape, (*ids.shape, self.encoder.width))
    np.testing.assert_allclose(
        states[..., ::8][mask], self.golden['states'][mask], atol=2e-5)
    self.assertFalse(states[~mask].any())

  def test_padding_and_neighbours_do_not_matter(self):
    ids, mask = self.encoder.tokenize(['a seven moves left', 'stop'])
    encode = jax.jit(self.encoder.encode)
    both = encode(self.encoder.params, ids, mask)
    length = mask[0].sum()
    alone = self.encoder.encode(
        self.encoder.params, jnp.asarray(ids[:1, :length]),
        jnp.asarray(mask[:1, :length]))
    np.testing.assert_allclose(both[0, :length], alone[0], atol=1e-5)
    other = np.where(mask, ids, 999)
    np.testing.assert_allclose(
        encode(self.encoder.params, other, mask), both, atol=1e-6)

  def test_leading_axes_are_kept(self):
    ids, mask = self.encoder.tokenize(['a', 'b', 'c', 'd'])
    flat = self.encoder.encode(self.encoder.params, ids, mask)
    rows = self.encoder.encode(
        self.encoder.params, ids.reshape(2, 2, -1), mask.reshape(2, 2, -1))
    np.testing.assert_allclose(rows.reshape(flat.shape), flat, atol=1e-6)

  def test_paraphrases_are_nearer_than_unrelated_sentences(self):
    pairs = [
        ('a dog runs on the beach', 'a puppy is sprinting along the shore'),
        ('the man plays a guitar', 'someone strums a musical instrument'),
        ('it is raining heavily in the city', 'a downpour soaks the town'),
        ('she slices vegetables for dinner', 'a woman is chopping up carrots'),
    ]
    states, mask = self.encoder.embed([text for pair in pairs for text in pair])
    vectors = np.einsum('nld,nl->nd', states, mask.astype(states.dtype))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    similarity = vectors[::2] @ vectors[1::2].T
    same = np.diag(similarity)
    other = similarity[~np.eye(len(pairs), dtype=bool)]
    self.assertGreater(same.min(), other.max() + 0.1)

  def test_embed_encodes_distinct_prompts_in_batches(self):
    prompts = ['one', 'two', 'one', 'three', 'four', 'two']
    whole, mask = self.encoder.embed(prompts)
    parts, _ = self.encoder.embed(prompts, batch_size=3)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_array_equal(whole[0], whole[2])
    self.assertEqual(mask.shape, (6, self.encoder.max_tokens))

  def test_long_prompts_are_cut(self):
    long = 'left ' * 50
    ids, mask = self.encoder.tokenize([long])
    self.assertTrue(mask.all())
    self.assertEqual(ids[0, -1], 102)  # [SEP] survives the cut.
    for prompt, cut in (('a seven moves left', False), (long, True),
                        ('left ' * 22, False), ('left ' * 23, True)):
      self.assertEqual(limits.is_cut(self.encoder.tokenizer, prompt), cut)

  def test_tokenizer_pickles(self):
    copy = pickle.loads(pickle.dumps(self.encoder.tokenizer))
    for ours, theirs in zip(copy(['a seven']),
                            self.encoder.tokenize(['a seven']), strict=True):
      np.testing.assert_array_equal(ours, theirs)


class RefusalsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))
    source = encoder.packaged_minilm()
    shutil.copy(source / 'tokenizer.json', self.folder)
    self.config = json.loads((source / 'config.json').read_text())
    self.write_config()

  def write_config(self, **changes):
    config = dict(self.config, num_hidden_layers=2, hidden_size=8,
                  intermediate_size=16, num_attention_heads=2, **changes)
    (self.folder / 'config.json').write_text(json.dumps(config))

  def write_weights(self, **changes):
    from safetensors import numpy as safetensors_numpy
    config = minilm.BertConfig.from_json(
        json.loads((self.folder / 'config.json').read_text()))
    d, m = config.width, config.mlp_width
    shapes = {'embeddings.word_embeddings.weight': (config.vocabulary, d),
              'embeddings.position_embeddings.weight': (512, d),
              'embeddings.token_type_embeddings.weight': (2, d),
              'embeddings.LayerNorm.weight': (d,),
              'embeddings.LayerNorm.bias': (d,)}
    for layer in range(config.num_layers):
      name = f'encoder.layer.{layer}.'
      for part, fan_in, fan_out in (
          ('attention.self.query', d, d), ('attention.self.key', d, d),
          ('attention.self.value', d, d), ('attention.output.dense', d, d),
          ('intermediate.dense', d, m), ('output.dense', m, d)):
        shapes[f'{name}{part}.weight'] = (fan_out, fan_in)
        shapes[f'{name}{part}.bias'] = (fan_out,)
      for part in ('attention.output', 'output'):
        shapes[f'{name}{part}.LayerNorm.weight'] = (d,)
        shapes[f'{name}{part}.LayerNorm.bias'] = (d,)
    shapes |= changes
    rng = np.random.default_rng(0)
    safetensors_numpy.save_file(
        {name: rng.normal(size=shape).astype(np.float32)
         for name, shape in shapes.items() if shape is not None},
        self.folder / 'model.safetensors')

  def load(self, **options):
    return encoder.load_text_encoder('minilm', self.folder, **options)

  def test_own_folder(self):
    self.write_weights()
    loaded = self.load(max_tokens=5)
    states, mask = loaded.embed(['a', ''])
    self.assertEqual(states.shape, (2, 5, 8))
    self.assertTrue(np.isfinite(states).all())
    self.assertLen(loaded.sha256, 64)

  def test_parameters_are_those_of_the_module(self):
    self.write_weights()
    loaded = self.load(max_tokens=5)
    made = jax.eval_shape(loaded.module.init, jax.random.key(0),
                          *loaded.tokenize(['a']))['params']
    self.assertEqual(jax.tree.map(jnp.shape, made),
                     jax.tree.map(jnp.shape, loaded.params))

  def test_missing_weights(self):
    with self.assertRaisesRegex(errors.UserError, 'model.safetensors'):
      self.load()
    with self.assertRaisesRegex(errors.UserError, 'nowhere'):
      encoder.load_text_encoder('minilm', 'nowhere')

  def test_unknown_name(self):
    with self.assertRaisesRegex(errors.UserError, "'clip'.*minilm"):
      encoder.load_text_encoder('clip')

  def test_truncated_file(self):
    (self.folder / 'model.safetensors').write_bytes(b'\x10\0\0\0\0\0\0\0{')
    with self.assertRaisesRegex(errors.UserError, 'cannot read'):
      self.load()

  def test_tensor_of_another_shape_or_none(self):
    name = 'encoder.layer.1.output.dense.weight'
    self.write_weights(**{name: (16, 8)})
    with self.assertRaisesRegex(errors.UserError, r'\[16, 8\].*\[8, 16\]'):
      self.load()
    self.write_weights(**{name: None})
    with self.assertRaisesRegex(errors.UserError, 'no tensor.*layer.1'):
      self.load()

  @parameterized.parameters(
      dict(hidden_act='relu'), dict(model_type='roberta'),
      dict(position_embedding_type='relative_key'))
  def test_other_variants(self, **changes):
    self.write_weights()
    self.write_config(**changes)
    with self.assertRaisesRegex(errors.UserError, next(iter(changes))):
      self.load()

  @parameterized.parameters(2, 600)
  def test_impossible_max_tokens(self, max_tokens):
    self.write_weights()
    with self.assertRaisesRegex(errors.UserError, 'max_tokens'):
      self.load(max_tokens=max_tokens)


if __name__ == '__main__':
  absltest.main()
