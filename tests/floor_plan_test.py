"""The floor plan of docs/architecture.md: who may import whom."""
import ast
from collections.abc import Iterator
import pathlib
import shutil
import subprocess

from absl.testing import absltest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'walt_jax'
FOLDERS = {'benchmarks', 'configs', 'docs', 'examples', 'launch', 'tests',
           'walt_jax'}
MAX_LINES = 500

# What each room may import of ours, besides itself and `core`.
LOWER = {'models', 'tokenizer', 'diffusion', 'text', 'pretrained', 'parallel'}
BELOW_BUILDERS = LOWER | {'media', 'data', 'training', 'sampling'}
MAY_IMPORT: dict[str, set[str]] = {
    'core': set(),
    **dict.fromkeys(LOWER | {'media'}, set()),
    'data': {'media', 'pretrained'},
    'training': {'models', 'tokenizer', 'diffusion', 'parallel', 'media'},
    'sampling': LOWER - {'pretrained'} | {'media'},
    'metrics': {'pretrained', 'parallel'},
    'report': {'media'},
    'builders': BELOW_BUILDERS,
    'planning': {'builders', 'models', 'tokenizer', 'pretrained', 'parallel',
                 'report'},
    'evaluation': {'builders', 'sampling', 'metrics', 'data', 'media',
                   'parallel', 'training.workdir'},
    'commands': BELOW_BUILDERS | {
        'metrics', 'report', 'builders', 'planning', 'evaluation'},
    'quickstart': BELOW_BUILDERS | {
        'metrics', 'report', 'builders', 'evaluation', 'commands'},
    '__init__': {'builders', 'sampling', 'tokenizer', 'metrics'},
    '__main__': {'commands'},
}
# Inside `data`: storage <- sources <- stream, and prepare -> storage.
INSIDE_DATA: dict[str, set[str]] = {
    'storage': set(), 'sources': {'storage'},
    'stream': {'storage', 'sources'}, 'prepare': {'storage'},
}
# Libraries that one room alone may import.
ONLY_IN = {'argparse': 'commands', 'ml_collections': 'builders'}


def modules() -> Iterator[tuple[pathlib.Path, ast.Module]]:
  """Every module of the package, parsed; its path from the package."""
  for path in sorted(PACKAGE.rglob('*.py')):
    yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
  """Dotted names that a module imports, anywhere in it."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def room_of(path: pathlib.Path) -> str:
  """The room of a module; its own name where it stands at the top."""
  return path.parts[0].removesuffix('.py')


def arrows() -> Iterator[tuple[pathlib.Path, str]]:
  """(module, dotted name of ours that it imports, without `walt_jax.`)."""
  for path, tree in modules():
    for name in imports(tree):
      if name.startswith('walt_jax.') and not name.endswith('__version__'):
        yield path, name.removeprefix('walt_jax.')


def circle(below: dict[str, set[str]]) -> list[str]:
  """One circle of a graph, its first node repeated at the end; [] for none."""
  done: set[str] = set()
  for start in below:
    path = [start]
    while path:
      if path[-1] in path[:-1]:
        return path[path.index(path[-1]):]
      ahead = [name for name in sorted(below[path[-1]]) if name not in done]
      if ahead:
        path.append(ahead[0])
      else:
        done.add(path.pop())
  return []


class FloorPlanTest(absltest.TestCase):

  def test_rooms_import_what_the_plan_allows(self):
    wrong = []
    for path, name in arrows():
      room, other = room_of(path), name.split('.')[0]
      allowed = MAY_IMPORT[room] | {room, 'core'}
      if other not in allowed and not any(
          name.startswith(module) for module in allowed if '.' in module):
        wrong.append(f'{path} -> {name}')
    self.assertEmpty(wrong)

  def test_floors_inside_data(self):
    wrong = [f'{path} -> {name}' for path, name in arrows()
             if path.parts[0] == 'data' and name.startswith('data.')
             and path.parts[1] in INSIDE_DATA
             and name.split('.')[1] not in INSIDE_DATA[path.parts[1]] | {
                 path.parts[1]}]
    self.assertEmpty(wrong)

  def test_no_circle_of_modules(self):
    known = {'.'.join(path.with_suffix('').parts): str(path)
             for path, _ in modules()}
    below: dict[str, set[str]] = {path: set() for path in known.values()}
    for path, name in arrows():
      target = known.get(name) or known.get(name.rpartition('.')[0])
      if target:
        below[str(path)].add(target)
    self.assertEmpty(circle(below))

  def test_libraries_that_one_room_alone_knows(self):
    wrong = [f'{path} imports {name}' for path, tree in modules()
             for name in imports(tree)
             if ONLY_IN.get(name.split('.')[0], room_of(path)) != room_of(path)
             or room_of(path) == 'diffusion' and name.split('.')[0] == 'flax']
    self.assertEmpty(wrong)

  def test_size_of_the_house(self):
    rooms = [path for path in PACKAGE.iterdir()
             if path.is_dir() and path.name != '__pycache__']
    self.assertLessEqual(len(rooms), 20)
    self.assertEqual(
        {path.name for path in PACKAGE.iterdir() if path.is_file()},
        {'__init__.py', '__main__.py', 'py.typed'})
    long = {str(path): lines for path, _ in modules()
            if (lines := len((PACKAGE / path).read_text().splitlines()))
            > MAX_LINES}
    self.assertEmpty(long)

  def test_the_repository_holds_no_other_folder(self):
    if not (ROOT / '.git').exists() or not shutil.which('git'):
      self.skipTest('no clone, or no git')
    files = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, check=True, capture_output=True,
        text=True).stdout.splitlines()
    found = {name.split('/')[0] for name in files if '/' in name}
    self.assertEqual(
        {name for name in found if not name.startswith('.')}, FOLDERS)


if __name__ == '__main__':
  absltest.main()
