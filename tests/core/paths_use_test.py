"""Paths of users are made by `core/paths.py`, or a bucket is a local folder."""
import ast
import pathlib

from absl.testing import absltest

_PACKAGE = pathlib.Path(__file__).resolve().parents[2] / 'walt_jax'

# Modules that make local paths of their own, and why these can lie nowhere
# else.
LOCAL = {
    'builders/config.py': 'the package itself; files found to be local',
    'commands/demo.py': 'a temporary folder',
    'commands/flags/quickstart.py': 'refuses buckets',
    'core/files.py': 'temporary files; branches for buckets come first',
    'core/host_memory.py': 'files of the kernel',
    'core/outputs.py': 'asks about buckets first',
    'core/paths.py': 'makes all others',
    'core/program_cache.py': 'compiled programs stay on the machine',
    'data/prepare/annotations.py': 'raw input is local',
    'data/prepare/prepare.py': 'raw input is local',
    'media/frame_folders.py': 'is given local copies',
    'planning/bundles.py': 'temporary files of the compiler',
    'planning/gpu_registers.py': 'temporary files of the compiler',
    'planning/gpu_topology.py': 'the package itself',
    'pretrained/reader.py': 'files of an installed package',
    'pretrained/tensorflow_files.py': 'is given local copies',
    'quickstart/__main__.py': 'refuses buckets',
    'data/sources/tfds.py': 'TFDS sets in buckets are refused',
    'text/encoder.py': 'files of an installed package',
    'training/event_files.py': 'is given the local side of a mirror',
}


def makes_local_paths(tree: ast.AST) -> bool:
  """Whether `pathlib.Path(..)` is called with something."""
  return any(
      isinstance(node, ast.Call) and node.args
      and ast.unparse(node.func) == 'pathlib.Path' for node in ast.walk(tree))


class PathsUseTest(absltest.TestCase):

  def test_no_other_module_makes_local_paths(self):
    found = {
        file.relative_to(_PACKAGE).as_posix()
        for file in sorted(_PACKAGE.rglob('*.py'))
        if makes_local_paths(ast.parse(file.read_text()))}
    self.assertEqual(found - set(LOCAL), set(),
                     'use paths.path(..), which knows buckets')
    self.assertEqual(set(LOCAL) - found, set(), 'these no longer do')


if __name__ == '__main__':
  absltest.main()
