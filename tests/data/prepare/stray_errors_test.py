"""Whatever one file makes the readers raise, the others are prepared."""
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests.data import video_files
from walt_jax.data.prepare import accounts
from walt_jax.data.prepare import prepare
from walt_jax.data.prepare import sidecars
from walt_jax.data.prepare import work_items


class StrayErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      (work_items, 'process_file', ZeroDivisionError('a zero'), 'a zero'),
      (work_items, 'process_file', MemoryError(), 'MemoryError'),
      (work_items, '_open', RecursionError('deep'), 'deep'),
      (sidecars, 'describe', KeyError('odd'), 'odd'))
  def test_it_is_rejected_by_name_with_the_reason(
      self, where, name, error, said):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for number in range(3):
      video_files.write_video(root / 'in' / f'{number}.mp4', num_frames=20)
      (root / 'in' / f'{number}.txt').write_text(f'clip {number}')
    sound = getattr(where, name)

    def fails(*args, **kwargs):
      if '1.mp4' in repr(args) or 'clip 1' in repr(args):
        raise error
      return sound(*args, **kwargs)

    with mock.patch.object(where, name, fails):
      manifest = prepare.prepare(
          root / 'in', root / 'out', prepare.Settings(size=16, heldout=0),
          on=prepare.Engine(1, ''))
    self.assertEqual(manifest['counts']['clips'], 2)
    self.assertEqual(manifest['counts']['rejected'], 1)
    line, = [line for line in (root / 'out' / accounts.LIST).read_text(
        ).splitlines() if said in line]
    self.assertIn('1.mp4', line)


if __name__ == '__main__':
  absltest.main()
