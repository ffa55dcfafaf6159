"""Frames of real clips are given to models that learnt them, or refused."""
import dataclasses
import json
import pathlib
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests.sampling import cascade_test
from walt_jax.builders import config as config_lib
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import drawer as drawer_lib
from walt_jax.evaluation import given_frames as given_lib
from walt_jax.evaluation import inputs as inputs_lib
from walt_jax.evaluation import requests as requests_lib
from walt_jax.sampling import requests as sampling_requests

_REAL = clip_sets.of_array('real', np.zeros((2, 17, 1, 1, 3), np.uint8))
_IMAGE = sampling_requests.Request(image='a.png')


def _drawer(lengths, given, *, real=_REAL, requests=()):
  """A base that learnt to continue from `lengths` latent frames of 4."""
  request = requests_lib.EvaluationRequest(
      'fvd', measure=requests_lib.Measure(given_frames=given))
  return drawer_lib.Drawer.of(
      request, cascade_test.pipeline_of(('base', lengths)), mesh=None,
      requests=requests, real=real)


class GivenFramesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.object(
        cascade_test.CountingSampler, 'schedule',
        types.SimpleNamespace(path=lambda num_steps: None)))

  @parameterized.parameters(
      ((2,), 5), ((1, 2), 5), ((1, 2), 1), ((1,), 1), ((), 0))
  def test_frames_that_were_learnt_are_given(self, lengths, given):
    drawer = _drawer(lengths, given)
    self.assertEqual(drawer.given_frames, given)
    self.assertEqual(drawer.real is not None, bool(given))

  @parameterized.parameters(
      # Latent frames learnt, frames given, the real side, requests, said.
      ((), 5, _REAL, (), '--given_frames 5: .* 2 latent .* continue from no'),
      ((), 1, _REAL, (), '--given_frames 1: .* 1 latent .* continue from no'),
      ((2,), 1, _REAL, (), '--given_frames 1: .* continue from 2;'),
      ((1,), 5, _REAL, (), '--given_frames 5: .* continue from 1;'),
      ((1, 2), 4, _REAL, (), '--given_frames 4: .* 1 or 5 frames'),
      ((1, 2), 9, _REAL, (), '--given_frames 9: .* 1 or 5 frames'),
      ((1, 2), 5, None, (), '--given_frames 5 .* give clips'),
      ((1, 2), 5, _REAL, (_IMAGE,), "--given_frames 5 .* 'a.png'"))
  def test_others_are_refused(self, lengths, given, real, requests, said):
    with self.assertRaisesRegex(errors.UserError, said) as raised:
      _drawer(lengths, given, real=real, requests=requests)
    self.assertNotIn('\n', str(raised.exception))

  @parameterized.parameters(
      # What requests give, and what is known: frames, clips by frames.
      ((dict(image='a.png'), dict(image='b.png')), 1, {1: 2}),
      ((dict(video='a.mp4'),), 5, {5: 1}),
      ((dict(label='x'), dict(image='a.png')), None, {0: 1, 1: 1}),
      ((dict(label='x'),), 0, {0: 1}))
  def test_requests_that_give_frames_are_told(self, lines, frames, counts):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    file = pathlib.Path(folder) / 'requests.jsonl'
    file.write_text('\n'.join(map(json.dumps, lines)))
    request = requests_lib.EvaluationRequest(
        'fvd', workdirs=('x',),
        drawing=requests_lib.Drawing(requests_file=str(file)))
    opened = cascade_test.pipeline_of(('base', (1, 2))), None
    with mock.patch.object(drawer_lib, 'open_pipeline', lambda _: opened):
      found = given_lib.of(inputs_lib.Inputs(request))
    self.assertEqual((found.frames, dict(found.counts)), (frames, counts))
    self.assertEqual(found.known_by, '--requests' if frames != 0 else 'drawn')

  @parameterized.parameters(
      # p_fp, lengths in the config, frame_condition, lengths learnt.
      ('1.0', '(2,)', 'True', (2,)), ('0.5', '(1, 2)', 'True', (1, 2)),
      ('0.0', '(1, 2)', 'True', ()), ('0.0', '(1, 2)', 'False', ()))
  def test_what_a_config_learns(self, probability, lengths, has, learnt):
    config = config_lib.load('k600:smoke', [
        ('diffusion.frame_condition_probability', probability),
        ('diffusion.frame_condition_lengths', lengths),
        ('model.frame_condition', has)])
    self.assertEqual(objectives.frame_lengths(schema.of(config)), learnt)


class KeyTest(parameterized.TestCase):

  @parameterized.parameters(
      # Whether the network has the input, whether it was trained with it.
      (False, False, None), (True, True, None), (True, False, False))
  def test_samples_of_own_estimates_are_told_from_others(
      self, has_input, trained, expected):
    """Features that were drawn with untrained input are not taken again."""
    pipeline = cascade_test.pipeline_of(('base', ()))
    sampler = types.SimpleNamespace(
        self_condition=trained,
        denoiser=types.SimpleNamespace(self_condition=has_input))
    stage = dataclasses.replace(pipeline.stages[0], sampler=sampler)
    drawer = drawer_lib.Drawer(
        types.SimpleNamespace(
            stages=(stage,), tokenizer=types.SimpleNamespace(sha256='')),
        None, [cascade_test.SETTINGS], [sampling_requests.Request()], None, 0,
        1)
    self.assertEqual(
        drawer.describe()['stages'][0]['self_condition'], trained)
    self.assertEqual(
        drawer.key()[0]['stages'][0].get('self_condition'), expected)


if __name__ == '__main__':
  absltest.main()
