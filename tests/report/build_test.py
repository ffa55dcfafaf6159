"""The report shows what is there, says what is not, and needs no other file."""
import html.parser
import json
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np

from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.media import samples
from walt_jax.media import video
from walt_jax.report import build
from walt_jax.report import clips
from walt_jax.report import runs
from walt_jax.report import score_cards
from walt_jax.report import scores_file

_VOID = ('meta', 'link', 'img', 'br', 'path', 'line', 'circle')


class _Checker(html.parser.HTMLParser):
  """Checks nesting; collects tags and addresses."""

  def __init__(self):
    super().__init__()
    self.open, self.tags, self.addresses, self.text = [], [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.addresses += [v for k, v in attrs if k in ('src', 'href')]
    if tag not in _VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)

  def handle_endtag(self, tag):
    top = self.open.pop()
    assert top == tag, f'<{top}> closed by </{tag}>'

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'script'):
      self.text.append(data)


def check(page: str) -> _Checker:
  checker = _Checker()
  checker.feed(page)
  checker.close()
  assert not checker.open, checker.open
  for address in checker.addresses:
    assert address.startswith(('data:', '#')), address[:80]
  assert not re.search(r'url\(|@import|https?://(?!www\.w3\.org)', page)
  return checker


_DAMAGE = (
    b'', bytes(64), b'[' * 99_999, b'[]', b'{}', b'\xff\xfe',
    b'{"step": 1e400, "train/loss": 1}\n',
    b'{"step": 1, "train/loss": ' + b'9' * 400 + b'}\n',
    b'{"step": ' + b'9' * 400 + b', "train/loss": 1}\n')


class DamageTest(absltest.TestCase):

  def test_one_bad_run_costs_its_card_alone(self):
    for name in ('metrics.jsonl', 'timing.json', 'history.jsonl',
                 'config.json', 'samples.json', 'scores.json'):
      for data in _DAMAGE:
        with self.subTest(f'{name} {data[:9]}'), (
            tempfile.TemporaryDirectory()) as root:
          for run in ('good', 'bad'):
            folder = pathlib.Path(root, run)
            folder.mkdir()
            (folder / 'metrics.jsonl').write_text(
                '{"step": 1, "train/loss": 0.5}\n')
          (folder / name).write_bytes(data)
          checked = check(build.render(root))
          self.assertIn('good', ' '.join(checked.text))

  def test_what_cannot_be_made_says_why(self):
    with tempfile.TemporaryDirectory() as root:
      for run in ('good', 'bad'):
        pathlib.Path(root, run).mkdir()
        pathlib.Path(root, run, 'metrics.jsonl').write_text(
            '{"step": 1, "train/loss": 0.5}\n')
      made = runs._workdir
      def fails(path, name):
        if name == 'bad':
          raise ZeroDivisionError('<b>')
        return made(path, name)
      with mock.patch.object(runs, '_workdir', fails):
        text = ' '.join(check(build.render(root)).text)
    self.assertIn('bad cannot be shown: ZeroDivisionError: <b>', text)
    self.assertIn('0.5', text)


class ReportTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'run & <co>'
    self.folder.mkdir()
    self.clips = np.random.default_rng(0).integers(
        0, 256, (4, 3, 16, 16, 3), np.uint8)

  def write_samples(self, name: str, kind: str, num: int = 2, **kwargs):
    entries = [samples.Entry(f'{i:05d}', caption=f'clip <{i}>',
                             label=f'label {i % 2}', seed=i)
               for i in range(num)]
    return samples.write_samples(self.folder / name, self.clips[:num], entries,
                                 8, kind=kind, **kwargs)

  def write_workdir(self, name: str):
    workdir = self.folder / name
    (workdir / 'eval').mkdir(parents=True)
    with open(workdir / 'metrics.jsonl', 'w') as file:
      for step in range(1, 100):
        row = {'step': step, 'train/loss': 1 / step, 'train/rate': 1e-3}
        if step % 33 == 0:
          row |= {'eval/v_loss': 2 / step} | {
              f'eval/v_loss_q{q}': q / step for q in (1, 2, 3, 4)}
        file.write(json.dumps(row) + '\n')
      file.write('{"step": 100, "tra')
    (workdir / 'config.json').write_text('{"name": "<config>"}')
    for step in (33, 66):
      video.write_png(workdir / f'eval/step_{step:08d}_samples.png',
                      self.clips[0, 0])

  def test_full_page(self):
    self.write_samples('real', 'real')
    self.write_samples('samples', 'generated', 4, stages=[
        samples.StageRecord('base', 'base', 9, 'ab' * 32, seconds=1.0)])
    self.write_samples('reconstructions', 'reconstruction',
                       originals=self.clips[:2])
    for name in ('sr1', 'tokenizer', 'base'):
      self.write_workdir(name)
    scores_file.write_scores(
        self.folder,
        [scores_file.Score('Digit <accuracy>', 0.5, 'Base', 'fraction',
                      (0.4, 0.6), 160, target=0.3,
                      baselines=(scores_file.Baseline('chance', 0.1),))],
        [scores_file.Timing('train base', 200.0, 2**30)], dict(seed=[0, 1]))
    path = build.write_report(self.folder)
    self.assertEqual(path, self.folder / 'report.html')
    page = path.read_text()
    checker = check(page)
    # Four pairs of real and generated, two of original and reconstruction.
    self.assertEqual(checker.tags.count('video'), 12)
    self.assertEqual(checker.tags.count('img'), 3)
    text = ' '.join(checker.text)
    for expected in ('clip <0>', '50.0% [40.0, 60.0]', 'Digit <accuracy>',
                     'chance', '3 min 20 s, 1.00 GiB', 'inf dB',
                     'Drawn by base after 9 training steps.',
                     'train/loss', 'eval/v_loss', 'by quarter',
                     '1 unreadable line', '<config>', 'step 00000066'):
      self.assertIn(expected, text)
    self.assertNotIn('step 00000033', text)
    headings = re.findall(r'<h3>(tokenizer|base|sr1)</h3>', page)
    self.assertEqual(headings, ['tokenizer', 'base', 'sr1'])
    self.assertEqual(page, build.render(self.folder))

  def test_a_real_clip_of_another_size_says_so(self):
    self.write_samples('real', 'real', 1)
    self.write_samples('samples', 'generated', 1)
    self.assertNotIn('real, ', build.render(self.folder))
    samples.write_samples(
        self.folder / 'large', np.repeat(self.clips[:1], 2, axis=3),
        [samples.Entry('0', 'clip <0>', seed=7, index=3)], 8, kind='generated')
    page = build.render(self.folder)
    self.assertIn('>real, 16×16<', page)
    self.assertIn('seed 7 #3', page)

  def test_missing_parts_are_said(self):
    self.write_samples('samples', 'generated', 1, mp4=False)
    checker = check(build.render(self.folder))
    text = ' '.join(checker.text)
    for expected in ('No real clips', 'No reconstructions', 'No scores.json',
                     'No work directory', 'No timings'):
      self.assertIn(expected, text)
    self.assertEqual(checker.tags.count('video'), 1)  # Encoded from .npy.

  def test_a_work_directory_alone(self):
    self.write_workdir('base')
    text = ' '.join(check(build.render(self.folder / 'base')).text)
    self.assertIn('No generated clips', text)
    self.assertIn('train/loss', text)

  def test_a_tokenizer_shows_its_held_out_psnr(self):
    for metrics, text in (
        ('{"step": 1, "train/loss": 2}\n', 'No held-out score was written.'),
        ('{"step": 1, "eval/psnr": 31.5}\n', 'PSNR of held-out clips, dB')):
      (self.folder / 'metrics.jsonl').write_text(metrics)
      page = build.render(self.folder)
      self.assertIn(text, page)
      self.assertNotIn('Other curves', page)

  def test_broken_files_are_named_not_fatal(self):
    self.write_samples('samples', 'generated', 1)
    (self.folder / 'samples' / '00000.mp4').unlink()
    (self.folder / 'samples' / '00000.npy').write_bytes(b'no')
    (self.folder / 'old').mkdir()
    (self.folder / 'old' / 'samples.json').write_text('{')
    (self.folder / 'scores.json').write_text(
        '{"fvd": {"value": 3.25, "network": ["i3d", null]}, "x": "<y>"}')
    text = ' '.join(check(build.render(self.folder)).text)
    for expected in ('00000.npy', 'old', '3.25', 'i3d', '<y>'):
      self.assertIn(expected, text)

  def test_at_most_max_clips(self):
    self.write_samples('samples', 'generated', 4)
    page = build.render(self.folder, max_clips=3)
    self.assertEqual(check(page).tags.count('video'), 3)
    self.assertIn('3 of 4 clips', page)

  def test_command(self):
    self.write_workdir('base')
    self.assertEqual(cli.main(['report', str(self.folder)]), 0)
    self.assertTrue((self.folder / 'report.html').is_file())
    for argv in (['nowhere'], [str(self.folder / 'base' / 'eval')],
                 [str(self.folder), '--out', str(self.folder / 'no' / 'x')]):
      self.assertEqual(cli.main(['report', *argv]), 2)

  def test_nothing_to_report(self):
    with self.assertRaisesRegex(errors.UserError, 'nothing to report'):
      build.find(self.folder)


class PartsTest(absltest.TestCase):

  def test_match_prefers_caption_then_label_and_takes_turns(self):
    entry = samples.Entry
    real = samples.SampleSet(pathlib.Path('r'), 'real', 8, (
        entry('a', label='x'), entry('b', label='x'), entry('c', caption='p'),
        entry('d')))
    asked = [entry('0', label='x'), entry('1', label='x'),
             entry('2', label='x'), entry('3', caption='p'),
             entry('4', label='z', caption='p'), entry('5', label='z'),
             entry('6')]
    found = [item and item[1].stem for item in clips.match(
        asked, [real])]
    self.assertEqual(found, ['a', 'b', 'a', 'c', 'c', None, 'a'])

  def test_psnr(self):
    clip = np.zeros((1, 2, 2, 3), np.uint8)
    self.assertAlmostEqual(clips.psnr(clip, clip + 255), 0)
    self.assertAlmostEqual(clips.psnr(clip, clip + 1), 48.13, places=2)

  def test_pick_spreads_and_repeats_no_request_without_need(self):
    def picked(captions, count):
      entries = [samples.Entry(str(i), caption=caption)
                 for i, caption in enumerate(captions)]
      return [int(entry.stem) for entry in clips.pick(entries, count)]

    for captions, count, expected in (
        ([''] * 10, 4, [0, 2, 5, 7]), ([''] * 2, 4, [0, 1]),
        ('abcd' * 4, 4, [0, 1, 2, 3]),  # One in four would be all 'a'.
        ('abcd' * 4, 2, [0, 2]), ('aaaabc', 4, [0, 1, 4, 5]),
        ('ab' * 4, 5, [0, 1, 2, 3, 4])):
      with self.subTest(captions=captions, count=count):
        self.assertEqual(picked(captions, count), expected)

  def test_tiles_are_of_every_group_and_hide_no_baseline(self):
    with tempfile.TemporaryDirectory() as folder:
      names = [(group, f'{group}{i}') for group in 'abcd' for i in range(5)]
      scores_file.write_scores(folder, [
          scores_file.Score(name, 1.0, group, baselines=tuple(
              scores_file.Baseline(f'{name} {known}', 2.0)
              for known in ('chance', 'real', 'mean', 'still')))
          for group, name in names], [], {})
      text = score_cards.tiles(pathlib.Path(folder))
    self.assertEqual(re.findall(r'· (..)</small>', text), [
        f'{group}{i}' for group in 'abcd' for i in range(3)])
    for known in ('chance', 'real', 'mean', 'still'):
      self.assertIn(f'b2 {known} 2', text)

  def test_the_whole_run_is_no_step_of_itself(self):
    steps = [scores_file.Timing('draw', 60.0), scores_file.Timing('read', 65.0)]
    whole = scores_file.Timing(scores_file.WHOLE_RUN, 130.0, 2**31)
    with tempfile.TemporaryDirectory() as folder:
      for timings, expected in (
          (steps, 'In all 2 min 05 s.'),
          ([*steps, whole], 'In all 2 min 10 s, 2.00 GiB.')):
        scores_file.write_scores(folder, [], timings, {})
        text = score_cards.timing_section(pathlib.Path(folder), [], str)
        self.assertIn(expected, text)
        self.assertEqual(text.count('class="track"'), 2)

  def test_duration(self):
    self.assertEqual([score_cards.duration(x) for x in (0.04, 99, 185, 7800)],
                     ['0.0 s', '99.0 s', '3 min 05 s', '2 h 10 min'])


if __name__ == '__main__':
  absltest.main()
