"""Names in tables -> files: every spelling, and nothing guessed."""
import pathlib
import unicodedata

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.data.prepare import matching
from walt_jax.data.prepare import segments

_ROOT = pathlib.Path('/data/in')
_NFC, _NFD = (unicodedata.normalize(form, 'caf\u00e9.mp4')
              for form in ('NFC', 'NFD'))


def _match(names, paths, how=matching.by_path):
  """Names by path, and reasons of those that are about none."""
  lines = [segments.Annotation(name, f't.csv:{number}')
           for number, name in enumerate(names, start=2)]
  arguments = (lines, paths) + ((_ROOT,) if how is matching.by_path else ())
  found, missing, _ = how(*arguments)
  return ({path: [line.name for line in own] for path, own in found.items()},
          {entry.file: entry.reason for entry in missing})


class ByPathTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('as_it_stands', 'a/x.mp4', ['a/x.mp4', 'b/x.mp4']),
      ('dotted', './a//y/../x.mp4', ['a/x.mp4', 'b/x.mp4']),
      ('blanks', '  a/x.mp4 ', ['a/x.mp4', 'b/x.mp4']),
      ('backslashes', r'a\x.mp4', ['a/x.mp4', 'b/x.mp4']),
      ('absolute', '/data/in/a/x.mp4', ['a/x.mp4', 'b/x.mp4']),
      ('of_another_machine', '/home/me/videos/a/x.mp4',
       ['a/x.mp4', 'b/x.mp4']),
      ('of_windows', r'C:\Users\me\a\x.mp4', ['a/x.mp4', 'b/x.mp4']),
      ('absolute_with_less_in_common', '/home/me/x.mp4', ['a/x.mp4', 'y.mp4']),
      ('with_the_inputs_own_folder', 'in/a/x.mp4', ['a/x.mp4', 'b/x.mp4']),
      ('without_folders', 'x.mp4', ['a/x.mp4', 'b/y.mp4']),
      ('other_case', 'A/X.MP4', ['a/x.mp4', 'b/x.mp4']),
      ('exact_case_first', 'q/X.mp4', ['a/q/X.mp4', 'b/q/x.mp4']),
      ('without_suffix', 'a/x', ['a/x.mp4', 'b/x.mp4']),
      ('dots_without_suffix', 'a.x.1', ['a.x.1.mp4', 'a.x.mp4']),
      ('a_name_with_a_backslash', 'a\\x.mp4', ['a\\x.mp4', 'a/x.mp4']))
  def test_finds_the_first_file(self, name, paths):
    found, missing = _match([name], paths)
    self.assertEqual(found, {paths[0]: [name]})
    self.assertEmpty(missing)

  @parameterized.parameters((_NFC, _NFD), (_NFD, _NFC), (_NFC, _NFC))
  def test_letters_with_accents_in_either_form(self, name, path):
    found, missing = _match([f'a/{name}'], [f'a/{path}', f'b/{path}'])
    self.assertEqual(found, {f'a/{path}': [f'a/{name}']})
    self.assertEmpty(missing)
    # Both forms side by side are two files.
    found, _ = _match([name], [_NFC, _NFD])
    self.assertEqual(found, {name: [name]})

  @parameterized.named_parameters(
      ('two_files', ['x.mp4'], ['a/x.mp4', 'b/x.mp4'],
       {'x.mp4': "2 files could be meant: 'a/x.mp4', 'b/x.mp4'"}),
      ('two_files_of_a_stem', ['x'], ['x.mp4', 'x.jpg'],
       {'x': '2 files could be meant'}),
      ('two_names', ['/u/x.mp4', '/v/x.mp4'], ['x.mp4'],
       {'/u/x.mp4': "'x.mp4' could be that or '/v/x.mp4'",
        '/v/x.mp4': "'x.mp4' could be that or '/u/x.mp4'"}),
      ('two_names_beside_one_that_fits', ['/u/x.mp4', '/v/x.mp4', 'x.mp4'],
       ['a/x.mp4'],
       {'/u/x.mp4': "could be that or '/v/x.mp4'",
        '/v/x.mp4': "could be that or '/u/x.mp4'",
        'x.mp4': "could be that or '/v/x.mp4'"}),
      ('another_suffix', ['x.avi'], ['x.mp4'], {'x.avi': 'no such file'}),
      ('a_partial_download', ['x.mp4'], ['x.mp4.part'],
       {'x.mp4': 'no such file'}),
      ('another_folder', ['b/x.mp4'], ['a/x.mp4'], {'b/x.mp4': 'no such file'}),
      ('empty', [' '], ['x.mp4'], {' ': 'no such file'}),
      ('the_folder_itself', ['/'], ['x.mp4'], {'/': 'no such file'}))
  def test_nothing_is_guessed(self, names, paths, reasons):
    found, missing = _match(names, paths)
    self.assertEmpty(found)
    self.assertEqual(missing.keys(), reasons.keys())
    for name, reason in reasons.items():
      self.assertRegex(missing[name], rf'named in t.csv:\d, but .*{reason}')

  def test_a_file_that_is_named_is_no_candidate(self):
    found, missing = _match(['a/x.mp4', 'x.mp4'], ['a/x.mp4', 'b/x.mp4'])
    self.assertEqual(found, {'a/x.mp4': ['a/x.mp4'], 'b/x.mp4': ['x.mp4']})
    self.assertEmpty(missing)

  def test_spellings_of_one_name_are_one(self):
    names = ['a/x.mp4', './a/x.mp4', r'a\x.mp4', '/data/in/a/x.mp4']
    found, _ = _match(names, ['a/x.mp4'])
    self.assertEqual(found, {'a/x.mp4': names})
    names = ['/u/x.mp4', r'\u\x.mp4']
    self.assertEqual(_match(names, ['x.mp4'])[0], {'x.mp4': names})
    names = ['x.mp4', '/u/a/x.mp4', 'A/x.mp4']  # Each ends the second.
    self.assertEqual(_match(names, ['b/a/x.mp4'])[0], {'b/a/x.mp4': names})

  def test_what_is_matched_by_its_end_is_counted(self):
    lines = [segments.Annotation(name, f't.csv:{number}') for number, name in
             enumerate(('a/x.mp4', r'a\y.mp4', '/data/in/a/z.mp4',  # Exact.
                        '/u/a/v.mp4', '/u/a/v.mp4', 'W.mp4', 'none.mp4'))]
    found = matching.by_path(
        lines, [f'a/{name}.mp4' for name in 'xyzvw'], _ROOT)
    self.assertLen(found.lines, 5)
    self.assertEqual(found.by_end, 3)

  def test_names_that_are_not_utf8(self):
    name = b'a/caf\xe9.mp4'.decode('utf-8', 'surrogateescape')
    self.assertEqual(_match([f'./{name}'], [name])[0], {name: [f'./{name}']})


class OtherListsTest(absltest.TestCase):

  def test_ucf101_names_files_wherever_they_lie(self):
    found, missing = _match(
        ['Biking/a.avi', 'Biking/c.avi'], ['a.avi', 'x/a.avi', 'x/b.avi'],
        matching.by_name)
    self.assertEqual(found, {'a.avi': ['Biking/a.avi'],
                             'x/a.avi': ['Biking/a.avi']})
    self.assertEqual(list(missing), ['Biking/c.avi'])

  def test_kinetics_names_videos_and_cut_segments(self):
    lines = [segments.Annotation('a_1', 't:1', start=5.0, end=15.0),
             segments.Annotation('a_1', 't:2', start=20.0, end=30.0),
             segments.Annotation('b', 't:3', start=1.0, end=2.0)]
    found, missing, _ = matching.by_youtube_id(
        lines, ['x/a_1.mp4', 'a_1_000020_000030.mp4', 'a_1_000021_000030.mp4'])
    self.assertEqual(found, {
        'x/a_1.mp4': lines[:2],
        'a_1_000020_000030.mp4': [segments.Annotation('a_1', 't:2')]})
    self.assertEqual([entry.file for entry in missing], ['b'])


if __name__ == '__main__':
  absltest.main()
