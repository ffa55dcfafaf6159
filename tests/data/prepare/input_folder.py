"""An input folder of `walt data prepare`, for tests of what is found in it."""
import pathlib
import tempfile

from absl.testing import absltest

from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import video_folders


class InputTest(absltest.TestCase):
  """A test with an empty input folder.

  Attributes:
    root: Folder of the test.
    input: The input folder in it.
  """

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.input = self.root / 'in'
    self.input.mkdir()

  def touch(self, *names):
    """Makes files that nobody opens."""
    for name in names:
      path = self.input / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(b'x')

  def list_input(self, *paths, **kwargs):
    """Lists the input by these annotations, or by those that lie in it."""
    known = annotations.read(list(paths), **kwargs) if paths else None
    return video_folders.list_folder(self.input, annotations=known)
