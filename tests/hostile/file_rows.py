"""Rows of files whose content lies, is torn, or never ends."""
from collections.abc import Iterator
import pathlib
import shutil

from tests.hostile import rows

Row = rows.Row
writes = rows.writes
_OUT = ('--out', '{dir}/out')
_DRAW = ('sample', '--workdir', '{base}', *_OUT)
_SCORE = ('evaluate', 'fvd', '--json', '{dir}/out.json')

# Command lines that read the file {dir}/x.
_READERS: dict[str, tuple[str, ...]] = {
    'train --config': ('train', '--config', '{dir}/x', '--workdir',
                       '{dir}/out'),
    'config': ('config', '{dir}/x'),
    'train --replay': ('train', '--replay', '{dir}/x'),
    'sample --workdir': ('sample', '--workdir', '{dir}/x', *_OUT),
    'sample --requests': (*_DRAW, '--requests', '{dir}/x'),
    'sample --image': (*_DRAW, '--image', '{dir}/x'),
    'sample --video': (*_DRAW, '--video', '{dir}/x'),
    'demo --workdir': ('demo', '--workdir', '{dir}/x'),
    'fvd --real': (*_SCORE, '--real', '{dir}/x', '--generated', '{clips}'),
    'fvd --generated': (*_SCORE, '--real', '{clips}', '--generated',
                        '{dir}/x'),
    'fvd --network': (*_SCORE, '--real', '{clips}', '--generated', '{clips}',
                      '--network', '{dir}/x'),
    'fvd --requests': (*_SCORE, '--real', '{clips}', '--workdir', '{base}',
                       '--requests', '{dir}/x'),
    'reconstruction --lpips': (
        'evaluate', 'reconstruction', '--real', '{clips}', '--generated',
        '{clips}', '--lpips', '{dir}/x', '--json', '{dir}/out.json'),
    'compare': ('evaluate', 'compare', '{result}', '{dir}/x'),
    'prepare --input': ('data', 'prepare', '--input', '{dir}/x', '--output',
                        '{dir}/out'),
    'prepare --annotations': ('data', 'prepare', '--input', '{films}',
                              '--annotations', '{dir}/x', '--output',
                              '{dir}/out'),
    'prepare --workdir': ('data', 'prepare', '--latents', '--input',
                          '{digits}', '--workdir', '{dir}/x', '--output',
                          '{dir}/out'),
    'inspect': ('data', 'inspect', '{dir}/x'),
    'export --workdir': ('export', '--workdir', '{dir}/x', *_OUT),
}


def any_content() -> Iterator[Row]:
  """Everything that is read, with what is no file of any kind."""
  for reader, argv in _READERS.items():
    for kind, make in rows.FILES.items():
      yield Row(f'{reader}: {kind}', argv, make)


_CONFIGS = {
    'raises': 'raise KeyError("no")', 'divides by zero': '1 / 0',
    'exits': 'import sys; sys.exit(0)', 'quits': 'raise SystemExit',
    'recurs': 'def f(): return f()\nf()',
    'holds NUL': 'x = 1\0', 'is no UTF-8': '# \udcff\udcfe',
    'is torn': 'def get_config(', 'has no function': 'get_config = 3',
    'returns nothing': 'def get_config(): pass',
    'returns a dict': 'def get_config(): return dict(seed=0)',
    'raises later': 'def get_config(): raise OSError("disk")',
    'exits later': 'import sys\ndef get_config(): sys.exit(3)',
    'takes too much': 'def get_config(a, b): pass',
    'lines': 'raise ValueError("a\\nb\\nc")',
    'is long': 'raise E' + 'x' * 9_999,
}
_NESTED = {
    'is deep': 'd = c\nfor _ in range(3_000):\n    d.a = type(c)(); d = d.a',
    'holds bytes': 'c.seed = b"x"', 'holds a function': 'c.seed = print',
    'holds a set': 'c.seed = {1}', 'holds a surrogate': 'c["\\udcff"] = 1',
    'is huge': 'c.seed = 10**9_999', 'is not a number': 'c.seed = float("nan")',
    'is empty': '', 'has a long stage': 'c.stage = "x" * 99_999',
    'holds itself': 'c.a = c',
    'has a deep tuple': 't = ()\nfor _ in range(9_000): t = (t,)\nc.seed = t',
}


def configs() -> Iterator[Row]:
  """Config files that do anything but return a config."""
  programs = _CONFIGS | {
      name: 'from ml_collections import config_dict\ndef get_config():\n'
            '  c = config_dict.ConfigDict()\n  '
            + text.replace('\n', '\n  ') + '\n  return c\n'
      for name, text in _NESTED.items()}
  for name, text in programs.items():
    for argv in (('train', '--config', '{dir}/c.py', '--workdir', '{dir}/out'),
                 ('plan', '--config', '{dir}/c.py'), ('config', '{dir}/c.py')):
      yield Row(f'{argv[0]}: a config that {name}', argv,
                writes('c.py', text))


_LINES = {
    'a torn line': b'{"label": "two up"}\n{"lab',
    'a NUL': b'{"label": "two\0 up"}\n', 'a NUL line': b'\0\0\0\0\n',
    'an escaped NUL': b'{"label": "two\\u0000 up"}\n',
    'depth': b'[' * 100_000 + b'\n', 'a deep value':
    b'{"conditions": ' + b'{"a": ' * 9_000 + b'1' + b'}' * 9_001 + b'\n',
    'a surrogate': b'{"label": "\\udcff"}\n',
    'no UTF-8': b'{"label": "\xff"}\n',
    'a huge number': b'{"seed": ' + b'9' * 5_000 + b'}\n',
    'NaN': b'{"seed": NaN}\n', 'a list': b'[]\n', 'a number': b'1\n',
    'blank lines': b'\n\n\n', 'an unknown key': b'{"lable": "two up"}\n',
    'a boolean seed': b'{"seed": true}\n', 'a negative seed': b'{"seed": -1}\n',
    'an image that is none': b'{"image": "/dev/null"}\n',
    'an image of NUL': b'{"image": "a\\u0000b"}\n',
    'a video of number': b'{"video": 3}\n',
    'a prompt list': b'{"prompt": [[0, "a"], [0, "b"]]}\n',
    'a prompt frame': b'{"prompt": [[-1, "a"]]}\n',
    'a prompt of nulls': b'{"prompt": [[null, null]]}\n',
}


def requests() -> Iterator[Row]:
  """Files of requests."""
  for name, data in _LINES.items():
    for reader in ('sample --requests', 'fvd --requests'):
      yield Row(f'{reader} with {name}', _READERS[reader], writes('x', data))


_ARRAYS = {
    'a huge shape': rows.npy(shape='(9999999999999, 5, 16, 16, 3)'),
    'an overflowing shape': rows.npy(shape='(4294967296,) * 5'),
    'a shape of 10^30': rows.npy(shape=f'({10**30}, 5, 16, 16, 3)'),
    'a negative shape': rows.npy(shape='(-2, 5, 16, 16, 3)'),
    'no data': rows.npy(), 'less data': rows.npy(data=bytes(100)),
    'objects': rows.npy(descr='|O', data=bytes(10**5)),
    'texts': rows.npy(descr='<U9', data=bytes(10**6)),
    'floats': rows.npy(descr='<f4', data=bytes(10**6)),
    'an odd type': rows.npy(descr='<x9'), 'a call': rows.npy(header='exit()'),
    'a deep header': rows.npy(header='(' * 5_000),
    'a header of NUL': rows.npy(header='\0' * 64),
    'a list for a header': rows.npy(header='[]'),
    'version 9': rows.npy(version=b'\x09\x00'),
    'a torn header': rows.npy()[:20],
    'two dimensions': rows.npy(shape='(16, 16)', data=bytes(256)),
    'no clips': rows.npy(shape='(0, 5, 16, 16, 3)'),
    'no frames': rows.npy(shape='(2, 0, 16, 16, 3)'),
    'no rows': rows.npy(shape='(2, 9, 0, 16, 3)'),
    'a fortran order of text': rows.npy(order='"x"', data=bytes(10**5)),
}


def arrays() -> Iterator[Row]:
  """Arrays that are not what they say, alone and in archives."""
  for name, data in _ARRAYS.items():
    yield Row(f'an .npy with {name}', _array('x.npy'), writes('x.npy', data))
    yield Row(f'an .npz with {name}', _array('x.npz'),
              writes('x.npz', rows.npz(arr_0=data)))
  archives = {
      'a bomb': rows.npz_bomb(40), 'nothing': rows.npz(),
      'another array': rows.npz(x=rows.npy(data=bytes(10**5))),
      'half': rows.npz(arr_0=rows.npy(data=bytes(10**5)))[:-30],
      'a name that leaves': rows.npz(**{'../../arr_0': rows.npy()})}
  for name, data in archives.items():
    yield Row(f'an .npz of {name}', _array('x.npz'), writes('x.npz', data))


def _array(name: str) -> tuple[str, ...]:
  return (*_SCORE, '--real', '{clips}', '--generated', f'{{dir}}/{name}')


_PICTURES = {
    'a bomb.png': rows.png(60_000, 60_000), 'wide.png': rows.png(2**31 - 1, 1),
    'none.png': rows.png(0, 0), 'torn.png': rows.png(64, 64)[:60],
    'less.png': rows.png(64, 64, b'x'), 'text.png': b'hello',
    'empty.png': b'', 'text.mp4': b'hello', 'empty.mp4': b'',
    'list.mp4': b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    'ftyp.mp4': b'\0\0\0\x20ftypisom' + bytes(64),
    'torn.gif': b'GIF89a\xff\xff',
    'bomb.gif': b'GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02',
    'bomb.bmp': b'BM' + bytes(12) + b'(\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f'
                + bytes(40)}


def pictures() -> Iterator[Row]:
  """Images and videos that are none, or are far too large."""
  for name, data in _PICTURES.items():
    flag = '--video' if name.endswith(('mp4', 'gif')) else '--image'
    yield Row(f'sample {flag} {name}', (*_DRAW, flag, f'{{dir}}/{name}'),
              writes(name, data))
    yield Row(f'evaluate --generated a folder of {name}',
              (*_SCORE, '--real', '{clips}', '--generated', '{dir}'),
              writes(name, data))


_TABLES = {
    'c.jsonl': (b'{"file": "0.mp4", "cap', b'\0', b'[' * 99_999, b'{"file": 1}',
                b'{"file": "0.mp4", "caption": "\xff"}'),
    'c.csv': (b'', b'\0\0', b'file,caption\n"0.mp4,a', b'a,b\n1,2\n',
              b'\xff\xfe\0', b'file,caption\n0.mp4,' + b'x' * 200_000 + b'"\n'),
    'c.parquet': (b'', b'PAR1', b'PAR1' + b'\xff' * 64 + b'PAR1'),
    'c.txt': (b'hello',), 'c.pkl': (b'\x80\x04.',)}


def tables() -> Iterator[Row]:
  """Annotations that name no file, or are no tables."""
  for name, contents in _TABLES.items():
    for number, data in enumerate(contents):
      yield Row(f'annotations {name} {number}',
                ('data', 'prepare', '--input', '{films}', '--annotations',
                 f'{{dir}}/{name}', '--output', '{dir}/out'),
                writes(name, data))


_JSON = {
    'nothing': b'', 'a torn object': b'{"stage": ', 'NUL': b'\0' * 64,
    'a list': b'[1]', 'a text': b'"x"', 'null': b'null', 'depth': b'[' * 99_999,
    'no UTF-8': b'{"stage": "\xff"}', 'no keys': b'{}',
    'numbers': b'{"stage": 1, "model": 2, "metric": 3, "value": {}}',
    'a list for a stage': b'{"stage": [], "model": []}',
    'a huge number': b'{"stage": ' + b'9' * 5_000 + b'}'}


def json_files() -> Iterator[Row]:
  """The JSON files that commands read: configs, results, manifests."""
  readers = {
      'config.json': (('sample', '--workdir', '{dir}', '--out', '{dir}/out'),
                      ('export', '--workdir', '{dir}', '--out', '{dir}/out'),
                      ('evaluate', 'fvd', '--real', '{clips}', '--workdir',
                       '{dir}', '--json', '{dir}/out'),
                      ('train', '--config', '{config}', '--workdir', '{dir}')),
      'manifest.json': (('data', 'inspect', '{dir}'),
                        (*_SCORE, '--real', '{clips}', '--generated',
                         '{dir}:train')),
      'r.json': (('evaluate', 'compare', '{dir}/r.json', '{result}'),)}
  for name, lines in readers.items():
    for argv in lines:
      for kind, data in _JSON.items():
        yield Row(f'{argv[0]} {argv[1]}: {name} of {kind}', argv,
                  writes(name, data))


def _damaged(names: str, data: bytes | None, source: str = 'base'):
  """A copy of a run, in which files are replaced, or removed."""
  def make(folder: pathlib.Path, shared: dict[str, str]) -> None:
    target = folder / 'run'
    shutil.copytree(shared[source], target)
    found = [path for path in target.glob(names)]
    assert found, names
    for path in found:
      if path.is_dir():
        shutil.rmtree(path)
        if data is not None:
          path.write_bytes(data)
      elif data is None:
        path.unlink()
      else:
        path.write_bytes(data)
  return make


def workdirs() -> Iterator[Row]:
  """Damaged work directories."""
  huge = (2**62).to_bytes(8, 'little')
  damages = {
      'no checkpoint': ('checkpoints', None),
      'a file for checkpoints': ('checkpoints', b'x'),
      'no state': ('checkpoints/3/state', None),
      'a file for a state': ('checkpoints/3/state', b'x'),
      'no array metadata': ('checkpoints/3/state/_METADATA', None),
      'torn array metadata': ('checkpoints/3/state/_METADATA', b'{"tree'),
      'array metadata of NUL': ('checkpoints/3/state/_METADATA', bytes(64)),
      'array metadata of a list': ('checkpoints/3/state/_METADATA', b'[]'),
      'empty arrays': ('checkpoints/3/state/**/d/*', b''),
      'noise for arrays': ('checkpoints/3/state/**/d/*', b'\xff' * 512),
      'no tokenizer': ('tokenizer', None),
      'no tokenizer weights': ('tokenizer/model.safetensors', None),
      'empty tokenizer weights': ('tokenizer/model.safetensors', b''),
      'tokenizer weights of a huge header': (
          'tokenizer/model.safetensors', huge + b'{'),
      'tokenizer weights of noise': (
          'tokenizer/model.safetensors', b'\x08' + bytes(7) + b'[[[[[[[['),
      'a torn tokenizer config': ('tokenizer/config.json', b'{'),
      'a tokenizer config of a list': ('tokenizer/config.json', b'[]'),
  }
  lines = (('sample', '--workdir', '{dir}/run', '--out', '{dir}/out',
            '--steps', '2'),
           ('export', '--workdir', '{dir}/run', '--out', '{dir}/out'))
  for name, (where, data) in damages.items():
    for argv in lines:
      # Sampling restores a checkpoint only when it draws.
      if argv[0] == 'export' or not where.startswith('checkpoints/'):
        yield Row(f'{argv[0]}: {name}', argv, _damaged(where, data))


def all_rows() -> Iterator[Row]:
  for group in (any_content, configs, requests, arrays, pictures, tables,
                json_files, workdirs):
    yield from group()
