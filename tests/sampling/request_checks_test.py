"""What is asked is used, or refused in one line, or told."""
import dataclasses
import functools
import json
import pathlib
import shutil
import tempfile
import types

from absl.testing import absltest
from absl.testing import parameterized
import jax

from tests.sampling import cascade_test
from walt_jax.builders import pipelines
from walt_jax.core import errors
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import request_checks
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import settings

_EXPORT = pathlib.Path(__file__).parents[1] / 'golden' / 'files' / 'export'
_SEVEN, _TWO = ('seven', 'two'), ('two',)


class _Speed:
  column, shape = 'speed', ()


class _Paths(cascade_test.CountingSampler):
  """A stage with a schedule, and a condition of the user's own."""
  schedule = types.SimpleNamespace(path=lambda num_steps: None)
  denoiser = types.SimpleNamespace(
      num_classes=0, low_res_factor=0, conditions=(_Speed,))


def _pipeline(*, text=False, classes=((),), own=False, **changed
              ) -> pipeline_lib.Pipeline:
  """A stage for each tuple of classes."""
  kinds = [('base' if index == 0 else 'add', (1, 2))
           for index in range(len(classes))]
  found = cascade_test.pipeline_of(
      *kinds, text=cascade_test.Codes() if text else None)
  stages = tuple(
      dataclasses.replace(stage, classes=names, workdir=f'runs/{stage.name}',
                          **({'sampler': _Paths()} if own else {}), **changed)
      for stage, names in zip(found.stages, classes, strict=True))
  pipeline = dataclasses.replace(found, stages=stages)
  pipeline.__dict__['codec'] = found.codec
  return pipeline


class RequestChecksTest(parameterized.TestCase):

  @parameterized.parameters(
      # The base's text, classes of each stage, own; request; what is said.
      (False, (_SEVEN,), False, dict(prompt='1'), "'1'.*give --label"),
      (False, ((),), False, dict(prompt='1'), "'1'.*leave the prompt out"),
      (False, (_SEVEN,), False,
       dict(prompt='', prompts=((0, ''), (16, '2'))), "'2'.*without text"),
      (True, ((),), False, dict(label='two'), "'two'.*known: none"),
      (True, (_SEVEN,), False, dict(label='one'), "'one'.*known: seven, two"),
      # A later stage would draw the label as none.
      (True, (_SEVEN, _TWO), False, dict(label='seven'),
       'no class of runs/s1; known: two'),
      (True, (_SEVEN,), False, dict(conditions=(('speed', (1.0,)),)),
       "'speed': no stage was trained with it; known: none"),
      (True, (_SEVEN,), True, dict(conditions=(('sped', (1.0,)),)),
       "'sped'.*known: speed"))
  def test_conditions_that_no_stage_learnt_are_refused(
      self, text, classes, own, asked, said):
    pipeline = _pipeline(text=text, classes=classes, own=own)
    with self.assertRaisesRegex(errors.UserError, said) as raised:
      request_checks.check_requests(
          pipeline, [requests_lib.Request(**asked)], pipeline.plan(29))
    self.assertNotIn('\n', str(raised.exception))

  @parameterized.parameters(
      (False, (_SEVEN,), False, dict(label='two')),
      (True, (_SEVEN,), False, dict(prompt='1')),
      (True, (_SEVEN,), False, dict(label='two', prompt='1')),
      (True, (_SEVEN, ()), False, dict(label='two', prompt='1')),
      (True, (_SEVEN, _TWO), False, dict(label='two')),
      (False, ((),), True, dict(conditions=(('speed', (1.0,)),))),
      (False, ((),), False, dict()))
  def test_others_are_drawn_without_a_word(self, text, classes, own, asked):
    with self.assertNoLogs('walt_jax', 'WARNING'):
      request_checks.check_requests(
          _pipeline(text=text, classes=classes, own=own),
          [requests_lib.Request(**asked)])

  @parameterized.parameters(
      (True, (_SEVEN,), False, (), 'conditioned on .label, text..$'),
      (False, (_SEVEN,), False, (), 'conditioned on .label..$'),
      (True, ((),), True, (), 'conditioned on .speed, text..$'),
      (True, (_SEVEN,), False, ('text', 'frames'),
       'training never left out text, so'))
  def test_nothing_given_is_told_in_one_line(
      self, text, classes, own, never, said):
    pipeline = _pipeline(text=text, classes=classes, own=own,
                         never_without=frozenset(never))
    asked = [requests_lib.Request(), requests_lib.Request(image='a.png')]
    if classes != ((),):
      asked.append(requests_lib.Request(label='two'))
    with self.assertLogs('walt_jax', 'WARNING') as told:
      request_checks.check_requests(pipeline, asked)
    line, = told.output
    self.assertRegex(line, said)
    self.assertIn(f'2 of {len(asked)} samples are drawn unconditionally', line)
    self.assertIn('runs/s0', line)

  @parameterized.parameters(
      # Scales asked for; requests; windows; factorized; what is told.
      ({'frames': 2.0}, [{}], 17, False, ['frames=2 .* 1 of 1']),
      ({'frames': 2.0}, [dict(image='a.png'), {}], 17, False,
       ['frames=2 .* 1 of 2']),
      ({'frames': 2.0}, [dict(video='a.mp4')], 17, False, []),
      ({'frames': 2.0}, [{}], 29, False, []),  # Its own last frames.
      ({'frames': 2.0}, [{}], 17, True, []),  # Its own first frame.
      ({'label': 0.0, 'text': 3.0}, [dict(prompt='1')], 17, False,
       ['label=0 .* 1 of 1']),
      ({'text': 3.0, 'speed': 2.0}, [dict(label='two')], 17, False,
       ['text=3 .* 1 of 1', 'speed=2 .* 1 of 1']),
      ({'speed': 2.0}, [dict(conditions=(('speed', (0.0,)),))], 17, False, []),
      ({'label': 5.0}, [{}], 17, False, []))  # As the config has it.
  def test_guidance_by_what_is_not_given_is_told(
      self, scales, asked, num_frames, factorized, told):
    pipeline = _pipeline(text=True, classes=(_SEVEN,), own=True)
    stage, = pipeline.stages
    plan = pipeline.plan(num_frames)
    pipeline = dataclasses.replace(pipeline, stages=(dataclasses.replace(
        stage, can_factorize=True, defaults=dataclasses.replace(
            stage.defaults, guidance=guidance_lib.of({'label': 5.0}))),))
    choice = settings.SamplerChoice(
        guidance=[scales], factorized=factorized or None)
    check = functools.partial(
        request_checks.tell_idle_guidance, pipeline,
        [requests_lib.Request(**each) for each in asked],
        settings.stage_settings(choice, pipeline), plan)
    if not told:
      with self.assertNoLogs('walt_jax', 'WARNING'):
        check()
      return
    with self.assertLogs('walt_jax', 'WARNING') as lines:
      check()
    for line, said in zip(lines.output, told, strict=True):
      self.assertRegex(line, said)
    if 'frames' in scales:
      with self.assertNoLogs('walt_jax', 'WARNING'):
        check(frames_given=True)  # As `evaluate --given_frames` does.

  def test_guidance_that_was_not_learnt_is_refused(self):
    pipeline = _pipeline(text=True, classes=(_SEVEN,), own=True,
                         never_without=frozenset({'text'}))
    choose = lambda **scales: settings.stage_settings(
        settings.SamplerChoice(guidance=[scales]), pipeline)
    choose(label=2.0, text=1.0)
    with self.assertRaisesRegex(
        errors.UserError, 'text=2: training of stage s0 .* never left text'):
      choose(label=2.0, text=2.0)


class JobTest(parameterized.TestCase):

  def test_a_label_and_a_prompt_stand_together(self):
    pipeline = _pipeline(text=True, classes=(_SEVEN,), own=True)
    job = job_lib.SamplingJob(prompt='5', label='two', num_samples=2)
    self.assertEqual(
        [(r.prompt, r.label) for r in
         job_lib.prepare(job, pipeline).requests], [('5', 'two')] * 2)
    job = dataclasses.replace(job, label='all', num_samples=1)
    self.assertEqual(
        [(r.prompt, r.label) for r in job_lib.prepare(job, pipeline).requests],
        [('5', 'seven'), ('5', 'two')])

  def test_guidance_by_what_is_not_given(self):
    pipeline = _pipeline(text=True, classes=(_SEVEN,), own=True)
    job = job_lib.SamplingJob(label='two', choice=settings.SamplerChoice(
        guidance=[{'text': 2.0}]))
    with self.assertLogs('walt_jax', 'WARNING') as told:
      job_lib.prepare(job, pipeline)
    self.assertIn('text=2 changes nothing in 1 of 1', told.output[0])

  @parameterized.parameters(
      (dict(prompt='1'), '--prompt'), (dict(label='two'), '--label'),
      (dict(prompt='1', label='two', video='v'), '--prompt, --label, --video'),
      (dict(image='i'), '--image'),
      (dict(conditions=(('speed', (1.0,)),)), '--condition'))
  def test_a_file_of_requests_stands_alone(self, given, said):
    job = job_lib.SamplingJob(requests_file='r.jsonl', **given)
    with self.assertRaisesRegex(errors.UserError,
                                f'--requests r.jsonl with {said}: give'):
      job.requests(_pipeline())

  def test_an_image_and_a_video(self):
    job = job_lib.SamplingJob(image='a.png', video='b.mp4')
    with self.assertRaisesRegex(errors.UserError, 'a.png with --video b.mp4'):
      job.requests(_pipeline())


class TextTest(parameterized.TestCase):

  @parameterized.parameters(
      ('max_tokens', 6), ('width', 16), ('name', 't5'))
  def test_stages_of_unlike_texts_are_refused(self, key, value):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for name in ('a', 'b'):
      shutil.copytree(_EXPORT, folder / name)
    path = folder / 'b' / 'config.json'
    config = json.loads(path.read_text())
    config['text'][key] = value
    path.write_text(json.dumps(config))
    with self.assertRaisesRegex(errors.UserError, f'text.{key}={value!r}'):
      pipelines.load_pipeline(
          [str(folder / 'a'), str(folder / 'b')],
          mesh_lib.make_mesh(devices=jax.devices()[:1]))


if __name__ == '__main__':
  absltest.main()
