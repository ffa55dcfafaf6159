"""A full disk, or one that does not permit, is one line and exit code 2."""
import contextlib
import errno
import io
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.core import disk


def chained(cause):
  try:
    try:
      raise cause
    except OSError as error:
      raise RuntimeError('a library failed') from error
  except RuntimeError as error:
    return error


class DiskTest(parameterized.TestCase):

  @parameterized.parameters(
      (OSError(errno.ENOSPC, 'No space left on device', '/runs/a'),
       "'/runs/a': No space left on device; make room, then run the same "
       'command again'),
      (OSError(errno.EDQUOT, 'x'), 'Disk quota exceeded; make room, '),
      (PermissionError(errno.EACCES, 'x', b'/r\xff'),
       "'/r\\udcff': Permission denied; give this user the permission, "),
      (OSError(errno.EROFS, 'x', '/r'),
       "'/r': Read-only file system; choose another folder, "),
      (chained(OSError(errno.ENOSPC, 'x')), 'No space left on device; '),
      (ValueError('RESOURCE_EXHAUSTED: [OS error 28: No space left on device]'),
       'No space left on device; make room, '))
  def test_refusals_are_told(self, error, said):
    self.assertStartsWith(disk.refusal(error), said)

  @parameterized.parameters(
      FileNotFoundError(errno.ENOENT, 'x', 'y'), ValueError('broken'),
      OSError(errno.EIO, 'x'), OSError('no number'))
  def test_other_errors_are_none(self, error):
    self.assertIsNone(disk.refusal(error))

  def test_a_command_says_it_in_one_line(self):
    def run(args):
      raise OSError(errno.ENOSPC, 'x', '/runs/metrics.jsonl')

    err = io.StringIO()
    with mock.patch.object(cli, '_entry_point', lambda module: run), (
        contextlib.redirect_stderr(err)):
      code = cli.main(['report', 'runs'])
    self.assertEqual(code, 2)
    self.assertEqual(
        err.getvalue(), "walt: error: '/runs/metrics.jsonl': No space left on "
        'device; make room, then run the same command again\n')


if __name__ == '__main__':
  absltest.main()
