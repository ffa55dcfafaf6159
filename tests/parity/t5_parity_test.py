"""T5 against transformers: small random encoders, and the real vocabulary.

`python tests/parity/t5_parity_test.py GOLDEN.npz` writes the golden file of
`tests/text/t5_test.py`.
"""
import json
import pathlib
import sys
import tempfile

from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip('torch')
sentencepiece = pytest.importorskip('sentencepiece')
transformers = pytest.importorskip('transformers')

from tests import real_data  # noqa: E402
from walt_jax.text import encoder  # noqa: E402
from walt_jax.text import t5  # noqa: E402
from walt_jax.text import weights  # noqa: E402

VOCABULARY = 'text/t5_spiece.model'
# Feed-forward and head width; 6 x 5 heads are not the width of 24.
VARIANTS = {'gated-gelu': dict(d_kv=5), 'relu': dict(d_kv=4)}
IDS = np.array([[7, 3, 60, 12, 9, 33, 2, 5, 41, 18, 22, 1],
                [44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                [8, 8, 59, 63, 4, 1, 0, 0, 0, 0, 0, 0]])
LENGTHS = (12, 2, 6)
MASK = np.arange(12) < np.array(LENGTHS)[:, None]
PROMPTS = (
    'a seven moves left', '', ' ', '  two  spaces  around ', 'tab\tand\nline',
    'Zwei Äpfel & 3 pommes, 東京!', 'ﬁ ½ Å e\u0301 \u200b', 'emoji 🎉...!?',
    'A photorealistic video of an astronaut riding a horse in outer space, '
    'with stars, nebulae and a slowly rotating planet behind them.')
MAX_TOKENS = 24


def make_model(feed_forward: str, num_layers: int = 3, **sizes):
  """A small encoder with weights that make every part count."""
  torch.manual_seed(0)
  config = transformers.T5Config(
      vocab_size=64, d_model=24, d_ff=40, num_layers=num_layers, num_heads=6,
      relative_attention_num_buckets=8, relative_attention_max_distance=10,
      feed_forward_proj=feed_forward, **sizes)
  model = transformers.T5EncoderModel(config).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      noise = torch.randn_like(parameter)
      if 'norm' in name:
        parameter.add_(0.2 * noise)
      elif 'embed' in name or 'shared' in name or 'bias' in name:
        parameter.copy_(noise)
      else:
        parameter.copy_(noise / parameter.shape[1] ** 0.5)
  return model


def reference(model, ids=IDS, mask=MASK) -> np.ndarray:
  with torch.no_grad():
    return model(input_ids=torch.tensor(ids),
                 attention_mask=torch.tensor(mask).long()
                 ).last_hidden_state.float().numpy()


def load(path, dtype=jnp.float32):
  """Module and parameters of a folder, without its vocabulary."""
  folder = weights.SafetensorsFolder(path)
  config = t5.T5Config.from_json(folder.config)
  return t5.T5Encoder(config, dtype), t5.read_params(folder, config, dtype)


class T5ParityTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = self.enterContext(tempfile.TemporaryDirectory())

  @parameterized.product(variant=tuple(VARIANTS), sharded=(False, True))
  def test_states_equal_those_of_transformers(self, variant, sharded):
    model = make_model(variant, **VARIANTS[variant])
    model.save_pretrained(
        self.folder, max_shard_size='10KB' if sharded else '1GB')
    index = pathlib.Path(self.folder) / weights.INDEX
    self.assertEqual(index.is_file(), sharded)
    module, params = load(self.folder)
    ours = module.apply({'params': params}, IDS, MASK)
    np.testing.assert_allclose(
        ours[MASK], reference(model)[MASK], atol=1e-5, rtol=1e-5)

  def test_long_texts_reach_the_last_bucket(self):
    model = make_model('gated-gelu', num_layers=1, d_kv=4)
    model.save_pretrained(self.folder)
    module, params = load(self.folder)
    ids = np.random.default_rng(0).integers(2, 64, (1, 200))
    mask = np.ones(ids.shape, bool)
    ours = module.apply({'params': params}, ids, mask)
    np.testing.assert_allclose(ours, reference(model, ids, mask), atol=1e-5)

  @parameterized.parameters((32, 128), (8, 10), (16, 64))
  def test_buckets(self, num_buckets, max_distance):
    from transformers.models.t5 import modeling_t5
    position = torch.arange(700)
    wanted = modeling_t5.T5Attention._relative_position_bucket(
        position[None] - position[:, None], num_buckets=num_buckets,
        max_distance=max_distance)
    np.testing.assert_array_equal(
        t5.relative_buckets(700, num_buckets, max_distance), wanted.numpy())

  def test_whole_t5_and_bfloat16_file(self):
    model = make_model('gated-gelu', d_kv=4)
    whole = transformers.T5Model(transformers.T5Config(
        **model.config.to_dict() | dict(is_encoder_decoder=True)))
    whole.encoder.load_state_dict(model.encoder.state_dict())
    whole.shared.weight.data.copy_(model.shared.weight.data)
    whole.bfloat16().save_pretrained(self.folder)
    module, params = load(self.folder)
    rounded = model.bfloat16().float()
    np.testing.assert_allclose(
        module.apply({'params': params}, IDS, MASK)[MASK],
        reference(rounded)[MASK], atol=1e-5, rtol=1e-5)

  def test_tokens_of_a_small_vocabulary(self):
    path = pathlib.Path(self.folder) / 'spiece.model'
    with open(path, 'wb') as file:
      sentencepiece.SentencePieceTrainer.train(
          sentence_iterator=iter(PROMPTS * 20), model_writer=file,
          vocab_size=90, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
          hard_vocab_limit=False, minloglevel=2)
    self.check_tokens(path)

  def test_tokens_of_the_real_vocabulary(self):
    self.check_tokens(real_data.path(VOCABULARY))

  def check_tokens(self, vocabulary: pathlib.Path):
    ids, mask = reference_tokens(vocabulary)
    tokenizer = encoder.tokenization.SentencePieceTokenizer(
        vocabulary, MAX_TOKENS)
    our_ids, our_mask = tokenizer(PROMPTS)
    np.testing.assert_array_equal(our_ids, ids)
    np.testing.assert_array_equal(our_mask, mask)


def reference_tokens(
    vocabulary: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """transformers' ids and mask [N, L] of `PROMPTS`."""
  tokenizer = transformers.T5Tokenizer.from_pretrained(str(vocabulary))
  inputs = tokenizer(list(PROMPTS), padding='max_length', truncation=True,
                     max_length=MAX_TOKENS, return_tensors='np')
  return inputs['input_ids'], inputs['attention_mask'].astype(bool)


def main(path: str) -> None:
  from safetensors import numpy as safetensors_numpy
  token_ids, token_mask = reference_tokens(real_data.path(VOCABULARY))
  golden = dict(ids=IDS, mask=MASK, prompts=np.array(PROMPTS),
                token_ids=token_ids, token_mask=token_mask)
  for variant, sizes in VARIANTS.items():
    model = make_model(variant, num_layers=2, **sizes)
    with tempfile.TemporaryDirectory() as folder:
      model.save_pretrained(folder)
      file = pathlib.Path(folder) / weights.SINGLE
      config = json.loads((file.parent / 'config.json').read_text())
      for name, tensor in safetensors_numpy.load_file(file).items():
        golden[f'{variant}/{name}'] = tensor
    golden[f'{variant}:config'] = np.array(json.dumps(config))
    golden[f'{variant}:states'] = reference(model)
  np.savez_compressed(path, **golden)


if __name__ == '__main__':
  main(sys.argv[1])
