"""What a run's history tells after kills, ends and damage."""
import functools
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.core import run_history


class RunHistoryTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'run')

  def test_a_run_without_any_has_none(self):
    self.assertEqual(run_history.read(self.workdir), run_history.History())

  def test_starts_saves_and_ends(self):
    run_history.note_start(self.workdir, None, began=100.0)
    run_history.note_save(self.workdir, 5, 12.5)
    run_history.note_start(self.workdir, 5, began=200.0)  # It was killed.
    with open(self.workdir / 'history.jsonl', 'a') as file:
      file.write('nothing\n{"event": "start"}\n[]\n')
    run_history.note_end(self.workdir, 75)
    first, second = run_history.read(self.workdir).attempts
    self.assertEqual(first, run_history.Attempt(100.0, -1))
    self.assertEqual((second.began, second.step, second.code), (200.0, 5, 75))
    self.assertEqual(run_history.read(self.workdir).productive, {5: 12.5})

  def test_wall_time_leaves_out_what_follows_a_finished_run(self):
    history = run_history.History((
        run_history.Attempt(100.0, -1, 1, 130.0),
        run_history.Attempt(200.0, 5, 0, 260.0),
        run_history.Attempt(1000.0, 10)))
    self.assertEqual(history.wall_seconds(1010.0), 100.0 + 60.0 + 10.0)

  def test_processes_without_a_history_have_no_wall_time(self):
    self.assertEqual(run_history.History().wall_seconds(1010.0), 0.0)

  @parameterized.parameters(
      (None, 0), (errors.UserError('x'), 2), (ValueError('x'), 1),
      (KeyboardInterrupt(), 130), (SystemExit(75), 75))
  def test_ends_have_the_codes_of_the_command_line(self, error, code):
    run_history.note_start(self.workdir, None)
    try:
      with run_history.ended(
          functools.partial(run_history.note_end, self.workdir)):
        if error is not None:
          raise error
    except BaseException as caught:  # pylint: disable=broad-except
      self.assertIs(caught, error)
    (attempt,) = run_history.read(self.workdir).attempts
    self.assertEqual(attempt.code, code)


if __name__ == '__main__':
  absltest.main()
