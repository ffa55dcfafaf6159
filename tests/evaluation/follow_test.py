"""Following a run: what is scored, what is told, and what is refused."""
import contextlib
import dataclasses
import io
import json
import pathlib
import shutil
import tempfile
from unittest import mock
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import pipelines
from walt_jax.commands import cli
from walt_jax.commands import evaluate
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.evaluation import catalog
from walt_jax.evaluation import comparison
from walt_jax.evaluation import drawer
from walt_jax.evaluation import follow
from walt_jax.evaluation import follow_records
from walt_jax.evaluation import followed_run
from walt_jax.evaluation import requests as requests_lib
from walt_jax.sampling import settings


class _Training:
  """A run that writes a checkpoint every 10 steps up to 80.

  Like Orbax it removes those that are neither of the newest two nor at a
  multiple of `keep_every`.
  """

  def __init__(self, base, keep_every=0):
    self.base, self.keep_every, self.step = base, keep_every, 0

  def begin(self, spec='quickstart:base'):
    config = config_lib.to_dict(config_lib.load(spec, [
        ('train.num_steps', '80'), ('train.save_every', '10'),
        ('train.keep_every', str(self.keep_every))]))
    self.base.mkdir(parents=True, exist_ok=True)
    (self.base / 'config.json').write_text(json.dumps(config))

  def advance(self, checkpoints=1):
    folder = self.base / 'checkpoints'
    for _ in range(checkpoints):
      self.step = min(self.step + 10, 80)
      (folder / str(self.step)).mkdir(parents=True, exist_ok=True)
    newest = sorted(int(path.name) for path in folder.iterdir())
    for step in newest[:-2]:
      if not self.keep_every or step % self.keep_every:
        shutil.rmtree(folder / str(step))


class _Metric:
  """The step is the score; training continues meanwhile."""
  takes = ('generated',)

  def __init__(self, meanwhile=lambda step: None):
    self.meanwhile = meanwhile

  def evaluate(self, inputs):
    step = inputs.request.drawing.step
    # The pipeline is that of the step.
    assert inputs.pipeline() == (f'weights of {step}', 'mesh')
    self.meanwhile(step)
    return dict(metric='own', value=float(step))


class FollowTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.base = folder / 'runs' / 'base'
    self.request = requests_lib.EvaluationRequest(
        'own', workdirs=(str(self.base),))
    self.opened = self.enterContext(mock.patch.object(
        drawer, 'open_pipeline',
        side_effect=lambda r: (f'weights of {r.drawing.step}', 'mesh')))
    for where, name, value in (
        (comparison, 'check', lambda *args: {}),
        (pipelines, 'at_step',
         lambda pipeline, mesh, step: f'weights of {step}')):
      self.enterContext(mock.patch.object(where, name, value))

  def follow(self, metric, waits=(), request=None):
    """The result and what was printed; each wait runs the next of `waits`."""
    waits = iter(waits)
    with (mock.patch('time.sleep', lambda seconds: next(waits)()),
          contextlib.redirect_stdout(io.StringIO()) as out):
      result = follow.follow(metric, request or self.request, poll=1.0,
                             write_scalars=lambda *args: None)
    return result, out.getvalue().splitlines()

  def test_it_may_be_started_before_the_run(self):
    run, nothing = _Training(self.base), lambda: None
    result, lines = self.follow(_Metric(), (
        nothing, nothing, run.begin, nothing, run.advance, nothing,
        lambda: run.advance(2), lambda: run.advance(2), run.advance,
        lambda: run.advance(2)))
    self.assertEqual(lines[:5], [
        f'waiting for {self.base}: no run has begun there yet',
        f'waiting for the first checkpoint of {self.base}',
        'step 10: own 10',
        f'waiting for checkpoints of {self.base} up to step 80',
        'step 20: own 20'])
    self.assertLen(lines, 3 + 8)
    self.assertEqual([point['step'] for point in result['history']],
                     [10, 20, 30, 40, 50, 60, 70, 80])
    self.assertEqual(result['missed'], [])
    self.opened.assert_called_once()

  @parameterized.parameters(
      (0, [10, 30, 60, 70, 80], [20, 40, 50]),
      (20, [10, 20, 40, 60, 70, 80], [30, 50]),
      (10, [10, 20, 30, 40, 50, 60, 70, 80], []))
  def test_what_training_keeps_is_scored_and_the_rest_is_named(
      self, keep_every, scored, missed):
    """Three more checkpoints come while one is scored."""
    run = _Training(self.base, keep_every)
    run.begin()
    run.advance()
    result, lines = self.follow(_Metric(lambda step: run.advance(3)))
    self.assertEqual([p['step'] for p in result['history']], scored)
    self.assertEqual(result['missed'], missed)
    told = [line for line in lines if line.startswith('gone')]
    self.assertEqual([step for line in told for step in range(10, 90, 10)
                      if f' {step}' in line], missed)
    self.opened.assert_called_once()
    # A rerun scores nothing, and names the same.
    again, lines = self.follow(_Metric(self.fail))
    self.assertEqual(again, result)
    self.assertLen(lines, bool(missed))

  def test_a_checkpoint_that_goes_while_it_is_scored(self):
    run = _Training(self.base)
    run.begin()
    run.advance(7)
    run.advance()

    def fail(step):
      if step == 70:
        shutil.rmtree(self.base / 'checkpoints' / '70')
        raise OSError('no file')

    result, _ = self.follow(_Metric(fail))
    self.assertEqual([p['step'] for p in result['history']], [80])
    self.assertEqual(result['missed'], [10, 20, 30, 40, 50, 60, 70])

  def test_a_checkpoint_that_only_the_first_process_still_sees(self):
    run = _Training(self.base)
    run.begin()
    run.advance(8)
    shutil.rmtree(self.base / 'checkpoints' / '70')
    look, seen, tries = followed_run.FollowedRun.look, [True], []

    def look_at_both(run_, scored):
      found = look(run_, scored)
      return dataclasses.replace(found, step=70) if seen else found

    def fail(step):
      tries.append(step)
      if step == 70:
        raise OSError('no file')

    with mock.patch.object(followed_run.FollowedRun, 'look', look_at_both):
      result, _ = self.follow(_Metric(fail), (lambda: None, seen.clear))
    self.assertEqual(tries, [70, 70, 70, 80])
    self.assertEqual(result['step'], 80)

  def test_a_checkpoint_that_is_there_and_cannot_be_scored(self):
    run = _Training(self.base)
    run.begin()
    run.advance(8)
    with self.assertRaisesRegex(OSError, 'broken'):
      self.follow(_Metric(mock.Mock(side_effect=OSError('broken'))))

  def test_what_can_never_be_scored_is_refused_before_waiting(self):
    step = dataclasses.replace(
        self.request, drawing=requests_lib.Drawing(step=3))
    real = dataclasses.replace(self.request, real=str(self.base / 'none'))
    compares, tokenizers = _Metric(), _Metric()
    compares.takes, tokenizers.takes = ('real', 'generated'), ('tokenizer',)
    for metric, request, message in (
        (_Metric(), step, '--step 3 with --follow'),
        (compares, real, 'no folder of clips'),
        (tokenizers, None, 'takes tokenizer')):
      with self.assertRaisesRegex(errors.UserError, message):
        self.follow(metric, request=request)
    _Training(self.base).begin('quickstart:tokenizer')
    with self.assertRaisesRegex(errors.UserError, 'draws no samples'):
      self.follow(_Metric())
    (self.base / exports.MODEL_FILE).touch()
    with self.assertRaisesRegex(errors.UserError, 'no work directory of a ru'):
      self.follow(_Metric())

  def test_the_command_waits_for_a_run_that_has_not_begun(self):
    real = self.base.parents[1] / 'real.npy'
    np.save(real, np.zeros((2, 1, 16, 16, 3), np.uint8))
    with (mock.patch('time.sleep', side_effect=KeyboardInterrupt),
          contextlib.redirect_stdout(io.StringIO()) as out):
      code = cli.main([
          'evaluate', 'fid', '--follow', '--workdir', str(self.base),
          '--real', str(real), '--json', str(real.parent / 'a.json')])
    self.assertEqual(code, 130)
    self.assertIn('no run has begun there yet', out.getvalue())
    self.assertFalse(self.base.exists())

  def test_what_every_checkpoint_would_repeat_is_told_once(self):
    run = _Training(self.base, keep_every=10)
    run.begin()
    run.advance(8)

    def warn(*args):
      del args
      warnings.warn('the clips differ', stacklevel=2)
      return {}

    metric = _Metric(
        lambda step: warnings.warn(f'odd {step // 40}', stacklevel=2))
    out = self.base / 'fid.json'
    for _ in range(2):  # Each command tells it anew.
      with (mock.patch.object(comparison, 'check', warn),
            mock.patch.object(catalog, 'find', lambda *args: metric),
            mock.patch.object(evaluate, '_write_scalars'),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()) as err):
        code = cli.main(['evaluate', 'fid', '--follow', '--workdir',
                         str(self.base), '--json', str(out)])
      self.assertEqual(code, 0, err.getvalue())
      self.assertLen(json.loads(out.read_text())['history'], 8)
      self.assertEqual(err.getvalue().splitlines(), [
          f'walt: warning: {text}'
          for text in ('the clips differ', 'odd 0', 'odd 1', 'odd 2')])
      shutil.rmtree(self.base / 'evaluation')

  def test_a_score_is_known_by_what_it_depends_on(self):
    plain = follow_records.asked(self.request)
    self.assertEqual(plain, dict(metric='own'))
    for same in (dict(batch_size=3), dict(cache='x'), dict(workdirs=('b',)),
                 dict(drawing=requests_lib.Drawing(step=3))):
      self.assertEqual(follow_records.asked(
          dataclasses.replace(self.request, **same)), plain)
    choice = settings.SamplerChoice(guidance=({'text': 2.0},))
    for other in (dict(real='x'), dict(frames=8), dict(seed=1),
                  dict(workdirs=('b', 'sr')),
                  dict(measure=requests_lib.Measure(given_frames=1)),
                  dict(drawing=requests_lib.Drawing(choice=choice))):
      self.assertNotEqual(follow_records.asked(
          dataclasses.replace(self.request, **other)), plain)


if __name__ == '__main__':
  absltest.main()
