"""Seeds of 64 bits: equal keys for equal seeds alone, wherever they enter."""
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from tests.e2e import tiny
from tests.training import toy_stage
from walt_jax.commands import cli
from walt_jax.commands import demo
from walt_jax.core import errors
from walt_jax.data.sources import moving_digits
from walt_jax.diffusion import noise
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import requests
from walt_jax.training import compiled

# A seed of more than 32 bits, and what is left of it in 32.
LARGE, CUT = 5_000_000_000, 705_032_704
# It could be made; refused commands do not begin.
NOWHERE = f'{tempfile.gettempdir()}/walt_seeds_test/out'
SAMPLE = ('sample', '--workdir', 'w', '--out', NOWHERE)
RENDER = ('data', 'render', 'moving_digits', '--num', '1', '--split', 'train',
          '--output', NOWHERE)
EVALUATE = ('evaluate', 'fvd', '--workdir', 'w', '--real', 'r', '--json',
            f'{NOWHERE}.json')
TRAIN = ('train', '--config', f'{tiny.QUICKSTART}:smoke', '--workdir', NOWHERE)


def words(key: jax.Array) -> list[int]:
  return np.asarray(jax.random.key_data(key)).tolist()


def training_keys(seed: int) -> list[list[int]]:
  programs = compiled.Programs(
      toy_stage.make_stage(), mesh_lib.make_mesh(devices=jax.devices()[:1]),
      seed, lambda seconds: None)
  return [words(key) for key in (
      programs.init_key, programs.train_key, programs.eval_key)]


def sampling_keys(seed: int) -> list[int]:
  return words(cascade._keys([requests.Request(seed=seed)], 0))


def scene(seed: int) -> str:
  return str(
      moving_digits.MovingDigits(seed=seed, difficulty='free').truth(0))


class KeysTest(parameterized.TestCase):

  @parameterized.parameters(
      (0, [0, 0]), (3, [0, 3]), (2**32 - 1, [0, 2**32 - 1]),
      (2**32, [1, 0]), (LARGE, [1, CUT]), (2**63, [2**31, 0]),
      (2**64 - 1, [2**32 - 1, 2**32 - 1]))
  def test_a_key_is_that_of_jax_with_64_bits(self, seed, expected):
    key = noise.key_of_seed(seed)
    self.assertEqual(words(key), expected)
    with jax.enable_x64(True):
      self.assertEqual(words(jax.random.key(np.uint64(seed))), expected)
    if seed < 2**32:  # As it always was.
      self.assertEqual(words(jax.random.key(seed)), expected)
    self.assertEqual(words(jax.jit(lambda: noise.key_of_seed(seed))()),
                     expected)

  def test_a_key_of_another_generator(self):
    with jax.default_prng_impl('rbg'):
      self.assertEqual(words(noise.key_of_seed(3)), [0, 3, 0, 3])
      self.assertEqual(words(noise.key_of_seed(LARGE)), [1, CUT, 1, CUT])

  @parameterized.parameters(training_keys, sampling_keys, scene)
  def test_large_seeds_do_not_wrap(self, draw):
    self.assertNotEqual(draw(LARGE), draw(CUT))
    self.assertEqual(draw(LARGE), draw(LARGE))


class RefusalTest(parameterized.TestCase):

  @parameterized.parameters(
      ((*SAMPLE, '--seed'),), ((*RENDER, '--seed'),), ((*EVALUATE, '--seed'),))
  def test_flags_take_64_bits(self, argv):
    self.assertEqual(cli.parse([*argv, str(2**64 - 1)]).seed, 2**64 - 1)

  @parameterized.product(
      command=((*SAMPLE, '--seed', ''), (*RENDER, '--seed', ''),
               (*EVALUATE, '--seed', ''), (*TRAIN, '--config.seed=')),
      seed=(2**64, -1))
  def test_what_does_not_fit_is_one_line(self, command, seed):
    *argv, last = command
    result = tiny.walt(*argv, f'{last}{seed}')
    self.assertEqual(result.code, 2)
    self.assertRegex(
        result.err, rf'\Awalt: error: .*{seed}.* from 0 to 2\^64 - 1'
        r'( \(see walt .* --help\))?\n\Z')

  @parameterized.parameters(2**64, -1)
  def test_python_refuses_too(self, seed):
    for refused in (
        lambda: noise.key_of_seed(seed), lambda: requests.Request(seed=seed),
        lambda: requests.parse(f'{{"seed": {seed}}}', 'f:1', 0)):
      with self.assertRaisesRegex(errors.UserError, f'seed is {seed}'):
        refused()

  def test_the_page_takes_what_a_browser_can_say(self):
    self.assertEqual(demo._whole(LARGE, 'Seed', 0, demo._MOST_SEED), LARGE)
    for seed in (2**53, -1, 0.5, None):
      with self.assertRaisesRegex(errors.UserError, 'Seed must be'):
        demo._whole(seed, 'Seed', 0, demo._MOST_SEED)


if __name__ == '__main__':
  absltest.main()
