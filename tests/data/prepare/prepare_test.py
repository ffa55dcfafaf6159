"""Preparation: every file accounted for, equal bytes, atomic, restartable."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from tests import real_data
from tests.data import video_files
from walt_jax.core import errors
from walt_jax.data.prepare import annotations
from walt_jax.data.prepare import prepare
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import names as names_lib
from walt_jax.data.stream import batches

_SETTINGS = prepare.Settings(size=16, min_frames=5, clip_frames=12,
                             num_shards=4)
write_video = video_files.write_video


def _manifest(folder):
  """All of the manifest but the figures that time changes."""
  manifest = json.loads((folder / 'manifest.json').read_text())
  del manifest['benchmark']
  return manifest


class PrepareTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.input, self.output = root / 'in', root / 'out'
    self.input.mkdir()

  def _prepare(self, settings=_SETTINGS, **kwargs):
    manifest = prepare.prepare(self.input, self.output, settings, **kwargs)
    counts = manifest['counts']
    self.assertEqual(counts['used'] + counts['rejected'], counts['files'])
    self.assertLen(manifest['rejected'], counts['rejected'] + counts['missing'])
    self.assertEqual(counts['clips'], sum(
        shard['num_examples'] for split in manifest['splits'].values()
        for shard in split['shards']))
    lines = (self.output / manifest['inputs']['file']).read_text().splitlines()
    self.assertLen(lines, manifest['inputs']['lines'])
    self.accounts = {account['file']: account
                     for account in map(json.loads, lines)}
    self.assertEqual(counts['used'], sum(
        account['outcome'] == 'used' for account in self.accounts.values()))
    self.assertEqual(counts['clips'], sum(
        account.get('clips', 0) for account in self.accounts.values()))
    return manifest

  def test_class_folders(self):
    for name in ('JumpHigh', 'sit'):
      for number in range(3):
        write_video(self.input / name / f'{number}.avi', value=90)
    manifest = self._prepare()
    self.assertEqual(manifest['classes'], ['JumpHigh', 'sit'])
    self.assertEqual(manifest['counts'], dict(
        files=6, used=6, rejected=0, damaged=0, missing=0, hidden=0,
        with_cuts=0, deinterlaced=0, clips=6))
    train = dataset_lib.PreparedDataset(self.output, 'train')
    heldout = dataset_lib.PreparedDataset(self.output, 'heldout')
    self.assertEqual((len(train), len(heldout)), (5, 1))
    keys = {dataset[index]['key'] for dataset in (train, heldout)
            for index in range(len(dataset))}
    self.assertLen(keys, 6)
    example = train[0]
    self.assertEqual((example['label'], example['caption']), (0, 'jump high'))
    self.assertEqual(example['fps'], 10)
    self.assertEqual(train.index[0].tolist(), (12, 16, 21, 10, 0))
    video = codecs.decode_frames(example['encoded'])
    self.assertEqual(video.shape, (12, 16, 21, 3))
    np.testing.assert_allclose(video, 90, atol=3)
    self.assertGreater(
        manifest['benchmark']['input_frames_per_second_per_worker'], 0)
    self.assertEqual(manifest['benchmark']['stored_frames_read'], 6 * 12)

  def test_nothing_is_written_among_raw_files(self):
    write_video(self.input / 'a' / '0.avi')
    write_video(self.output / 'b' / '0.avi')
    for output, message in (
        (self.input, 'lies in --input'), (self.input / 'x', 'lies in --input'),
        (self.input / 'a' / '..', 'lies in --input'),
        (self.output, "holds raw files, such as 'b/0.avi'")):
      with self.subTest(str(output)):
        with self.assertRaisesRegex(errors.UserError, message):
          prepare.prepare(self.input, output, _SETTINGS)
    self.assertEqual(os.listdir(self.input), ['a'])
    # Hidden folders are not input.
    prepare.prepare(self.input, self.input / '.prepared', _SETTINGS)

  def test_captions_for_missing_files_and_the_reverse(self):
    write_video(self.input / 'a' / 'x.mkv', num_frames=30)
    write_video(self.input / 'unnamed.mkv')
    lines = [dict(file='a/x.mkv', caption='start', label='s', end=1.0),
             dict(file='a/x.mkv', caption='rest', label='r', start=1.0),
             dict(file='gone.mkv', caption='nothing', label='s')]
    (self.input / 'captions.jsonl').write_text(
        '\n'.join(map(json.dumps, lines)) + '\nno json\n')
    manifest = self._prepare()
    counts = manifest['counts']
    self.assertEqual((counts['files'], counts['used'], counts['rejected'],
                      counts['missing'], counts['clips']), (3, 2, 1, 2, 3))
    self.assertCountEqual([r['file'] for r in manifest['rejected']],
                          ['unnamed.mkv', 'gone.mkv', 'captions.jsonl:4'])
    dataset = dataset_lib.PreparedDataset(self.output)  # One file, one group.
    self.assertEqual(
        [(dataset[row]['key'], dataset[row]['caption'],
          len(dataset[row]['encoded'])) for row in range(3)],
        [('a/x.mkv@0-1#0', 'start', 10), ('a/x.mkv@1-#0', 'rest', 12),
         ('a/x.mkv@1-#1', 'rest', 8)])

  def test_ucf101_names_keep_groups_together(self):
    for group in range(1, 5):
      for clip in range(1, 4):
        write_video(self.input / f'v_Diving_g{group:02d}_c{clip:02d}.avi')
    manifest = self._prepare()
    self.assertEqual(manifest['classes'], ['Diving'])
    groups = [{dataset_lib.PreparedDataset(self.output, split)[i]['key'][:12]
               for i in range(manifest['splits'][split]['num_examples'])}
              for split in ('train', 'heldout')]
    self.assertEqual((len(groups[0]), len(groups[1])), (3, 1))
    self.assertFalse(groups[0] & groups[1])

  @parameterized.parameters('png', 'h264')
  def test_codecs(self, codec):
    write_video(self.input / 'a.avi', num_frames=40, size=(42, 32))
    settings = prepare.Settings(
        size=16, min_frames=5, clip_frames=24, clip_stride=12, codec=codec)
    manifest = self._prepare(settings)
    self.assertEqual(manifest['counts']['clips'], 2)
    dataset = dataset_lib.PreparedDataset(self.output, 'train')
    self.assertEqual(dataset.index['num_frames'].tolist(), [24, 24])
    self.assertEqual(dataset.index['width'].tolist(), [21] * 2)
    example = dataset[1]
    indices = np.array([3, 9, 10])
    clip = codecs.read_clip(example, indices, 16, 21)
    self.assertEqual(clip.shape, (3, 16, 21, 3))
    np.testing.assert_allclose(clip.mean((1, 2, 3)), 10 * (12 + indices) % 250,
                               atol=5)
    self.assertEqual(codecs.read_clip(example, indices, 8, 8).shape,
                     (3, 8, 8, 3))

  def test_equal_bytes_with_more_workers_and_after_a_second_run(self):
    for number in range(5):
      write_video(self.input / f'{number}.avi', value=20 * number)
    self._prepare()
    first, manifest = video_files.content(self.output), _manifest(self.output)
    file = self.output / 'manifest.json'
    times = file.stat().st_mtime_ns
    self._prepare()
    self.assertEqual(file.stat().st_mtime_ns, times)  # Nothing was done.
    self.output = self.output.with_name('two')
    self._prepare(on=prepare.Engine(workers=2))
    self.assertEqual(video_files.content(self.output), first)
    self.assertEqual(_manifest(self.output), manifest)

  def test_killed_anywhere_a_rerun_gives_the_same_bytes(self):
    for number in range(8):
      write_video(self.input / f'{number}.avi', num_frames=60)
    want = self.output.with_name('want')
    prepare.prepare(self.input, want, _SETTINGS)
    code = (
        'import time\n'
        'from walt_jax.data.prepare import prepare\n'
        'from walt_jax.data.storage import codecs\n'
        'real = codecs.encode_frame\n'
        'def slow(*a):\n  time.sleep(0.01)\n  return real(*a)\n'
        'codecs.encode_frame = slow\n'
        f'prepare.prepare({str(self.input)!r}, {str(self.output)!r}, '
        'prepare.Settings(size=16, min_frames=5, clip_frames=12, '
        'num_shards=4))\n')
    process = subprocess.Popen([sys.executable, '-c', code])
    parts = self.output / '.unfinished'
    deadline = time.time() + 60
    # One shard is whole, and the next is being written.
    while time.time() < deadline and not (
        (parts / '000000.json').exists() and any(parts.glob('.*.partial-*'))):
      time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    self.assertEqual(process.wait(), -signal.SIGKILL)
    self.assertFalse((self.output / 'manifest.json').exists())
    self.assertFalse(any(self.output.glob('*array_record*')))
    whole = (parts / '000000.records').stat().st_mtime_ns
    with self.assertRaisesRegex(errors.UserError, 'other settings'):
      self._prepare(prepare.Settings(size=8))  # Not a mix of two sets.
    self._prepare()
    self.assertEqual(video_files.content(self.output),
                     video_files.content(want))
    self.assertEqual(_manifest(self.output), _manifest(want))
    shard, = self.output.glob('walt-train.array_record-00000-of-*')
    self.assertEqual(shard.stat().st_mtime_ns, whole)  # Was not done again.

  def test_a_full_disk_is_one_line_and_a_rerun_finishes(self):
    for number in range(4):
      write_video(self.input / f'{number}.avi', value=20 * number)
    code = (
        'import resource, signal, sys\n'
        'from walt_jax.commands import cli\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n'
        'sys.exit(cli.main(sys.argv[1:]))\n')
    flags = ['data', 'prepare', '--input', str(self.input), '--output',
             str(self.output), '--num_frames', '5', '--clip_frames', '12',
             '--size', '64', '--codec', 'png', '--num_shards', '2',
             '--workers', '1', '--text', 'none']
    done = subprocess.run([sys.executable, '-c', code, *flags], text=True,
                          capture_output=True)
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertRegex(done.stderr.strip(),
                     r'^walt: error: .*cannot write .*run the same command')
    self.assertLen(done.stderr.strip().splitlines(), 1)
    self.assertFalse((self.output / 'manifest.json').exists())
    self.assertFalse(any((self.output / '.unfinished').glob('.*.partial-*')))
    manifest = self._prepare(prepare.Settings(
        size=64, min_frames=5, clip_frames=12, codec='png', num_shards=2))
    self.assertEqual(manifest['counts']['clips'], 4)

  def test_refuses_other_work_in_the_output(self):
    write_video(self.input / 'a.avi')
    self._prepare()
    write_video(self.input / 'b.avi')
    with self.assertRaisesRegex(errors.UserError, 'other input'):
      self._prepare()

  @parameterized.parameters('missing', 'empty', 'unusable')
  def test_says_in_one_line_when_there_is_nothing(self, kind):
    if kind == 'missing':
      self.input = self.input / 'no'
    elif kind == 'unusable':
      (self.input / 'a.avi').write_text('x')
    with self.assertRaisesRegex(errors.UserError, str(self.input)):
      self._prepare()
    self.assertFalse((self.output / 'manifest.json').exists())

  @parameterized.parameters(
      dict(codec='gif'), dict(heldout=1.0), dict(min_frames=9, clip_frames=8),
      dict(clip_stride=0), dict(quality=101), dict(fps=-1.0))
  def test_refuses_wrong_settings(self, **wrong):
    with self.assertRaises(errors.UserError):
      prepare.Settings(**wrong)

  def test_an_unknown_runner_is_refused(self):
    write_video(self.input / 'a.avi')
    with self.assertRaisesRegex(errors.UserError, 'no option.*colour'):
      self._prepare(on=prepare.Engine(pipeline_options='colour=red'))

  def test_real_clips(self):
    folder = real_data.path('ucf101')
    for file in sorted(folder.iterdir())[:3]:
      (self.input / file.name).symlink_to(file)
    settings = prepare.Settings(size=32, clip_frames=34)
    manifest = self._prepare(settings)
    self.assertEqual(manifest['counts']['used'], 3)
    dataset = dataset_lib.PreparedDataset(self.output, 'train')
    batch = next(batches.make_batches(dataset, batches.BatchOptions(
        video_rows=2, image_rows=1, size=32))(0))
    self.assertEqual(batch.videos.pixels.shape, (2, 17, 32, 32, 3))
    self.assertGreater(batch.videos.pixels.std(), 20)

  def test_real_captioned_clips(self):
    folder = real_data.path('asl')
    files = sorted(folder.iterdir())[:3]
    for file in files:
      (self.input / file.name).symlink_to(file)
    table = self.input.with_name('words.jsonl')
    table.write_text('\n'.join(
        json.dumps(dict(file=file.name, caption=file.stem))
        for file in files))
    manifest = self._prepare(
        prepare.Settings(size=24, fps=8, clip_frames=17),
        annotations=annotations.read([table]))
    self.assertEqual(manifest['counts']['used'], 3)
    self.assertEqual(manifest['classes'], [file.stem for file in files])
    dataset = dataset_lib.PreparedDataset(self.output, 'train')
    self.assertEqual(set(dataset.index['fps']), {8.0})
    self.assertEqual(set(dataset.index['width']), {32})
    self.assertIn(dataset[0]['caption'], manifest['classes'])

  def test_names_that_are_not_utf8(self):
    name = os.fsdecode(b'caf\xe9.avi')
    write_video(self.input / name)
    write_video(self.input / 'b.avi')
    (self.input / os.fsdecode(b'bad\xff.avi')).write_text('x')
    manifest = self._prepare(on=prepare.Engine(workers=2))
    self.assertEqual(manifest['counts']['used'], 2)
    rejected, = manifest['rejected']
    self.assertEqual(os.fsencode(rejected['file']), b'bad\xff.avi')
    keys = {dataset_lib.PreparedDataset(self.output, split)[0]['key']
            for split in names_lib.SPLITS}
    self.assertEqual(keys, {f'{name}#0', 'b.avi#0'})


if __name__ == '__main__':
  absltest.main()
