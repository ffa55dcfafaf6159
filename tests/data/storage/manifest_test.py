"""What is said where a prepared dataset should be."""
import contextlib
import os
import pathlib
import tempfile

from absl.testing import absltest

from walt_jax.core import errors
from walt_jax.data.storage import manifest


class HintTest(absltest.TestCase):

  def test_raw_files_are_never_proposed_as_the_output(self):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    raw = root / 'clips'
    (raw / 'cat').mkdir(parents=True)
    (raw / 'cat' / 'a.mp4').write_bytes(b'x')
    (root / 'empty').mkdir()
    (root / 'empty' / '.hidden').write_bytes(b'x')
    made = dict(source=str(raw), output=f'{raw}_prepared')
    away = self.enterContext(tempfile.TemporaryDirectory())
    self.enterContext(contextlib.chdir(away))
    for path, source, output in (
        (raw, *made.values()), (f'{raw}/', *made.values()),
        (raw / 'cat' / 'a.mp4', f'{raw}/cat', f'{raw}/cat_prepared'),
        (root / 'gone', 'VIDEOS', root / 'gone'),
        (root / 'empty', 'VIDEOS', root / 'empty')):
      with self.subTest(str(path)):
        with self.assertRaises(errors.UserError) as caught:
          manifest.read_manifest(path)
        self.assertIn(f'--input {source} --output {output}`',
                      str(caught.exception))
    with contextlib.chdir(raw):
      self.assertEqual(manifest.hinted_folders('.'), tuple(
          os.path.realpath(raw) + ending for ending in ('', '_prepared')))


if __name__ == '__main__':
  absltest.main()
