"""Every path of every command on an emulated bucket.

Each row is a whole command line with all of its paths in the bucket: what is
read lies there alone, and what is written must appear there, or the command
must refuse in one line. What has no row makes the test fail. Feature networks
of full size and the demo's server are stand-ins; files are not.
"""
import argparse
from collections.abc import Iterator
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import tempfile
import types
from unittest import mock

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np
from PIL import Image

from tests import buckets
from tests.commands import locations_test
from tests.data import video_files
from tests.e2e import tiny
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.commands import cli
from walt_jax.commands import demo
from walt_jax.commands.flags import locations
from walt_jax.core import paths
from walt_jax.evaluation import control
from walt_jax.evaluation import digit_reader
from walt_jax.metrics import feature_network
from walt_jax.metrics import image_features
from walt_jax.metrics import video_features
from walt_jax.pretrained import i3d
from walt_jax.pretrained import networks

_STEPS = ('--steps', '2')
_SETS = ('--real', 'B/real.npy', '--generated', 'B/clips.npy')
_ONE_FRAME = ('--frames', '1')
_DRAWN = ('--num_samples', '2', *_STEPS)
_SMALL = ('--size', '16', '--heldout', '0', '--workers', '1')


@dataclasses.dataclass(frozen=True)
class Row:
  """A command line, and what must come of it.

  Attributes:
    argv: Its words; B stands for a folder of the bucket, L for a local one.
    covers: The flags of paths that this row is there for, and config keys.
    written: Objects that must be there afterwards.
    refused: A part of the one line that it must end with, '' if it succeeds.
  """
  argv: tuple[str, ...]
  covers: tuple[str, ...]
  written: tuple[str, ...] = ()
  refused: str = ''


def _scored(metric: str, *more: str) -> tuple[Row, ...]:
  """Rows of a metric of sets of features."""
  name = f'evaluate {metric}'
  return (
      Row(('evaluate', metric, *_SETS, *more, '--json', f'B/{metric}.json',
           '--save_statistics', f'B/{metric}.npz', '--cache', f'B/{metric}'),
          (f'{name} --real', f'{name} --generated', f'{name} --json',
           f'{name} --save_statistics', f'{name} --cache'),
          (f'{metric}.json', f'{metric}.npz', f'{metric}/real_*.npz')),
      Row(('evaluate', metric, '--real', 'B/real.npy', '--workdir', 'B/run',
           *more, *_DRAWN, '--requests', 'B/requests.jsonl', '--save_samples',
           f'B/{metric}_s.npz', '--cache', f'B/{metric}2', '--json',
           f'B/{metric}2.json'),
          (f'{name} --workdir', f'{name} --requests', f'{name} --save_samples'),
          (f'{metric}_s.npz', f'{metric}2.json', f'{metric}2/*.npz')),
      # By default beside the run.
      Row(('evaluate', metric, '--real', 'B/real.npy', '--workdir', 'B/run',
           *more, *_DRAWN, '--json', f'B/{metric}3.json'), (),
          (f'{metric}3.json', 'run/evaluation/*.npz')),
      Row(('evaluate', metric, *_SETS, *more, '--json', 'B/no.json',
           '--network', 'B/weights.npz'),
          (f'{name} --network',), refused='weights.npz'))


ROWS = (
    Row(('config', 'B/c.py:smoke'), ('config file',)),
    Row(('plan', '--config', 'B/c.py:smoke', '--json', 'B/plan.json', '--html',
         'B/plan.html'), ('plan --config', 'plan --json', 'plan --html'),
        ('plan.json', 'plan.html')),
    # Both configs are read before the second is found to be no stage.
    Row(('plan', '--config', 'B/c.py:smoke', '--then', 'B/c.py:tokenizer',
         '--topology', 'v5e:2x2'), ('plan --then',), refused='of a tokenizer'),
    Row(('data', 'prepare', '--input', 'L', '--annotations', 'B/captions.csv',
         '--output', 'B/set', *_SMALL),
        ('data prepare --annotations', 'data prepare --output'),
        ('set/manifest.json', 'set/inputs.jsonl')),
    Row(('data', 'prepare', '--input', 'B/films', '--output', 'B/set2'),
        (), refused='gcsfuse'),
    Row(('data', 'prepare', '--latents', '--input', 'B/set', '--workdir',
         'B/tokenizer', '--output', 'B/latents', '--num_frames', '5', '--text',
         'minilm', '--text_path', 'B/text', '--max_tokens', '8'),
        ('data prepare --input', 'data prepare --workdir',
         'data prepare --text_path'), ('latents/manifest.json',)),
    Row(('data', 'render', 'moving_digits', '--num', '4', '--size', '16',
         '--num_frames', '5', '--split', 'test', '--output', 'B/digits'),
        ('data render --output',),
        ('digits/manifest.json', 'digits/samples.json', 'digits/00000.mp4')),
    Row(('data', 'inspect', 'B/set', '--out', 'B/sheet.png'),
        ('data inspect path', 'data inspect --out'), ('sheet.png',)),
    Row(('sample', '--workdir', 'B/run', '--out', 'B/drawn', '--requests',
         'B/requests.jsonl', *_STEPS),
        ('sample --workdir', 'sample --out', 'sample --requests'),
        ('drawn/00000.mp4', 'drawn/00001.npy', 'drawn/samples.json')),
    Row(('sample', '--workdir', 'B/rollout', '--out', 'B/given', '--image',
         'B/frame.png', *_STEPS), ('sample --image',), ('given/00000.mp4',)),
    Row(('sample', '--workdir', 'B/rollout', '--out', 'B/given2', '--video',
         'B/film.mp4', *_STEPS), ('sample --video',), ('given2/00000.mp4',)),
    Row(('demo', '--workdir', 'B/run'), ('demo --workdir',)),
    Row(('export', '--workdir', 'B/run', '--out', 'B/export'),
        ('export --workdir', 'export --out'),
        ('export/model.safetensors', 'export/tokenizer/config.json')),
    Row(('report', 'B/digits', '--out', 'B/page.html'),
        ('report directory', 'report --out'), ('page.html',)),
    Row(('report', 'B/run'), (), ('run/report.html',)),
    *_scored('fvd'),
    *_scored('fid', *_ONE_FRAME),
    Row(('evaluate', 'is', *_ONE_FRAME, '--generated', 'B/clips.npy', '--json',
         'B/is.json', '--cache', 'B/is'),
        ('evaluate is --generated', 'evaluate is --json'), ('is.json',)),
    Row(('evaluate', 'is', *_ONE_FRAME, '--workdir', 'B/run', *_DRAWN,
         '--splits', '1', '--network', 'B/weights.npz',
         '--requests', 'B/requests.jsonl', '--save_samples', 'B/is_s.npz',
         '--cache', 'B/is', '--json', 'B/is2.json'),
        tuple(f'evaluate is --{name}' for name in (
            'workdir', 'requests', 'save_samples', 'cache')),
        ('is_s.npz', 'is2.json', 'is/*.npz')),
    *(Row(('evaluate', 'is', *_ONE_FRAME, '--generated', 'B/clips.npy',
           '--json', 'B/no.json', flag, value), (f'evaluate is {flag}',),
          refused=said)
      for flag, value, said in (
          ('--real', 'B/real.npy', '--real'),
          ('--save_statistics', 'B/no.npz', '--save_statistics'),
          ('--network', 'B/weights.npz', 'weights.npz'))),
    Row(('evaluate', 'reconstruction', *_SETS, '--json', 'B/pairs.json'),
        tuple(f'evaluate reconstruction --{name}'
              for name in ('real', 'generated', 'json')), ('pairs.json',)),
    Row(('evaluate', 'reconstruction', '--real', 'B/real.npy', '--workdir',
         'B/tokenizer', '--json', 'B/pairs2.json'),
        ('evaluate reconstruction --workdir',), ('pairs2.json',)),
    Row(('evaluate', 'reconstruction', *_SETS, '--json', 'B/no.json',
         '--lpips', 'B/weights.npz'),
        ('evaluate reconstruction --lpips',), refused='weights.npz'),
    Row(('evaluate', 'reconstruction', *_SETS, '--json', 'B/no.json',
         '--network', 'B/weights.npz'),
        ('evaluate reconstruction --network',), refused='weights.npz'),
    Row(('evaluate', 'control', '--generated', 'B/digits', '--real', 'B/digits',
         '--json', 'B/no.json'),
        ('evaluate control --generated', 'evaluate control --real'),
        refused='--real'),
    Row(('evaluate', 'control', '--workdir', 'B/run,B/sr', '--requests',
         'B/requests.jsonl', *_DRAWN, '--save_samples', 'B/control.npz',
         '--json', 'B/control.json'),
        tuple(f'evaluate control --{name}' for name in (
            'workdir', 'requests', 'save_samples', 'json')),
        ('control.npz', 'control.json')),
    Row(('evaluate', 'control', '--generated', 'B/digits', '--network',
         'B/weights.npz', '--json', 'B/no.json'),
        ('evaluate control --network',), refused='--network'),
    Row(('evaluate', 'compare', 'B/pairs.json', 'B/pairs.json', '--json',
         'B/compared.json'),
        ('evaluate compare files', 'evaluate compare --json'),
        ('compared.json',)),
)
# Config keys whose values are paths: `walt train` reads each from the bucket.
_KEYS = ('tokenizer.workdir', 'text.path', 'data.path', 'data.image_path',
         'init_from', 'perceptual.path')


def path_flags() -> Iterator[str]:
  """All arguments of all commands that take paths, by their types."""
  for words, parser in locations_test.leaves(cli.make_parser()):
    for action in parser._actions:
      if takes_paths(action):
        name = (action.option_strings or [action.dest])[0]
        yield f'{" ".join(words)} {name}'


def takes_paths(action: argparse.Action) -> bool:
  """Whether a flag's type gives locations, alone or in a list."""
  if action.type is None:
    return False
  try:
    value = action.type('x')
  except (argparse.ArgumentTypeError, ValueError):
    return False
  first = value[0] if isinstance(value, list) else value
  return isinstance(first, locations.Location)


def path_keys() -> Iterator[str]:
  """All config keys whose values are paths."""
  for experiment in schema.STAGES.values():
    yield from _path_keys(experiment, '')


def _path_keys(section: type, where: str) -> Iterator[str]:
  for name, annotation in sections.annotations(section).items():
    inner = sections.subsections(annotation)
    for kind in inner:
      yield from _path_keys(kind, sections.dotted(where, name))
    if annotation is sections.Location or name in ('path', 'image_path'):
      yield sections.dotted(where, name)


def _network(kind, frames=None):
  def apply(params, clips):
    means = clips.astype(jnp.float32).mean((1, 2, 3)) / 255 * params
    return dict(features=means, logits=means)

  return feature_network.FeatureNetwork(
      np.float32(1), networks.NetworkInfo('colours', 'test', 'c' * 64), 'none',
      apply, dict(features=3, logits=3), kind=kind, num_frames=frames,
      batch_size=1)


def _video_network(path=None, **_):
  if path is not None:
    i3d.load(path)  # Which refuses it.
  return _network('video')


def _reader():
  classifier = types.SimpleNamespace(
      predict=lambda cells: np.zeros(len(cells), int))
  return digit_reader.DigitReader(classifier)


class _Server:
  """Stands for the demo's page."""
  local_url = 'http://127.0.0.1:1'

  def block_thread(self):
    pass

  def close(self):
    pass


class BucketFlagsTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = buckets.folder()
    here = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.local = here / 'films'
    for number in range(3):
      video_files.write_video(cls.local / f'{number}.mp4', num_frames=20)
    captions = 'file,caption\n' + ''.join(
        f'{number}.mp4,a clip\n' for number in range(3))
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, 4, 9, 16, 16, 3)).astype(np.uint8)
    np.save(here / 'real.npy', clips[0])
    np.save(here / 'clips.npy', clips[1])
    np.savez(here / 'weights.npz', x=np.zeros(3))
    (here / 'captions.csv').write_text(captions)
    (here / 'requests.jsonl').write_text(''.join(
        json.dumps(dict(label=label)) + '\n'
        for label in ('two up', 'nine left')))
    (here / 'c.py').write_text(pathlib.Path(tiny.QUICKSTART).read_text())
    video_files.write_video(here / 'film.mp4', num_frames=12)
    Image.fromarray(clips[0, 0, 0]).save(here / 'frame.png')
    for file in here.iterdir():
      if file.is_file():
        paths.upload(file, paths.path(f'{cls.root}/{file.name}'))
    cls.upload(pathlib.Path(tiny.run('tokenizer'), 'export'), 'tokenizer')
    cls.upload(tiny.text_encoder_folder(), 'text')
    for stage in ('base', 'rollout', 'sr'):
      cls.upload(tiny.run(stage), stage)
      # What tells in a bucket that a checkpoint is whole.
      paths.upload_bytes(b'', paths.path(
          f'{cls.root}/{stage}/checkpoints/3/commit_success.txt'))

  @classmethod
  def upload(cls, folder, name):
    for file in paths.files_below(pathlib.Path(folder)):
      paths.upload(file, paths.path(
          f'{cls.root}/{name}/{file.relative_to(folder)}'))

  def setUp(self):
    super().setUp()
    # A path taken for a local one would make a folder here.
    self.here = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    before = os.getcwd()
    os.chdir(self.here)
    self.addCleanup(os.chdir, before)

  def walt(self, *argv, refused: str = '') -> None:
    """Runs a command; nothing of it may be left in the present folder."""
    words = [re.sub(r'\bB/', f'{self.root}/', str(word)) for word in argv]
    result = tiny.walt(*words)
    self.assertEqual(result.code, 2 if refused else 0, f'{words}: {result.err}')
    self.assertEqual(list(self.here.iterdir()), [], words)
    if refused:
      self.assertRegex(result.err, r'\Awalt: error: [^\n]+\n\Z')
      self.assertIn(refused, result.err)

  def train(self, stage: str, workdir: str, *argv, refused: str = '',
            num_steps: int = 2, **changed) -> None:
    variant = 'tokenizer'
    if stage != variant:
      variant = 'smoke'
      changed |= dict(tokenizer__workdir='B/tokenizer', text__path='B/text')
    words = tiny.flags(stage, workdir, num_steps, **changed)
    words[words.index('--config') + 1] = f'B/c.py:{variant}'
    self.walt(*words, *argv, refused=refused)

  def test_every_flag_has_a_row(self):
    flags = set(path_flags())
    covered = [flag for row in ROWS for flag in row.covers] + [
        'train --config', 'train --workdir', 'train --replay']
    self.assertGreater(len(flags), 60)
    self.assertCountEqual(set(covered), flags)
    self.assertCountEqual(set(_KEYS), set(path_keys()))

  def test_every_row(self):
    self.train('base', 'B/run')
    self.run_rows()

  def test_training_reads_all_of_a_bucket(self):
    self.walt('data', 'render', 'moving_digits', '--split', 'train', '--num',
              16, '--heldout', 8, '--size', 16, '--num_frames', 5, '--clips', 0,
              '--output', 'B/trained_on')
    # Rates by which it fails, and leaves what is to be replayed.
    given = dict(
        data__name='clips', data__path='B/trained_on',
        data__image_path='B/trained_on',
        data__image_rows=4, init_from='B/base', train__eval_every=0,
        optimizer__peak_lr=10, optimizer__weight_decay=10,
        optimizer__clip_norm=0)
    self.train('base', 'B/failed', '--max_failures', 1, refused='--replay',
               num_steps=8, **given)
    bundle, = {name.split('/')[2] for name in buckets.names(self.root)
               if name.startswith('failed/replay/')}
    self.walt('train', '--replay', f'B/failed/replay/{bundle}')
    self.train('tokenizer', 'B/none', refused='weights.npz',
               losses__perceptual_weight=1, perceptual__path='B/weights.npz')
    self.assertFalse([name for name in buckets.names(self.root)
                      if name.startswith('none/')])

  def run_rows(self):
    stubs = (
        (image_features, 'load_efficientnet', lambda **_: _network('image', 1)),
        (video_features, 'load_network', _video_network),
        (image_features, 'load_c3d', lambda *_, **unused: _network('video')),
        (demo, '_import_gradio', lambda: None),
        (demo, 'serve', lambda *_: _Server()),
        (control, '_HELD_OUT_CLIPS', 4),
        (digit_reader, 'train_reader', _reader))
    for where, name, value in stubs:
      self.enterContext(mock.patch.object(where, name, value))
    for row in ROWS:
      with self.subTest(' '.join(row.argv)):
        self.walt(*(self.local if word == 'L' else word for word in row.argv),
                  refused=row.refused)
        names = buckets.names(self.root)
        for wanted in row.written:
          self.assertNotEmpty(fnmatch.filter(names, wanted), wanted)


if __name__ == '__main__':
  absltest.main()
