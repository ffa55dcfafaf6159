"""The quickstart's list of commands; `make quickstart` runs them."""
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.quickstart import __main__ as quickstart
from walt_jax.quickstart import tutorial
from walt_jax.report import scores_file


class CommandsTest(parameterized.TestCase):

  @parameterized.parameters(tutorial.SHORT, tutorial.LONG)
  def test_each_reads_what_an_earlier_one_wrote(self, plan):
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    written, names = set(), []
    for name, argv in tutorial.commands(plan, out):
      parsed = cli.parse(argv)
      outcome = next(
          (value for flag in ('output', 'out', 'json')
           if (value := getattr(parsed, flag, None))), None)
      if argv[0] == 'train':
        outcome = parsed.workdir
      for word in argv:
        value = word.partition('=')[2] or word
        for path in value.split(','):
          if path.startswith(str(out)) and path != str(outcome) and (
              'requests' not in path):
            self.assertIn(path, written, name)
      written.add(str(outcome))
      names.append(name)
    self.assertLen(set(names), len(names))

  def test_only_the_long_one_warms_its_base_up(self):
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for plan, expected in ((tutorial.SHORT, 0), (tutorial.LONG, 1)):
      begun = [argv for _, argv in tutorial.commands(plan, out)
               if f'--config.init_from={out}/base_warm_up' in argv]
      self.assertLen(begun, expected)

  @parameterized.parameters(
      ([], tutorial.SHORT, 'runs/quickstart'),
      (['--long'], tutorial.LONG, 'runs/quickstart_long'),
      (['--long', '--out', 'here'], tutorial.LONG, 'here'))
  def test_flags(self, argv, plan, out):
    with mock.patch.object(tutorial, 'run', return_value=0) as run:
      self.assertEqual(quickstart.run(argv), 0)
    run.assert_called_once_with(plan, pathlib.Path(out))

  def test_scores_are_printed_in_their_units(self):
    digits = scores_file.Score(
        'Digit accuracy', 113 / 160, 'Base', 'fraction',
        baselines=(scores_file.Baseline('chance', .1),))
    self.assertEqual(tutorial.summary_line(digits),
                     'Base: Digit accuracy 70.6% (chance 10.0%)')
    decibels = scores_file.Score('PSNR', 33.372, 'Tokenizer', 'dB')
    self.assertEqual(tutorial.summary_line(decibels),
                     'Tokenizer: PSNR 33.37 dB')


if __name__ == '__main__':
  absltest.main()
