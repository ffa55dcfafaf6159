"""Long clips through stages whose right output is known: frame numbers.

A stage here draws frames that count on from what it is given, so that a clip
joined rightly out of its windows reads 0, 1, 2, ..; the codec is exact.
"""
import dataclasses
import types as types_lib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from walt_jax.core import errors
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import request_checks
from walt_jax.sampling import requests as requests_lib

F_T = 4
WINDOW = 5  # Latent frames: 17 frames.
SETTINGS = pipeline_lib.StageSettings(
    samplers.SamplerOptions(), guidance_lib.Guidance())
Request = requests_lib.Request


class ExactCodec:
  """Latents hold the frames' grey values, F_T of them on channels."""
  f_s, f_t = 1, F_T

  def encode(self, pixels):
    grey = pixels[..., 0].astype(np.float32)
    first = np.repeat(grey[:, :1], F_T - 1, axis=1)
    grey = np.concatenate([first, grey], axis=1)
    b, t, h, w = grey.shape
    return grey.reshape(b, t // F_T, F_T, h, w).transpose(0, 1, 3, 4, 2)

  def decode(self, latents, rows=None):
    del rows
    b, t, h, w, c = latents.shape
    grey = latents.transpose(0, 1, 4, 2, 3).reshape(b, t * c, h, w)
    grey = np.rint(grey[:, F_T - 1:]).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class CountingSampler:
  """Counts on from the given frames, or from 0.

  Attributes:
    kind: 'base'; 'add', which adds 60 to the low-resolution frames where
      nothing is given; 'noise', whose windows each add a draw of their own.
  """
  kind: str = 'base'
  shape = (WINDOW, 1, 1, F_T)
  schedule = None
  denoiser = types_lib.SimpleNamespace(
      num_classes=0, low_res_factor=0, conditions=())

  def make(self, options, guidance):
    del options, guidance
    numbers = np.arange(WINDOW * F_T).reshape(WINDOW, F_T) - F_T + 1
    numbers = np.maximum(numbers, 0)[:, None, None, :].astype(np.float32)

    def draw(params, keys, conditioning, level):
      del level
      rows = keys.shape[0]
      values = jnp.broadcast_to(numbers, (rows, *self.shape)) + params
      if conditioning.text is not None:
        code = conditioning.text[:, 0, 0, 0] * conditioning.text_mask[:, 0, 0]
        values += code[:, None, None, None, None]
      if self.kind != 'base':
        values = conditioning.low_res + 60
      if self.kind == 'noise':
        shift = jax.vmap(lambda key: jax.random.randint(key, (), 0, 50))(keys)
        values += shift[:, None, None, None, None]
      if conditioning.frame_mask is not None and self.kind == 'base':
        mask = conditioning.frame_mask
        length = mask.sum(1).astype(int)
        last = conditioning.frame_cond[
            jnp.arange(rows), length - 1, 0, 0, F_T - 1]
        ahead = last - jnp.asarray(numbers[:, 0, 0, F_T - 1])[length - 1]
        shift = jnp.where(length > 0, ahead, 0)
        values += shift[:, None, None, None, None]
      if conditioning.frame_mask is not None:
        given = conditioning.frame_mask[..., None, None, None] > 0
        values = jnp.where(given, conditioning.frame_cond, values)
      return values

    return draw


class Speed:
  """A condition of the user's own."""
  column, shape, null = 'speed', (), 0.


class Codes:
  """A text encoder whose only number is the prompt's own."""
  sha256, name, max_tokens = '', 'codes', 1

  def embed(self, prompts):
    codes = np.array([float(p or 9) for p in prompts], np.float32)
    return codes[:, None, None], np.ones((len(prompts), 1), bool)

  @property
  def tokenizer(self):
    return self

  def full_ids(self, prompt):
    return prompt.split()

  def kept_text(self, prompt):
    return prompt.split()[0]


def pipeline_of(*stages, text=None) -> pipeline_lib.Pipeline:
  """Stages as (kind, latent frames that it continues from)."""
  made = []
  for index, (kind, lengths) in enumerate(stages):
    made.append(pipeline_lib.TrainedStage(
        name=f's{index}', workdir='', step=0, weights='params',
        sampler=CountingSampler(kind),
        params=pipeline_lib.StageParams(lambda: jnp.float32(0), str),
        classes=(), uses_text=text is not None, frame_lengths=lengths,
        can_factorize=False, defaults=SETTINGS))
  pipeline = pipeline_lib.Pipeline(None, tuple(made), text, 8.0)
  pipeline.__dict__['codec'] = ExactCodec()
  return pipeline


def frames_of(values) -> np.ndarray:
  values = np.asarray(values, np.uint8)
  return np.repeat(values[:, None, None, None], 3, axis=-1)


class CascadeTest(parameterized.TestCase):

  def draw(self, pipeline, requests, num_frames=None, given=None,
           batch_size=2):
    """Grey values [N, T] of each stage."""
    outputs = cascade.run(
        pipeline, requests, [SETTINGS] * len(pipeline.stages),
        batch_size=batch_size, plan=pipeline.plan(num_frames), given=given)
    return outputs, [
        np.stack([clip[:, 0, 0, 0].astype(int) for clip in
                  cascade.decode(pipeline, output, batch_size)])
        for output in outputs]

  @parameterized.parameters(1, 5, 17, 18, 29, 41, 64)
  def test_a_long_clip_goes_on_where_it_was(self, num_frames):
    pipeline = pipeline_of(('base', (1, 2)), ('add', (1, 2)))
    requests = requests_lib.repeat(Request(), 3)
    outputs, (base, sr) = self.draw(pipeline, requests, num_frames)
    np.testing.assert_array_equal(base, [np.arange(num_frames)] * 3)
    np.testing.assert_array_equal(sr, base + 60)
    self.assertFalse(outputs[0].blend or outputs[1].blend)

  def test_rows_are_spread_over_a_mesh(self):
    """Five requests, three at once: batches of four, one a shard."""
    seen = []

    class Seeing(CountingSampler):

      def make(self, options, guidance):
        draw = super().make(options, guidance)

        def seeing(params, keys, *arguments):
          seen.append(keys.shape)
          return draw(params, keys, *arguments)

        return seeing

    one = pipeline_of(('base', (1, 2)), ('noise', ()))
    spread = dataclasses.replace(one, stages=tuple(
        dataclasses.replace(stage, sampler=Seeing(stage.sampler.kind))
        for stage in one.stages), mesh=mesh_lib.make_mesh(
            2, 2, devices=jax.devices()[:4]))
    spread.__dict__['codec'] = ExactCodec()
    requests = requests_lib.repeat(Request(), 5)
    for a, b in zip(self.draw(spread, requests, 29, batch_size=3)[1],
                    self.draw(one, requests, 29, batch_size=3)[1],
                    strict=True):
      np.testing.assert_array_equal(a, b)
    self.assertEqual(set(seen), {(4,)})

  @parameterized.parameters(
      (Request(), set()),
      (Request(label='b'), {'label'}),
      (Request(prompt='3'), {'text'}),
      (Request(prompts=((0, ''), (2, '5'))), {'text'}),
      (Request(conditions=(('speed', (2.,)),)), {'own'}))
  def test_what_no_request_gives_is_left_out(self, request, given):
    """So that guidance by it costs nothing; one request decides for all."""
    seen = {}

    class Seeing(CountingSampler):
      denoiser = types_lib.SimpleNamespace(
          num_classes=2, low_res_factor=0, conditions=(Speed,))

      def make(self, options, guidance):
        def draw(params, keys, conditioning, level):
          seen.update(vars(conditioning))
          return jnp.zeros((len(keys), *self.shape))
        return draw

    pipeline = pipeline_of(('base', ()), text=Codes())
    stage = dataclasses.replace(
        pipeline.stages[0], sampler=Seeing(), classes=('a', 'b'))
    pipeline = pipeline.with_base(stage)
    cascade.run(pipeline, requests_lib.number([Request(), request]),
                [SETTINGS], batch_size=2)
    self.assertEqual({name for name in ('label', 'text', 'own')
                      if seen[name] is not None}, given)

  def test_windows_of_a_stage_without_frame_prediction_are_blended(self):
    pipeline = pipeline_of(('base', (1, 2)), ('add', ()), ('noise', ()))
    outputs, (base, agree, differ) = self.draw(
        pipeline, requests_lib.repeat(Request(), 3), 41)
    self.assertEqual([o.blend for o in outputs], [False, True, True])
    # Windows that agree join as if they were one.
    np.testing.assert_array_equal(agree, base + 60)
    # Windows that do not: constant shifts, which go over in six steps.
    shift = differ - base - 120
    for first, last in ((0, 12), (17, 24), (29, 41)):
      self.assertLen(set(shift[0, first:last]), 1)
    for first, last in ((11, 17), (23, 29)):
      total = shift[0, last] - shift[0, first]
      steps = np.diff(shift[0, first:last + 1])
      self.assertNotEqual(total, 0)
      self.assertLessEqual(np.abs(steps - total / 6).max(), 1)

  def test_images_and_videos(self):
    requests = requests_lib.number(
        [Request(image='i'), Request(), Request(video='v')])
    given = [frames_of([70]), None, frames_of([40, 41, 42, 43, 44])]
    pipeline = pipeline_of(('base', (1, 2)), ('add', (1, 2)))
    for batch_size in (1, 2, 3):
      _, (base, _) = self.draw(pipeline, requests, 31, given, batch_size)
      for row, start in enumerate((70, 0, 40)):
        np.testing.assert_array_equal(base[row], start + np.arange(31))

  def test_a_stage_keeps_what_it_goes_on_from(self):
    """One without frame prediction makes its own frames from low_res."""
    given = [frames_of([70])]
    for lengths, first in (((1, 2), 70), ((2,), 130), ((), 130)):
      pipeline = pipeline_of(('base', (1, 2)), ('add', lengths))
      _, (base, sr) = self.draw(
          pipeline, [Request(image='i')], 17, given)
      self.assertEqual(base[0, 0], 70)
      self.assertEqual(sr[0, 0], first)
      np.testing.assert_array_equal(sr[0, 1:], base[0, 1:] + 60)

  def test_prompts_change_with_the_windows(self):
    """A window follows the prompt in force in its middle; 0 adds nothing."""
    pipeline = pipeline_of(('base', (1, 2)), text=Codes())
    changing = Request(prompt='0', prompts=((0, '0'), (16, '50'), (30, '0')))
    request_checks.check_requests(
        pipeline, [changing], pipeline.plan(41))
    _, (base,) = self.draw(
        pipeline, requests_lib.number([changing, Request(prompt='50')]), 41)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(base[0]) != 1), [16])
    self.assertEqual(base[0, 17] - base[0, 16], 51)
    np.testing.assert_array_equal(base[1, :17], 50 + np.arange(17))

  def test_prompts_that_are_cut_are_told_once_each(self):
    pipeline = pipeline_of(('base', ()), text=Codes())
    requests = [Request(prompt=prompt) for prompt in ('1', '2 3', '2 3')]
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      request_checks.check_requests(pipeline, requests)
    self.assertRegex(logs.output[0], '1 of 2 prompts .* 1 tokens .*after "..2')

  def test_no_prompt_means_no_token(self):
    pipeline = pipeline_of(('base', (1, 2)), text=Codes())
    _, (base,) = self.draw(pipeline, [Request()])
    np.testing.assert_array_equal(base[0], np.arange(17))

  def test_refusals(self):
    image, long = Request(image='a.png'), Request()
    for lengths, request, frames, said in (
        ((), image, None, 'a.png.*1 latent'), ((2,), image, None, 'a.png'),
        ((1,), long, 18, '18.*2 latent'), ((), Request(video='v'), None, 'v'),
        ((1, 2), Request(prompts=((0, '1'), (16, '2'))), 17,
         "'2'.*never be followed")):
      pipeline = pipeline_of(('base', lengths), text=Codes())
      with self.assertRaisesRegex(errors.UserError, said):
        request_checks.check_requests(pipeline, [request],
                                    pipeline.plan(frames))
    request_checks.check_requests(pipeline, [Request()], pipeline.plan(9))

  def test_parameters_are_given_back(self):
    read = []
    pipeline = pipeline_of(('base', ()), ('add', ()))
    for stage in pipeline.stages:
      stage.params.__init__(
          lambda name=stage.name: (read.append(name), jnp.float32(0))[1],
          lambda params: 'hash')
    self.draw(pipeline, [Request()])
    self.assertEqual(read, ['s0', 's1'])
    self.assertEqual(pipeline.stages[0].params.sha256, 'hash')
    self.assertEqual(read, ['s0', 's1'])
    pipeline.stages[0].params.get()
    self.assertEqual(read, ['s0', 's1', 's0'])


if __name__ == '__main__':
  absltest.main()
