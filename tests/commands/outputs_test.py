"""Every flag that names something to write, with every kind of bad place."""
import argparse
import json
import os
import pathlib
import re
import socket
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from tests.commands import locations_test
from walt_jax.commands import cli
from walt_jax.commands import joined
from walt_jax.commands.flags import locations
from walt_jax.commands.flags import outputs as flags
from walt_jax.core import errors
from walt_jax.core import exit_codes
from walt_jax.core import made_by as made_by_lib
from walt_jax.core import outputs
from walt_jax.media import video
from walt_jax.quickstart import __main__ as quickstart

_FILE, _CLIPS = outputs.Kind.FILE, outputs.Kind.CLIPS
_EXPORT, _OWN = outputs.Kind.EXPORT, outputs.Kind.OWN
_SCORE = {'--json': _FILE}
_MEASURED = _SCORE | {'--save_statistics': _FILE, '--save_samples': _FILE,
                      '--cache': _OWN}
# A flag that is not here has no row in the tests below: they fail.
EXPECTED = {
    'train': {'--workdir': _OWN},
    'sample': {'--out': _CLIPS},
    'evaluate fvd': _MEASURED, 'evaluate fid': _MEASURED,
    'evaluate is': _MEASURED,
    'evaluate reconstruction': _SCORE,
    'evaluate control': _SCORE | {'--save_samples': _FILE},
    'evaluate compare': _SCORE,
    'data prepare': {'--output': _OWN},
    'data render': {'--output': _OWN},
    'data inspect': {'--out': _FILE},
    'plan': {'--json': _FILE, '--html': _FILE},
    'export': {'--out': _EXPORT},
    'report': {'--out': _FILE},
}
ROWS = [(f'{command} {flag}', kind) for command, row in EXPECTED.items()
        for flag, kind in row.items()]
_FILES = [name for name, kind in ROWS if kind is _FILE]
_FOLDERS = [name for name, kind in ROWS if kind is not _FILE]
_RECORDED = [row for row in ROWS if row[1] is not _OWN]
# Flags of such names write, whatever their values are said to be.
_WRITES = re.compile(r'--(out|output|json|html|csv|save|cache|write|dump|log)')
_FOREIGN = {_CLIPS: '00000.mp4', _EXPORT: 'thesis.txt'}


def found() -> dict[str, dict[str, outputs.Kind]]:
  """What the parsers say."""
  commands = {}
  for words, parser in locations_test.leaves(cli.make_parser()):
    row = {action.option_strings[0]: action.type.kind
           for action in parser._actions
           if isinstance(action.type, locations.Writes)}
    if row:
      commands[' '.join(words)] = row
  return commands


class OutputsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.folder)

  def line(self, name: str, value, *more: str) -> list[str]:
    """A whole command line; its inputs are all `x`, which is not there."""
    line = list(locations_test.command_lines(str(value))[name])
    if '--json' in line and not name.endswith('--json'):
      line[line.index('--json') + 1] = 'scores.json'
    return [*line, *more]

  def run_line(self, argv, entry_point=lambda args: None) -> tuple[int, str]:
    """Runs a command with its work stubbed, on one host or as joined ones."""
    work = types.SimpleNamespace(run=entry_point)

    def run(args: argparse.Namespace) -> None:
      if hasattr(args, 'work'):
        with mock.patch.object(
            joined.importlib, 'import_module', lambda name: work):
          joined.run(args, None)
      else:
        entry_point(args)

    return locations_test.run(argv, run)

  def made_by(self, argv) -> made_by_lib.MadeBy:
    return flags.made_by(cli.parse(argv))

  def assert_refused(self, argv, *named: str) -> None:
    before = sorted(self.folder.rglob('*'))
    code, err = self.run_line(argv, self.fail)
    self.assertEqual(code, exit_codes.USER_ERROR, err)
    self.assertRegex(err, r'\Awalt: error: [^\n]+\n\Z')
    for text in named:
      self.assertIn(text, err)
    self.assertEqual(sorted(self.folder.rglob('*')), before)

  def assert_taken(self, argv) -> None:
    before = sorted(self.folder.rglob('*'))
    begun = []
    code, err = self.run_line(argv, begun.append)
    self.assertEqual((code, err, len(begun)), (0, '', 1))
    self.assertEqual(sorted(self.folder.rglob('*')), before)

  def put(self, path: pathlib.Path, kind: outputs.Kind,
          made_by: made_by_lib.MadeBy | None, suffix: str) -> None:
    """A result, as commands write it."""
    if kind is _FILE:
      path.write_bytes(result(made_by, suffix))
      return
    path.mkdir()
    name = 'samples.json' if kind is _CLIPS else 'model.safetensors'
    (path / name).write_text('{}')
    if made_by is not None:
      made_by.into_folder(path)

  def test_every_output_flag_has_a_row(self):
    self.assertEqual(found(), EXPECTED)
    for words, parser in locations_test.leaves(cli.make_parser()):
      for action in parser._actions:
        if _WRITES.match((action.option_strings or ['-'])[0]):
          self.assertIsInstance(action.type, locations.Writes,
                                f'{words} {action.option_strings}')

  def test_who_replaces_can_be_told_to(self):
    for words, parser in locations_test.leaves(cli.make_parser()):
      row = EXPECTED.get(' '.join(words), {})
      self.assertEqual('--overwrite' in parser._option_string_actions,
                       bool(row) and words != ('train',), words)

  @parameterized.parameters(*ROWS)
  def test_new_places_are_taken(self, name, kind):
    self.assert_taken(self.line(name, 'new'))
    if kind is not _FILE:
      self.assert_taken(self.line(name, 'a/b/c'))

  @parameterized.parameters(*ROWS)
  def test_places_where_nothing_can_be_written(self, name, kind):
    # The superuser has every permission there.
    for place in ('/proc/x', '/sys/x', '', 'y' * 300):
      self.assert_refused(self.line(name, place), name.split()[-1])

  @parameterized.parameters(*_FILES)
  def test_a_file_is_no_folder_and_needs_one(self, name):
    (self.folder / 'folder').mkdir()
    self.assert_refused(self.line(name, 'folder'), 'folder', 'is a folder')
    self.assert_refused(self.line(name, 'none/file'), 'none/file', 'no such')

  @parameterized.parameters(*_FOLDERS)
  def test_a_folder_is_no_file(self, name):
    (self.folder / 'file').write_text('mine')
    for place in ('file', 'file/below', '/dev/null', '/dev/stdout'):
      self.assert_refused(self.line(name, place), place, 'no folder')

  @parameterized.parameters(*_FILES)
  def test_devices_are_written_through(self, name):
    for place in ('/dev/null', '/dev/stdout', '/dev/fd/2'):
      self.assert_taken(self.line(name, place))
    with socket.socket(socket.AF_UNIX) as server:
      server.bind('socket')
      self.assert_refused(self.line(name, 'socket'), 'socket')

  @parameterized.parameters(*ROWS)
  def test_full_disks(self, name, kind):
    del kind
    full = types.SimpleNamespace(free=4096)
    with mock.patch.object(outputs.shutil, 'disk_usage', lambda path: full):
      self.assert_refused(self.line(name, 'new'), 'left', 'room')

  @parameterized.parameters(*ROWS)
  def test_inputs_stay(self, name, kind):
    line = self.line(name, 'mine')
    args = cli.parse(line)
    inputs = [path for path in locations.found(vars(args).values())
              if not path.is_written]
    if not inputs:
      self.assertIn(name.split()[:2], [['train', '--workdir'],
                                       ['data', 'render']])
      return
    target = self.folder / 'mine'
    target.write_text('{}') if kind is _FILE else target.mkdir()
    (self.folder / 'link').symlink_to(target)
    for same in ('mine', './mine', 'link'):
      again = [same if word == 'x' else word for word in line]
      for more in ([], ['--overwrite']):
        if not (more and name.startswith('train')):
          self.assert_refused([*again, *more], 'mine', 'input')

  @parameterized.parameters(*_RECORDED)
  def test_other_content_stays(self, name, kind):
    target = self.folder / 'mine'
    if kind is _FILE:
      target.write_text('{"thesis": 1}')
      self.assert_refused(self.line(name, 'mine'), 'mine', '--overwrite')
      self.assert_taken(self.line(name, 'mine', '--overwrite'))
      return
    target.mkdir()
    self.assert_taken(self.line(name, 'mine'))
    (target / _FOREIGN[kind]).write_text('')
    for more in ([], ['--overwrite']):
      self.assert_refused(
          self.line(name, 'mine', *more), 'mine', _FOREIGN[kind])

  @parameterized.parameters(*_RECORDED)
  def test_results_of_the_same_settings_are_continued_and_of_no_others(
      self, name, kind):
    line = self.line(name, 'mine')
    own = self.made_by(line)
    other = made_by_lib.MadeBy(
        own.command, dict(own.settings, colour='red'), own.version)
    unlike = made_by_lib.MadeBy('paint', own.settings, own.version)
    for suffix in ('.json', '.html', '.png', '.npz') if kind is _FILE else ['']:
      for made_by, *named in (
          (own,), (other, 'colour'), (unlike, 'walt paint'), (None, 'mine')):
        with self.subTest(suffix=suffix, named=named):
          self.put(self.folder / 'mine', kind, made_by, suffix)
          if made_by is own:
            self.assert_taken(line)
          else:
            self.assert_refused(line, *named, '--overwrite')
          self.assert_taken([*line, '--overwrite'])
          remove(self.folder / 'mine')

  def test_a_file_of_an_input_is_not_replaced(self):
    workdir = self.folder / 'x'
    workdir.mkdir()
    (workdir / 'config.json').write_text('{"seed": 0}')
    self.assert_refused(
        self.line('evaluate control --json', 'x/config.json', '--overwrite'),
        'x/config.json', 'input')
    self.assert_taken(self.line('evaluate control --json', 'x/new.json'))

  def test_an_export_does_not_replace_a_folder_of_inputs(self):
    (self.folder / 'runs' / 'base').mkdir(parents=True)
    self.assert_refused(['export', '--workdir', 'runs/base', '--out', 'runs'],
                        'runs', 'input')

  def test_two_outputs_have_two_places(self):
    self.assert_refused(
        ['plan', '--config', 'x', '--json', 'a', '--html', './a'],
        '--json', '--html', 'two names')
    self.assert_taken(['plan', '--config', 'x', '--json', '/dev/null',
                       '--html', '/dev/null'])

  @parameterized.parameters(
      ['report', 'x'], ['data', 'inspect', 'x'])
  def test_places_that_no_flag_names(self, *argv):
    (self.folder / 'x').mkdir()
    name = 'report.html' if argv[0] == 'report' else 'contact_sheet.png'
    self.assert_taken(argv)
    (self.folder / 'x' / name).write_text('mine')
    self.assert_refused(argv, name)
    (self.folder / 'x' / name).write_bytes(
        result(self.made_by(argv), pathlib.Path(name).suffix))
    self.assert_taken(argv)

  def test_the_tutorial(self):
    for place in ('/proc/x', '/dev/null'):
      with mock.patch.object(quickstart.tutorial, 'run', self.fail):
        with self.assertRaisesRegex(errors.UserError, place):
          quickstart.run(['--out', place])

  def test_what_changes_no_result_is_no_setting(self):
    line = self.line('sample --out', 'a')
    same = self.line('sample --out', 'b', '--batch_size', '3', '--overwrite')
    other = [*line, '--seed', '3']
    self.assertTrue(self.made_by(line).is_same(self.made_by(same)))
    self.assertFalse(self.made_by(line).is_same(self.made_by(other)))

  def test_room_that_is_known_to_be_needed(self):
    outputs.check_room('a/b', 1)
    with self.assertRaisesRegex(errors.UserError, 'a/b.*room'):
      outputs.check_room('a/b', 1 << 60)


class MadeByTest(parameterized.TestCase):

  @parameterized.parameters('.json', '.html', '.png', '.npz')
  def test_other_readers_read_what_they_read_before(self, suffix):
    made_by = made_by_lib.MadeBy(
        'plan', {'config': '"<é>&', 'steps': [50, 7.5]}, '1.0')
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / f'file{suffix}'
      path.write_bytes(result(made_by, suffix))
      self.assertEqual(made_by_lib.read(path), made_by)
      if suffix == '.json':
        self.assertEqual(json.loads(path.read_text())['value'], 1)
      elif suffix == '.png':
        np.testing.assert_array_equal(np.asarray(Image.open(path)), _PIXELS)
      elif suffix == '.npz':
        np.testing.assert_array_equal(np.load(path)['a'], _PIXELS)

  def test_settings_without_end_still_fit(self):
    made_by = made_by_lib.MadeBy('a', {'prompt': 'x' * 100_000}, '1')
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'file.npz'
      path.write_bytes(result(made_by, '.npz'))
      self.assertTrue(made_by.is_same(made_by_lib.read(path)))
      np.testing.assert_array_equal(np.load(path)['a'], _PIXELS)


_PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def result(made_by: made_by_lib.MadeBy | None, suffix: str) -> bytes:
  """A file as commands write it, with or without who made it."""
  if suffix == '.json':
    return json.dumps(
        dict(value=1) | (made_by.entry() if made_by else {})).encode()
  if suffix == '.html':
    page = '<!doctype html><html><head></head></html>'
    return (made_by.in_page(page) if made_by else page).encode()
  if suffix == '.png':
    image = video.encode_png(_PIXELS)
    return made_by.in_png(image) if made_by else image
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'a.npz'
    np.savez(path, a=_PIXELS)
    if made_by is not None:
      made_by.into_npz(path)
    return path.read_bytes()


def remove(path: pathlib.Path) -> None:
  if path.is_dir():
    for file in path.iterdir():
      file.unlink()
    path.rmdir()
  else:
    path.unlink()


if __name__ == '__main__':
  absltest.main()
