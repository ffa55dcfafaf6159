"""Request files, and prompts that change over time."""
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.sampling import requests


class RequestsTest(parameterized.TestCase):

  def read(self, *lines, seed=7, encoding='utf-8'):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder) / 'r.jsonl'
    path.write_text(''.join(
        (line if isinstance(line, str) else json.dumps(line)) + '\n'
        for line in lines), encoding=encoding)
    return requests.read(str(path), seed)

  def test_lines(self):
    read = self.read(
        {'prompt': 'a', 'seed': 3}, '', {'label': 'b', 'image': 'c.png'},
        {'prompt': [[0, 'd'], [17, ''], [29, 'e']], 'video': 'f.mp4'},
        {'conditions': {'speed': 2, 'wind': [0.5, 1]}})
    self.assertEqual(read, [
        requests.Request('a', seed=3, index=0),
        requests.Request(label='b', image='c.png', seed=7, index=1),
        requests.Request('d', seed=7, index=2, video='f.mp4',
                         prompts=((0, 'd'), (17, ''), (29, 'e'))),
        requests.Request(seed=7, index=3, conditions=(
            ('speed', (2.0,)), ('wind', (0.5, 1.0))))])
    self.assertEqual(read[2].all_prompts, ('d', 'e'))
    self.assertEqual([read[2].prompt_at(f) for f in (0, 16.5, 17, 28, 99)],
                     ['d', 'd', '', '', 'e'])
    self.assertEqual(read[0].prompt_at(50), 'a')

  @parameterized.parameters('utf-8-sig', 'utf-16', 'utf-32')
  def test_byte_order_marks(self, encoding):
    read, = self.read('{"prompt": "caf\u00e9"}', encoding=encoding)
    self.assertEqual(read.prompt, 'caf\u00e9')

  @parameterized.parameters(
      ({'conditions': {'speed': 'fast'}}, "'speed' must be a number"),
      ({'conditions': 2}, 'must be dict'),
      ({'prompt': []}, 'begin at 0'), ({'prompt': [[1, 'a']]}, 'begin at 0'),
      ({'prompt': [[0, 'a'], [0, 'b']]}, 'rise'),
      ({'prompt': [[0, 'a'], [9, 'b'], [8, 'c']]}, 'rise'),
      ({'prompt': [[0, 1]]}, 'frame, text'), ({'prompt': ['a']}, 'frame, text'),
      ({'prompt': [[0.0, 'a']]}, 'frame, text'), ({'image': 3}, 'image'),
      ({'image': 'a', 'video': 'b'}, 'not both'), ({'seed': -1}, '-1'),
      ({'seed': True}, 'seed'), ({'frames': 3}, 'keys among'), ('{', 'JSON'))
  def test_refusals_name_the_line(self, line, said):
    with self.assertRaisesRegex(errors.UserError, f':2: .*{said}|:2 .*{said}'):
      self.read({'prompt': 'fine'}, line)


if __name__ == '__main__':
  absltest.main()
