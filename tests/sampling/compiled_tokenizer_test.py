"""Each form of the tokenizer gives what whole batches give; the first fits."""
import functools
import re
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.parallel import device_memory
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import tokenizer_forms
from walt_jax.sampling import tokenizer_programs
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics

Chunks, Form = tokenizer_forms.Chunks, tokenizer_forms.Form
MODULE = autoencoder.Autoencoder(
    base_channels=4, channel_multipliers=(1, 2), time_downsample=(True,),
    blocks_per_level=1, middle_blocks=1, latent_channels=3, num_groups=2)
LATENTS = np.random.default_rng(0).normal(size=(3, 3, 8, 4, 3)).astype(
    np.float32)
PIXELS = np.random.default_rng(1).integers(
    0, 256, (3, 5, 16, 8, 3)).astype(np.uint8)


@functools.cache
def tokenizer() -> inference.Tokenizer:
  shapes = jax.eval_shape(
      MODULE.init, jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))['params']
  rng = np.random.default_rng(2)
  params = jax.tree.map(lambda x: rng.normal(
      x.ndim == 1, 0.3, x.shape).astype(np.float32), shapes)
  return inference.Tokenizer(
      MODULE, params, statistics.identity_statistics(3), {}, '')


@functools.cache
def _codec(**fields) -> compiled_tokenizer.Codec:
  return compiled_tokenizer.Codec(
      tokenizer(), devices=jax.devices()[:4], **fields)


def _estimates() -> dict[str, int]:
  """Bytes of the forms of a batch of eight clips on four devices."""
  forms = list(tokenizer_forms.forms(
      Chunks(), 8, 4, LATENTS.shape[1:4], is_ours=True, is_local=False))
  found = {}
  for form in forms:
    spread = form.height_parts == 1
    shape = (form.rows * (4 if spread else 1), *LATENTS.shape[1:])
    found[form] = tokenizer_programs.TokenizerPrograms(MODULE).estimate(
        'decode', form, tokenizer().frozen,
        jax.ShapeDtypeStruct(shape, np.float32), 4)
  return found


class CodecTest(parameterized.TestCase):

  @parameterized.product(
      form=(Form(1), Form(1, stream=True), Form(1, height_parts=4),
            Form(1, stream=True, height_parts=4),
            Form(1, stream=True, height_parts=2)),
      method=('encode', 'decode'))
  def test_forms_are_equal_to_the_whole(self, form, method):
    codec = _codec()
    x = PIXELS if method == 'encode' else LATENTS
    whole = codec._in_form(method, Form(3), x)
    found = codec._in_form(method, form, x)
    self.assertEqual(found.shape, whole.shape)
    if method == 'encode':
      np.testing.assert_allclose(found, whole, atol=1e-4, rtol=1e-4)
    else:  # A value may be rounded the other way.
      np.testing.assert_allclose(found.astype(int), whole, atol=1)
      self.assertLess(np.mean(found != whole), 1e-3)

  def test_frames_over_devices_exchange_borders_alone(self):
    """No device ever gathers a frame, nor anything as wide as one."""
    codec = _codec()
    frames = tokenizer_programs.layout(
        Form(1, height_parts=4), jax.devices()[:4])
    put = jax.device_put(LATENTS[:1], frames)
    with mock.patch.object(np, 'asarray', lambda array: array):
      pixels = codec._frames('decode', Form(1, height_parts=4), LATENTS[:1])
    self.assertEqual({shard.data.shape for shard in pixels.addressable_shards},
                     {(1, 5, 4, 8, 3)})
    text = codec._programs.whole['decode']._jitted.lower(
        codec._placed(frames), put).compile().as_text()
    self.assertIn('collective-permute', text)
    self.assertIn('all-reduce', text)  # Statistics of GroupNorm.
    self.assertEmpty(re.findall(r'\ball-gather\b|\ball-to-all\b', text))

  def test_forms_need_less_and_less(self):
    found = _estimates()
    self.assertEqual(
        list(found), [Form(2), Form(1), Form(1, stream=True),
                      Form(1, stream=True, height_parts=4)])
    values = list(found.values())
    self.assertEqual(values, sorted(values, reverse=True))
    self.assertLen(set(values), 4)

  def test_the_estimate_is_near_what_the_compiler_says(self):
    programs = tokenizer_programs.TokenizerPrograms(MODULE)
    frozen = jax.tree.map(jnp.asarray, tokenizer().frozen)
    x = jax.ShapeDtypeStruct((1, 3, 32, 32, 3), np.float32)
    estimate = programs.estimate('decode', Form(1), frozen, x, 1)
    memory = programs.whole['decode'].trace(
        frozen, x).lower().compile().memory_analysis()
    needed = (memory.argument_size_in_bytes + memory.output_size_in_bytes
              + memory.temp_size_in_bytes)
    self.assertBetween(estimate / needed, 0.7, 1.5)

  def test_the_first_form_that_fits_is_chosen(self):
    found = _estimates()
    shape = (8, *LATENTS.shape[1:])
    for form, needed in found.items():
      with self.subTest(form=form):
        choice = _codec(free_bytes=needed).choice('decode', shape)
        self.assertEqual((choice.form, choice.estimated_bytes, choice.fits),
                         (form, needed, True))
    least = _codec(free_bytes=1).choice('decode', shape)
    self.assertEqual((least.form, least.fits),
                     (Form(1, stream=True, height_parts=4), False))
    self.assertIn('may be too much', least.words)

  def test_little_memory_changes_no_clip_and_is_told(self):
    free = sorted(_estimates().values())[1]  # Of the streamed form.
    codec = _codec(free_bytes=free)
    clips = codec.decode(np.repeat(LATENTS, 3, 0)[:8])
    whole = _codec().decode(LATENTS)
    np.testing.assert_allclose(
        clips[[0, 3, 6]].astype(int), whole, atol=1)
    said = codec.describe()
    self.assertEqual((said['stream'], said['tile']), (True, None))
    record, = said['decode_forms']
    self.assertEqual(record['words'], '1 clip a device, by latent frame')
    self.assertEqual(record['form'], dict(
        rows=1, stream=True, tile=None, height_parts=1))
    self.assertEqual(record['free_bytes'], free)
    self.assertLessEqual(record['estimated_bytes'], free)

  def test_what_does_not_fit_after_all_takes_the_next_form(self):
    codec = compiled_tokenizer.Codec(tokenizer(), devices=jax.devices()[:2])
    in_form, tried = codec._in_form, []

    def full(method, form, x):
      tried.append(form)
      if not form.stream:
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 99G of 16G')
      return in_form(method, form, x)

    with mock.patch.object(codec, '_in_form', full), self.assertLogs(
        'walt_jax', 'WARNING') as logs:
      codec.decode(LATENTS)
      codec.decode(LATENTS)
    self.assertEqual(tried, [Form(2), Form(1), Form(1, stream=True),
                             Form(1, stream=True)])
    self.assertLen(logs.output, 2)
    self.assertTrue(codec.describe()['decode_forms'][0]['form']['stream'])

  @parameterized.parameters(
      (dict(stream=True), dict(is_ours=True, is_local=False),
       [Form(4, True), Form(1, True), Form(1, True, None, 2)]),
      (dict(tile=3), dict(is_ours=True, is_local=False),
       [Form(4, tile=3), Form(1, tile=3), Form(1, True, 3)]),
      ({}, dict(is_ours=True, is_local=True),
       [Form(4), Form(1), Form(1, True), Form(1, True, None, 2),
        Form(1, True, 16)]),
      ({}, dict(is_ours=False, is_local=False), [Form(4), Form(1)]),
      ({}, dict(is_ours=True, is_local=False, prefer_height=True),
       [Form(1, height_parts=2), Form(4), Form(1), Form(1, True),
        Form(1, True, None, 2)]))
  def test_what_is_asked_for_is_kept(self, asked, known, expected):
    self.assertEqual(list(tokenizer_forms.forms(
        Chunks(**asked), 8, 2, (3, 8, 4), **known)), expected)

  def test_free_memory_of_devices(self):
    class Device:

      def __init__(self, **stats):
        self.stats = stats

      def memory_stats(self):
        return self.stats

    self.assertEqual(device_memory.free_bytes(
        [Device(bytes_limit=1000, bytes_in_use=200),
         Device(bytes_limit=1000, bytes_in_use=700)]), 270)
    one, two = (device_memory.free_bytes(jax.devices()[:n]) for n in (1, 2))
    self.assertBetween(one, 1 << 20, 1 << 50)
    self.assertBetween(two / one, .3, .7)


if __name__ == '__main__':
  absltest.main()
