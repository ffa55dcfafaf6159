"""Preparation: every file accounted for, equal bytes, atomic, restartable."""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest, parameterized
import av
import numpy as np

from walt_jax import errors
from walt_jax.data import clips, pipeline, prepare, sources, video_folders

_UCF101 = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'ucf101'
_SETTINGS = prepare.Settings(size=16, min_frames=5, clip_frames=12,
                             clip_stride=12, files_per_shard=2)


def write_video(path, num_frames=12, size=(32, 24), rate=10, value=None):
  """A clip whose frame k has brightness 10 k mod 250 (or `value`)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('mpeg4', rate=rate)
    stream.width, stream.height = size
    stream.pix_fmt = 'yuv420p'
    for k in range(num_frames):
      level = 10 * k % 250 if value is None else value
      image = np.full((size[1], size[0], 3), level, np.uint8)
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _content(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


class PrepareTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.input, self.output = root / 'in', root / 'out'
    self.input.mkdir()

  def _prepare(self, **kwargs):
    return prepare.prepare(self.input, self.output, _SETTINGS, **kwargs)

  def test_class_folders(self):
    for name in ('JumpHigh', 'sit'):
      for number in range(3):
        write_video(self.input / name / f'{number}.avi', value=90)
    manifest = self._prepare()
    self.assertEqual(manifest['classes'], ['JumpHigh', 'sit'])
    self.assertEqual(manifest['counts'],
                     dict(files=6, used=6, rejected=0, clips=6))
    train = sources.PreparedDataset(self.output, 'train')
    heldout = sources.PreparedDataset(self.output, 'heldout')
    self.assertEqual((len(train), len(heldout)), (5, 1))
    keys = {dataset[index]['key'] for dataset in (train, heldout)
            for index in range(len(dataset))}
    self.assertLen(keys, 6)
    example = train[0]
    self.assertEqual((example['label'], example['caption']), (0, 'jump high'))
    self.assertEqual(example['fps'], 10)
    video = clips.decode_frames(example['encoded'])
    self.assertEqual(video.shape, (12, 16, 21, 3))
    np.testing.assert_allclose(video, 90, atol=3)

  def test_ucf101_names_keep_groups_together(self):
    for group in range(1, 5):
      for clip in range(1, 4):
        write_video(self.input / f'v_Diving_g{group:02d}_c{clip:02d}.avi')
    manifest = self._prepare()
    self.assertEqual(manifest['classes'], ['Diving'])
    groups = [{sources.PreparedDataset(self.output, split)[i]['key'][:12]
               for i in range(manifest['splits'][split]['num_examples'])}
              for split in ('train', 'heldout')]
    self.assertEqual((len(groups[0]), len(groups[1])), (3, 1))
    self.assertFalse(groups[0] & groups[1])

  def test_captions(self):
    write_video(self.input / 'a' / 'x.mkv')
    write_video(self.input / 'y.mkv')
    write_video(self.input / 'unnamed.mkv')
    lines = [dict(file='a/x.mkv', caption='a grey wall', label='wall'),
             dict(file='y.mkv', caption='a grey sky'),
             dict(file='gone.mkv', caption='nothing')]
    text = ''.join(json.dumps(line) + '\n' for line in lines) + 'no json\n'
    (self.input / 'captions.jsonl').write_text(text)
    manifest = self._prepare()
    self.assertEqual(manifest['classes'], ['a grey sky', 'wall'])
    rejected = {r['file']: r['reason'] for r in manifest['rejected']}
    self.assertCountEqual(
        rejected, ['unnamed.mkv', 'gone.mkv', 'captions.jsonl:4'])
    self.assertIn('not named', rejected['unnamed.mkv'])

  def test_bad_files_are_named_and_never_fatal(self):
    good = self.input / 'good.avi'
    write_video(good, num_frames=40)
    data = good.read_bytes()
    (self.input / 'empty.avi').write_bytes(b'')
    (self.input / 'text.avi').write_text('not a video at all')
    (self.input / 'header.avi').write_bytes(data[:600])
    (self.input / 'cut.avi').write_bytes(data[:len(data) * 2 // 3])
    write_video(self.input / 'short.avi', num_frames=3)
    write_video(self.input / 'one.avi', num_frames=1)
    (self.input / 'link.avi').symlink_to('nowhere.avi')
    with av.open(str(self.input / 'sound.wav'), 'w') as container:
      stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
      frame = av.AudioFrame.from_ndarray(
          np.zeros((1, 800), np.int16), format='s16', layout='mono')
      frame.sample_rate = 8000
      container.mux(stream.encode(frame))
      container.mux(stream.encode())
    manifest = self._prepare()
    rejected = {r['file']: r['reason'] for r in manifest['rejected']}
    for name, reason in (('empty.avi', 'empty'), ('text.avi', 'Invalid'),
                         ('short.avi', 'shorter than 5'),
                         ('one.avi', 'shorter than 5'),
                         ('link.avi', 'cannot read'),
                         ('sound.wav', 'no video stream'), ('header.avi', '')):
      self.assertIn(reason, rejected[name])
    self.assertNotIn('good.avi', rejected)
    counts = manifest['counts']
    self.assertEqual(counts['files'], 9)
    self.assertEqual(counts['used'] + counts['rejected'], counts['files'])

  def test_equal_bytes_with_more_workers_and_after_a_second_run(self):
    for number in range(5):
      write_video(self.input / f'{number}.avi', value=20 * number)
    self._prepare()
    first = _content(self.output)
    self._prepare()
    self.assertEqual(_content(self.output), first)
    prepare.prepare(self.input, self.output.with_name('two'), _SETTINGS,
                    workers=2)
    self.assertEqual(_content(self.output.with_name('two')), first)

  def test_killed_anywhere_a_rerun_gives_the_same_bytes(self):
    for number in range(8):
      write_video(self.input / f'{number}.avi', num_frames=60)
    want = self.output.with_name('want')
    prepare.prepare(self.input, want, _SETTINGS)
    code = (
        'import pathlib, time\n'
        'from walt_jax.data import clips, prepare\n'
        'real = clips.encode_frame\n'
        'def slow(*a):\n  time.sleep(0.01)\n  return real(*a)\n'
        'clips.encode_frame = slow\n'
        f'prepare.prepare({str(self.input)!r}, {str(self.output)!r}, '
        'prepare.Settings(size=16, min_frames=5, clip_frames=12, '
        'clip_stride=12, files_per_shard=2))\n')
    process = subprocess.Popen([sys.executable, '-c', code])
    part = self.output / '.unfinished' / '000000.json'
    deadline = time.time() + 60
    while not part.exists() and time.time() < deadline:
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    self.assertEqual(process.wait(), -signal.SIGKILL)
    self.assertFalse((self.output / 'manifest.json').exists())
    self._prepare()
    self.assertEqual(_content(self.output), _content(want))

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

  def test_variable_and_other_rates_come_out_constant(self):
    path = self.input / 'v.mkv'
    write_video(path, num_frames=20, rate=10)
    for fps, count in ((10, 20), (5, 10), (20, 40), (8, 16)):
      info, frames = clips.read_frames(path, fps=fps, short_side=16)
      levels = np.array([frame.mean() for frame in frames])
      self.assertEqual(info.fps, fps)
      self.assertLen(levels, count)
      shown = np.floor(np.arange(count) * 10 / fps + 1e-6)
      np.testing.assert_allclose(levels, 10 * shown, atol=4)

  def test_cut(self):
    def lengths(count, length, stride, least):
      frames = (np.full((1, 1, 3), k) for k in range(count))
      return [(int(c[0, 0, 0, 0]), len(c))
              for c in clips.cut(frames, length, stride, least)]
    self.assertEqual(lengths(30, 12, 12, 5), [(0, 12), (12, 12), (24, 6)])
    self.assertEqual(lengths(28, 12, 12, 5), [(0, 12), (12, 12)])
    self.assertEqual(lengths(7, 12, 12, 5), [(0, 7)])
    self.assertEqual(lengths(4, 12, 12, 5), [])
    self.assertEqual(lengths(30, 10, 15, 5), [(0, 10), (15, 10)])
    self.assertEqual(lengths(16, 8, 4, 5), [(0, 8), (4, 8), (8, 8)])

  def test_spaced(self):
    self.assertEqual(video_folders.spaced('ApplyEyeMakeup'), 'apply eye makeup')
    self.assertEqual(video_folders.spaced('tai_chi-2'), 'tai chi 2')

  def test_real_clips(self):
    if not _UCF101.is_dir():
      self.skipTest(f'{_UCF101} is absent.')
    for file in sorted(_UCF101.iterdir())[:3]:
      (self.input / file.name).symlink_to(file)
    settings = prepare.Settings(size=32, clip_frames=34, clip_stride=34)
    manifest = prepare.prepare(self.input, self.output, settings)
    self.assertEqual(manifest['counts']['used'], 3)
    dataset = sources.PreparedDataset(self.output, 'train')
    batch = next(pipeline.make_batches(dataset, pipeline.BatchOptions(
        video_rows=2, image_rows=1, size=32))(0))
    self.assertEqual(batch.videos.pixels.shape, (2, 17, 32, 32, 3))
    self.assertGreater(batch.videos.pixels.std(), 20)


if __name__ == '__main__':
  absltest.main()
