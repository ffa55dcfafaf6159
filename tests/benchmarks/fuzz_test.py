"""Readers refuse what the fuzzer found; the fuzzer finds what is wrong."""
import functools
import io
import json
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from benchmarks.fuzz import children
from benchmarks.fuzz import formats
from benchmarks.fuzz import one_input
from benchmarks.fuzz import reader as reader_lib
from benchmarks.fuzz import readers
from walt_jax.core import errors
from walt_jax.core import protobuf

_ROOT = pathlib.Path(__file__).parents[2]
_DEEP = b'[' * 100_000


def _npy(header: str, body: bytes = b'') -> bytes:
  return (b'\x93NUMPY\x01\0' + len(header).to_bytes(2, 'little')
          + header.encode() + body)


def _npz(**members: bytes) -> bytes:
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    for name, data in members.items():
      archive.writestr(f'{name}.npy', data)
  return out.getvalue()


def _saved(array: np.ndarray) -> bytes:
  out = io.BytesIO()
  np.save(out, array)
  return out.getvalue()


def _pictures_that_lie() -> bytes:
  """A PNG file that says to hold 2**31 - 1 pictures."""
  out = io.BytesIO()
  Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(
      out, 'PNG', save_all=True, append_images=[
          Image.fromarray(np.ones((4, 4, 3), np.uint8))])
  data = bytearray(out.getvalue())
  at = data.index(b'acTL')
  data[at + 4:at + 8] = (2**31 - 1).to_bytes(4, 'big')
  data[at + 12:at + 16] = formats.zlib.crc32(data[at:at + 12]).to_bytes(
      4, 'big')
  return bytes(data)


def _bytes_of_a_number() -> bytes:
  """A record whose list of bytes is one number: Python makes so many zeros."""
  values = protobuf.varint(1 << 3) + protobuf.varint(1 << 40)
  entry = protobuf.field(1, b'video') + protobuf.field(
      2, protobuf.field(1, values))
  return protobuf.field(1, protobuf.field(1, entry))


_UNENDED = _npy("{'descr': '<i4', 'shape': (" + '(' * 40)
_HUGE = _npy("{'descr': '|u1', 'fortran_order': False, "
             f"'shape': (1, {1 << 62}, {1 << 62}, 3), }}\n", bytes(48))
_NO_LENGTH = _npy("{'descr': '|u1', 'fortran_order': False, "
                  "'shape': (-1, 4, 4, 3), }\n", bytes(48))
_MANIFEST = b'{"format": "walt_dataset", "codec": "jpeg", "classes": ["a"], '
_SCORE = dict(name='x', value=0.5, group='', unit='', interval=None,
              count=None, better='higher', target=None, yardsticks=[], note='')

# What readers once raised other things on than a refusal, by reader.
_REFUSED: dict[str, tuple[bytes, ...]] = {
    'text.index': (b'{"weight_map": {"a/kernel": 1.5}}', _DEEP,
                   b'{"weight_map": {"a/kernel": "\\ud800"}}'),
    'text.tokenizer_json': (b'{"model": {"type": "WordLevel", "vocab": {}, '
                            b'"unk_token": "[UNK]"}}',
                            b'{"model": {"type": "WordLevel", "vocab": '
                            b'{"[UNK]": 2147483647}, "unk_token": "[UNK]"}}'),
    'export.safetensors': ((66).to_bytes(8, 'little') + json.dumps(
        {'a': dict(dtype='U8', shape=[1], data_offsets=[0, 1])}).ljust(
            66).encode() + b'\0\0',),
    'image.png': (_pictures_that_lie(),),
    'clip.npy': (_UNENDED, _HUGE, _NO_LENGTH),
    'clips.npy': (_UNENDED, _HUGE, _NO_LENGTH),
    'clips.npz': (_npz(arr_0=_UNENDED), _npz(arr_0=_HUGE), _npz(x=_HUGE)),
    'captions.jsonl': (_DEEP,),
    'beside.json': (_DEEP,),
    'requests.jsonl': (_DEEP, b'{"conditions": {"speed": 1' + b'0' * 400
                       + b'}}'),
    'set.manifest': (
        _DEEP, _MANIFEST + b'"splits": {"train": {"shards": [{}]}}}',
        _MANIFEST + b'"splits": {"train": {"shards": [], "index": 3}}}',
        _MANIFEST + b'"splits": {"train": {"shards": [{"file": "../x", '
        b'"num_examples": 1}], "index": "x"}}}',
        _MANIFEST + b'"splits": {"train": {"shards": []}}}',
        _MANIFEST + b'"splits": []}'),
    'set.index': (_UNENDED, _saved(np.zeros(3))),
    'set.record_jpeg': (b'', b'\xff', _bytes_of_a_number(),
                        protobuf.field(1, protobuf.field(1, b''))),
    'set.record_h264': (b'', b'\xff'),
    'set.shard': (b'', b'x' * 70_000),
    'set.part_report': (b'{}', b'3', b'{"counts": {"records": "x"}}'),
    'latents.manifest': (
        b'{"format": "walt_latents", "splits": {}, "shapes": {}}',
        b'{"format": "walt_latents", "splits": {"train": {"shards": []}}, '
        b'"classes": [], "shapes": {"text": [1, 2]}, "settings": '
        b'{"tokenizer_sha256": "' + b'ab' * 32 + b'", "text_sha256": null, '
        b'"fps": 8}}'),
    'latents.record': (b'', b'\xff'),
    'latents.text_record': (b'', b'\xff'),
    'run.config': (b'3', b'[]', b'{"stage": []}',
                   b'{"stage": "denoiser", "model": 3}', _DEEP),
    'samples.json': (_DEEP, b'{"format": 1, "kind": "x", "fps": 1, '
                     b'"entries": [], "stages": []}',
                     b'{"format": 1, "kind": "real", "fps": 1, "stages": [], '
                     b'"entries": [{"stem": "a", "prompts": [], '
                     b'"shape": [2]}]}'),
    'scores.json': (b'[]', json.dumps(dict(
        format=1, scores=[_SCORE | dict(value='x')], timings=[],
        settings={})).encode()),
    'statistics.npz': (_npz(header=_UNENDED, mu=b''), _npz(header=_saved(
        np.array('{}'))), _npz(mu=_saved(np.zeros(3)), sigma=_saved(
            np.zeros(2)))),
    'reference.npz': (_npz(mu=_saved(np.zeros(3)), sigma=_saved(np.zeros(2))),
                      _npz(mu=_saved(np.zeros(1)), sigma=_saved(
                          np.full((1, 1), np.nan)))),
    'result.json': (b'{"metric": "fvd", "value": "x"}', _DEEP,
                    b'{"metric": "fvd", "value": 1, "differences": [3]}'),
}
# What they once raised something on, and now read without it.
_ACCEPTED: dict[str, tuple[bytes, ...]] = {
    'run.metrics': (_DEEP, b'{"step": 1, "a": 1' + b'0' * 400 + b'}',
                    b'{"step": NaN}'),
    'run.history': (_DEEP, b'{"event": "start", "time": 1, "step": 1e999}'),
    'run.tensorboard': ((4).to_bytes(8, 'little') + bytes(4)
                        + protobuf.field(2, b'xx') + bytes(4),),
    'report.metrics': (
        b'{"step": 0, "a": "\\ud800"}',
        b'{"step": 0, "a\\ud800": 1}\n{"step": 1, "a\\ud800": 1e-320}',
        b'{"step": 0, "a": 5e-324}\n{"step": 1, "a": 1e308}',
        b'{"step": 0, "a": 1}\n{"step": 1, "a": 1.0000000000000002}'),
    'report.scores': (json.dumps(dict(
        format=1, scores=[_SCORE | dict(name='\ud800', value=float('inf'))],
        timings=[dict(name='x', seconds=float('inf'))],
        settings={})).encode(), b'[]', _DEEP),
    'report.config': (b'\xff\xfe', _DEEP),
}


@functools.cache
def _target(name: str) -> reader_lib.Target:
  folder = tempfile.mkdtemp(dir=_SCRATCH.name)
  return readers.by_name()[name].make(pathlib.Path(folder) / 'files')


_SCRATCH = tempfile.TemporaryDirectory()


def tearDownModule():  # pylint: disable=invalid-name
  _SCRATCH.cleanup()


class FoundTest(parameterized.TestCase):

  @parameterized.parameters(
      *((name, one_input.REFUSED) for name in _REFUSED),
      *((name, one_input.ACCEPTED) for name in _ACCEPTED))
  def test_what_was_found_stays_fixed(self, name, wanted):
    known = _REFUSED if wanted == one_input.REFUSED else _ACCEPTED
    for data in known[name]:
      self.assertEqual(
          one_input.attempt(readers.by_name()[name], _target(name), data),
          (wanted, ''), msg=data[:60])


def _planted(read) -> reader_lib.Reader:
  return reader_lib.Reader(
      'planted', lambda folder: reader_lib.Target((b'0',), read),
      lambda rng, data: b'1' if rng.random() < 0.1 else b'2',
      lambda data: data != b'2', seconds=0.3, memory_mib=32)


def _raise(data: bytes) -> None:
  if data == b'1':
    raise KeyError('x')
  if data == b'2':
    raise errors.UserError('no')


def _crash(data: bytes) -> None:
  if data == b'1':
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(data: bytes) -> None:
  while data == b'1':
    pass


def _swell(data: bytes) -> None:
  # Not of the heap, where what tests before have freed may be used again.
  if data == b'1':
    with mmap.mmap(-1, 48 << 20) as pages:
      pages[::mmap.PAGESIZE] = bytes(len(pages) // mmap.PAGESIZE)


class FuzzerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  @parameterized.parameters(
      (_raise, "KeyError: 'x'"), (_crash, 'killed by SIGKILL'),
      (_hang, 'took more than 0.3 s'), (_swell, 'took '))
  def test_a_planted_fault_is_found(self, read, why):
    found = children.run(_planted(read), self.folder, 5, 0, 20, 60.0)
    again = children.run(_planted(read), self.folder, 5, 0, 20, 60.0)
    self.assertEqual((found.tried, found.next_number), (20, {'5': 20}))
    self.assertBetween(found.stray, 1, 9)
    self.assertStartsWith(found.strays[0]['why'], why)
    self.assertEqual(found.accepted + found.refused + found.stray, 20)
    if read is not _crash:  # Its header was not told any more.
      self.assertBetween(found.passed, 1, 9)
    # The same inputs again, whatever came before.
    self.assertEqual([stray['number'] for stray in found.strays],
                     [stray['number'] for stray in again.strays])

  def test_a_reader_that_refuses_its_own_files_ends_the_run(self):
    def refuse(data: bytes) -> None:
      raise errors.UserError('no')
    with self.assertRaisesRegex(RuntimeError, 'planted'):
      children.run(_planted(refuse), self.folder, 0, 0, 5, 60.0)

  def test_every_reader_for_a_moment(self):
    out = self.folder / 'fuzz.json'

    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.fuzz', '--seed',
         str(time.time_ns()), '--inputs', '60', '--seconds', '30', '--out', out,
         '--folder', self.folder, '--minutes', '10'],
        cwd=_ROOT, capture_output=True, text=True)
    self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr)
    rows = json.loads(out.read_text())['rows']
    self.assertEqual(list(rows), list(readers.by_name()))
    for name, row in rows.items():
      self.assertEqual((row['tried'], row['stray']), (60, 0), name)
      self.assertGreater(row['accepted'], 0, name)
      # A quarter of many; of sixty, not always.
      self.assertGreater(row['passed'], 8, name)



if __name__ == '__main__':
  absltest.main()
