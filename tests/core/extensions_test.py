"""Classes of the user's own: found, checked, and refused from elsewhere."""
import pathlib
import sys
import tempfile
from typing import Any, Protocol
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.core import extensions

_MODULE = '''
import dataclasses
import pathlib
pathlib.Path({marker!r}).write_text('imported')

class Whole:
  title = 'given'
  def __len__(self): return 3
  @property
  def size(self): return 1

@dataclasses.dataclass
class Fields(Whole):
  title: str

class Partly:
  def __len__(self): return 3

number = 3
'''


class Sized(Protocol):
  """What the test's classes are checked against."""
  title: str

  @property
  def size(self) -> int:
    ...

  def __len__(self) -> int:
    ...


class Base(Sized, Protocol):

  def more(self) -> int:
    ...


class ExtensionsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.marker = folder / 'marker'
    (folder / 'own.py').write_text(_MODULE.format(marker=str(self.marker)))
    (folder / 'broken.py').write_text('import no_such_module_anywhere\n')
    (folder / 'unreadable.py').write_text('class :\n')
    self.enterContext(mock.patch.object(
        sys, 'path', [str(folder), *sys.path]))
    for name in ('own', 'broken', 'unreadable'):
      self.addCleanup(sys.modules.pop, name, None)

  @parameterized.parameters('own:Whole', 'own:Fields')
  def test_finds_a_class(self, name):
    found: Any = extensions.load(name, Sized, 'config key data.name')
    self.assertEqual(f'own:{found.__name__}', name)
    self.assertTrue(self.marker.exists())

  @parameterized.parameters(
      ('own', "'own'; write .* module:Class"),
      ('no_such_module:A', 'cannot be imported .*PYTHONPATH'),
      ('broken:A', 'no_such_module_anywhere'),
      ('unreadable:A', 'unreadable cannot be imported'),
      ('own:Missing', 'no class Missing; it has: Fields, Partly, Whole'),
      ('own:number', 'no class number'),
      ('own:Partly', 'lacks size, title; write what .*Sized describes'))
  def test_says_in_a_line_what_is_wrong(self, name, message):
    with self.assertRaisesRegex(errors.UserError, message) as caught:
      extensions.load(name, Sized, 'config key data.name')
    self.assertStartsWith(
        str(caught.exception), f'config key data.name is {name!r}')
    self.assertNotIn('\n', str(caught.exception))

  def test_members_are_those_that_a_protocol_and_its_bases_declare(self):
    self.assertEqual(extensions.members(Sized), {'title', 'size', '__len__'})
    self.assertEqual(extensions.members(Base),
                     {'title', 'size', '__len__', 'more'})

  @parameterized.parameters(
      (dict(data=dict(name='own:Whole')), "data.name is 'own:Whole'"),
      (dict(model=dict(conditions=['a', 'own:Whole'])), 'model.conditions'),
      (dict(model=[dict(kinds=('x', ['own:Whole']))]), 'model.kinds'),
      (dict(train=dict(evaluators='fvd,own:Whole')), 'train.evaluators'),
      (dict(name='a.b.own:Whole'), 'name'))
  def test_refuses_names_from_elsewhere_without_importing(self, values, key):
    with self.assertRaisesRegex(
        errors.UserError, f'^runs/x/config.json: {key}.*--allow_code'):
      extensions.refuse(values, 'runs/x/config.json')
    self.assertFalse(self.marker.exists())

  def test_lets_pass_what_is_never_imported(self):
    extensions.refuse(
        dict(data=dict(name='clips', path='sets:train', image_path='a:b',
                       frame_rate=8.0, weights=None),
             init_from='disk:runs', tokenizer=dict(workdir='host:folder'),
             derived=dict(classes=['ratio:one', 'b']),
             model=dict(spatial_window=(1, 2, 2))), 'config.json')


if __name__ == '__main__':
  absltest.main()
