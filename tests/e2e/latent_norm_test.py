"""`tokenizer.normalise=False`: latents as the tokenizer makes them."""
import dataclasses
import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests.e2e import tiny
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import tokenizers


class LatentNormTest(absltest.TestCase):

  def test_training_and_sampling_without(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    workdir = folder / 'run'
    tiny.train('rollout', workdir, 2, tokenizer__normalise=False)
    config = json.loads((workdir / 'config.json').read_text())
    self.assertIs(config['tokenizer']['normalise'], False)
    # Other latents, other losses.
    self.assertFalse(np.allclose(
        tiny.losses(workdir), tiny.losses(tiny.run('rollout'))[:2]))
    samples = ('sample', '--out', folder / 'out', '--label', 'seven left',
               '--num_samples', 1, '--steps', 1)
    result = tiny.walt(*samples, '--workdir', workdir)
    self.assertEqual(result.code, 0, result.err)
    # Its latents are not what the next stage was trained on.
    result = tiny.walt(
        *samples, '--overwrite', '--workdir',
        f'{workdir},{tiny.run("sr_rollout")}')
    self.assertEqual(result.code, 2)
    self.assertIn('tokenizer.normalise', result.err)

  def test_statistics_of_a_denoiser(self):
    tokenizer = tokenizers.load_tokenizer(str(tiny.run('tokenizer')))
    self.assertIs(tokenizers.as_configured(tokenizer, schema.Tokenizer()),
                  tokenizer)
    plain = tokenizers.as_configured(
        tokenizer, schema.Tokenizer(normalise=False))
    np.testing.assert_array_equal(plain.statistics.mean, np.zeros(4))
    np.testing.assert_array_equal(plain.statistics.std, np.ones(4))
    self.assertEqual(plain.sha256, tokenizer.sha256)
    self.assertFalse(np.allclose(tokenizer.statistics.std, 1))

  def test_the_ablation_differs_in_that_alone(self):
    ablation, plain = (
        schema.of(config_lib.load(f'ucf101:{variant}')) for variant in (
            'ablation_no_latent_norm', 'ablation_patch_1'))
    self.assertNotEqual(ablation, plain)
    self.assertEqual(
        dataclasses.replace(ablation, tokenizer=plain.tokenizer), plain)


if __name__ == '__main__':
  absltest.main()
