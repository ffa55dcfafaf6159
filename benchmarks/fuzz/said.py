"""Readers of what people say about clips and runs: tables, lists, requests."""
import io
import json
import pathlib
import random
import tarfile

import numpy as np
from PIL import Image
import pyarrow
from pyarrow import parquet

from benchmarks.fuzz import formats
from benchmarks.fuzz import mutations
from benchmarks.fuzz import reader as reader_lib
from walt_jax.core import errors
from walt_jax.core import profile_request
from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import listing
from walt_jax.data.prepare import sidecars
from walt_jax.data.prepare import tar_shards
from walt_jax.sampling import requests

Reader, Target = reader_lib.Reader, reader_lib.Target

_FILES = ('a.mp4', 'b/c.webm', 'd.png', 'abc_000001_000011.mp4', 'def.mp4',
          'ghi.mkv')
_ROWS = (
    dict(file='a.mp4', caption='a dog runs', label='run', split='train'),
    dict(file='b/c.webm', caption='eine Katze schläft, müde', label='sleep',
         split='test'),
    dict(file='a.mp4', caption='again', label='run', split='train'),
    dict(file='d.png', caption='x', label='7', split='train'))


def _annotations(path: pathlib.Path):
  """Reads a table and finds what it says of files."""
  found = annotations.read([path])
  return found.match(_FILES, path.parent)


def _table(name: str, *seeds: bytes):
  return lambda folder: reader_lib.of_file(
      folder / name, list(seeds), _annotations)


def _delimited(delimiter: str) -> bytes:
  lines = [delimiter.join(_ROWS[0])]
  for row in _ROWS:
    lines.append(delimiter.join(
        f'"{cell}"' if ',' in cell else cell for cell in row.values()))
  return ('\n'.join(lines) + '\n').encode()


_JSON_LINES = b''.join(
    json.dumps(row | dict(start=number / 2, end=number + 1.0)).encode() + b'\n'
    for number, row in enumerate(_ROWS))
_KINETICS = (b'label,youtube_id,time_start,time_end,split\n'
             b'run,abc,1,11,train\nsleep,def,0,10,validate\n'
             b'run,ghi,2.5,12.5,test\n')


def _parquet() -> bytes:
  out = io.BytesIO()
  parquet.write_table(pyarrow.Table.from_pylist(list(_ROWS)), out)
  return out.getvalue()


def _parquet_table(folder: pathlib.Path) -> Target:
  pyarrow.set_cpu_count(1)
  return _table('captions.parquet', _parquet())(folder)


def _ucf_lists(folder: pathlib.Path) -> Target:
  """One list is changed at a time; the three lie in one input."""
  folder.mkdir(parents=True, exist_ok=True)
  names = ('classInd.txt', 'trainlist01.txt', 'testlist01.txt')

  def read(data: bytes):
    for name, part in zip(names, (data + b'@@' * 2).split(b'@@'),
                          strict=False):
      (folder / name).write_bytes(part)
    return annotations.read([folder]).match(
        ['Archery/v_Archery_g01_c01.avi'], folder)

  return Target((b'1 Archery\n2 Bowling\n@@\n'
                 b'Archery/v_Archery_g01_c01.avi 1\n'
                 b'Bowling/v_Bowling_g02_c03.avi 2\n@@\n'
                 b'Archery/v_Archery_g03_c01.avi\n',), read)


def _describe(name: str, seeds: list[bytes]):
  """Texts beside a clip; a ValueError becomes the clip's rejection."""
  return lambda folder: Target(
      tuple(seeds), lambda data: sidecars.describe([(name, data)]))


def _text(rng: random.Random, data: bytes) -> bytes:
  text = data.decode()
  return rng.choice((
      text.encode('utf-16'), text.encode('utf-16-le'), text.encode('utf-32'),
      b'\xef\xbb\xbf' + data, data.replace(b' ', b'\0'), data * 3,
      text.upper().encode(), str(rng.choice(mutations.HOSTILE_INTS)).encode(),
      rng.choice(mutations.HOSTILE_TEXTS).encode('utf-8', 'surrogatepass')))


def _is_text(data: bytes) -> bool:
  try:
    return bool(data.decode().strip())
  except UnicodeDecodeError:
    return False


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
  info = tarfile.TarInfo(name)
  info.size = len(data)
  tar.addfile(info, io.BytesIO(data))


def _tar(kind: int) -> bytes:
  picture = io.BytesIO()
  Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture, 'PNG')
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode='w', format=kind) as tar:
    for number in range(3):
      _member(tar, f'n{number}.png', picture.getvalue())
      _member(tar, f'n{number}.txt', f'a text of {number}'.encode())
    _member(tar, 'n0.json', b'{"caption": ["a", "b"], "label": 3}')
    _member(tar, 'n1.cls', b'5')
    _member(tar, 'x' * 90 + '/' + 'y' * 60 + '.png', picture.getvalue())
  return out.getvalue()


def _tar_shard(folder: pathlib.Path) -> Target:
  def call(path: pathlib.Path):
    tar = listing.TarFile(path.name, path.stat().st_size)
    found = tar_shards.scan(folder, tar)
    if not found.files:
      raise errors.UserError('every member is rejected')
    for file in found.files:
      if not file.key or len(tar_shards.read_member(
          folder, path.name, file)) != file.size:
        raise AssertionError(f'{file} is not as it is listed')

  return reader_lib.of_file(folder / 'shard.tar', [
      _tar(kind) for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT,
                              tarfile.PAX_FORMAT)], call)


_REQUESTS = b''.join(json.dumps(line).encode() + b'\n' for line in (
    dict(prompt='a seven moves left', seed=3),
    dict(prompt=[[0, 'a dog'], [17, 'a cat']], label='run'),
    dict(image='a.png', conditions=dict(speed=1.5, place=[1, 2])),
    dict(video='a.mp4')))


def _requests(folder: pathlib.Path) -> Target:
  return reader_lib.of_file(folder / 'requests.jsonl', [_REQUESTS],
                            lambda path: requests.read(str(path), 0))


def _profile(folder: pathlib.Path) -> Target:
  return Target((b'100:110', b'7:9@3'), lambda data: profile_request.parse(
      data.decode(errors='replace').strip()))


_REJECTED = (errors.UserError, ValueError)

READERS = (
    Reader('captions.jsonl', _table('captions.jsonl', _JSON_LINES),
           mutations.JSON_LINES, mutations.has_json_line),
    Reader('captions.csv', _table('captions.csv', _delimited(',')),
           mutations.cells(','),
           lambda data: b'file' in data.split(b'\n', 1)[0]),
    Reader('captions.tsv', _table('captions.tsv', _delimited('\t')),
           mutations.cells('\t'),
           lambda data: b'file' in data.split(b'\n', 1)[0]),
    Reader('captions.parquet', _parquet_table, mutations.one_of(
        (5, mutations.behind(4)), (1, mutations.edits)),
           lambda data: data[:4] == data[-4:] == b'PAR1', memory_mib=256),
    Reader('kinetics.csv', _table('kinetics.csv', _KINETICS),
           mutations.cells(','),
           lambda data: b'youtube_id' in data.split(b'\n', 1)[0]),
    Reader('ucf101_lists', _ucf_lists, mutations.cells(' '),
           lambda data: data.count(b'@@') == 2),
    Reader('beside.txt', _describe('a.txt', [b'a dog runs', 'ä'.encode()]),
           mutations.one_of((1, _text), (1, mutations.edits)), _is_text,
           _REJECTED),
    Reader('beside.cls', _describe('a.cls', [b'3', b'run', b'3.0', b'true']),
           mutations.one_of((1, _text), (1, mutations.edits)), _is_text,
           _REJECTED),
    Reader('beside.json', _describe('a.json', [
        b'{"caption": ["a", "b"], "label": 3, "caption_2": "c"}']),
           mutations.JSON, mutations.is_json, _REJECTED),
    Reader('tar', _tar_shard, formats.tar,
           lambda data: data[257:262] == b'ustar'),
    Reader('requests.jsonl', _requests, mutations.JSON_LINES,
           mutations.has_json_line),
    Reader('profile_now', _profile, mutations.edits,
           lambda data: b':' in data, (ValueError,)),
)
