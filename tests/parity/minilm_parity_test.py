"""MiniLM against transformers' `BertModel` with the packaged weights.

`python tests/parity/minilm_parity_test.py GOLDEN.npz` writes the golden file of
`tests/text/minilm_test.py`.
"""
import sys

from absl.testing import absltest
import numpy as np
import pytest

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

from walt_jax.text import encoder  # noqa: E402

PROMPTS = (
    'a seven moves left', '', 'Zwei Äpfel & 3 pommes, 東京!',
    'A photorealistic video of an astronaut riding a horse in outer space, '
    'with stars, nebulae and a slowly rotating planet behind them.')
MAX_TOKENS = 24
CHANNELS = slice(None, None, 8)  # Kept in the golden file.


def reference(prompts=PROMPTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """transformers' ids and mask [N, L], and token states [N, L, D]."""
  path = str(encoder.packaged_minilm())
  tokenizer = transformers.AutoTokenizer.from_pretrained(
      path, local_files_only=True)
  model = transformers.BertModel.from_pretrained(
      path, local_files_only=True, attn_implementation='eager').eval()
  inputs = tokenizer(list(prompts), padding='max_length', truncation=True,
                     max_length=MAX_TOKENS, return_tensors='pt')
  with torch.no_grad():
    states = model(**inputs).last_hidden_state.numpy()
  return (inputs['input_ids'].numpy(),
          inputs['attention_mask'].numpy().astype(bool), states)


class MiniLmParityTest(absltest.TestCase):

  def test_equal_to_transformers(self):
    ids, mask, states = reference()
    text_encoder = encoder.load_text_encoder(max_tokens=MAX_TOKENS)
    our_ids, our_mask = text_encoder.tokenize(PROMPTS)
    np.testing.assert_array_equal(our_ids, ids)
    np.testing.assert_array_equal(our_mask, mask)
    ours, _ = text_encoder.embed(PROMPTS)
    np.testing.assert_allclose(ours[mask], states[mask], atol=1e-5)
    self.assertFalse(ours[~mask].any())


def main(path: str) -> None:
  ids, mask, states = reference()
  np.savez_compressed(path, prompts=np.array(PROMPTS), ids=ids, mask=mask,
                      states=states[..., CHANNELS])


if __name__ == '__main__':
  main(sys.argv[1])
