"""`walt sample`: long clips, images, videos, prompts that change, exports."""
import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests.e2e import tiny
from walt_jax.evaluation import inputs
from walt_jax.evaluation import requests as evaluation_requests
from walt_jax.media import decode
from walt_jax.media import samples as samples_lib
from walt_jax.media import video

FRAMES = 9  # A window: 3 latent frames, of which 2 may be given.
# After three steps of training it takes much for a text to tell.
GUIDANCE = 'text=5000,frames=1.5;none'


class GuidanceTest(absltest.TestCase):

  def test_the_configs_scales_are_those_of_the_flag(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    old, new = (tiny.copy(tiny.run('rollout'), folder / name)
                for name in ('before_the_key', 'guided'))
    config = json.loads((new / 'config.json').read_text())
    self.assertIsNone(config['sampler'].pop('guidance'))
    (old / 'config.json').write_text(json.dumps(config))
    config['sampler']['guidance'] = dict(text=1000, frames=1.5)
    (new / 'config.json').write_text(json.dumps(config))
    found = {}
    for name, workdir, flags in (
        ('config', new, ()), ('none', new, ('--guidance', 'none')),
        ('flag', old, ('--guidance', 'text=1000,frames=1.5')),
        ('old', old, ())):
      result = tiny.walt(
          'sample', '--workdir', workdir, '--out', folder / name, '--steps', 2,
          '--prompt', 'a seven moves left', *flags)
      self.assertEqual(result.code, 0, result.err)
      found[name] = samples_lib.read_samples(folder / name)
    guided = {'text': 1000.0, 'frames': 1.5}
    for name, scales, origin in (
        ('config', guided, 'config'), ('flag', guided, 'request'),
        ('none', {}, 'request'), ('old', {}, 'config')):
      stage, = found[name].stages
      self.assertEqual((stage.guidance, stage.origins['guidance']),
                       (scales, origin))
    clips = {name: each.clips().astype(int) for name, each in found.items()}
    np.testing.assert_array_equal(clips['config'], clips['flag'])
    # Runs that are older than the key, and 'none', are not guided.
    np.testing.assert_array_equal(clips['none'], clips['old'])
    self.assertGreater(np.abs(clips['config'] - clips['old']).max(), 2)
    # With nothing given the same program draws, and says so.
    with self.assertLogs('walt_jax', 'WARNING') as told:
      result = tiny.walt('sample', '--workdir', old, '--out', folder / 'bare',
                         '--steps', 2)
    self.assertEqual(result.code, 0, result.err)
    self.assertLen(told.output, 1)
    self.assertIn('1 of 1 samples are drawn unconditionally', told.output[0])
    entry, = samples_lib.read_samples(folder / 'bare').entries
    self.assertEqual((entry.caption, entry.label), ('', None))
    # `walt evaluate` draws in the same way.
    drawer = inputs.Inputs(evaluation_requests.EvaluationRequest(
        'fvd', workdirs=[str(new)])).drawer()
    self.assertEqual(drawer.settings[0].guidance.scales, guided)
    self.assertEqual(
        drawer.describe()['stages'][0]['origins']['guidance'], 'config')


class RolloutTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(cls.enterClassContext(
        tempfile.TemporaryDirectory()))
    cls.base, cls.sr = tiny.run('rollout'), tiny.run('sr_rollout')

  def sample(self, out, *argv, code=0):
    result = tiny.walt(
        'sample', '--workdir', f'{self.base},{self.sr}', '--out',
        self.folder / out, '--steps', 2, '--batch_size', 2, '--all_stages',
        *argv)
    self.assertEqual(result.code, code, result.err)
    return result if code else samples_lib.read_samples(self.folder / out)

  def image(self, size=32):
    path = self.folder / f'image{size}.png'
    if not path.is_file():
      video.write_png(path, np.random.default_rng(0).integers(
          0, 256, (size, size, 3), np.uint8))
    return path

  def test_long_clips_with_changing_prompts(self):
    """Frames 9 to 16 come from windows of 4 new frames each."""
    file = self.folder / 'requests.jsonl'
    lines = [
        {'prompt': [[0, 'a seven moves left'], [9, 'a two moves up']]},
        {'prompt': 'a seven moves left'}, {'prompt': 'a seven moves left'}]
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    long = self.sample('long', '--requests', file, '--num_frames', 15,
                       '--guidance', GUIDANCE)
    self.assertEqual(long.entries[0].prompts,
                     ((0, 'a seven moves left'), (9, 'a two moves up')))
    self.assertEqual(long.entries[0].shape, (15, 32, 32, 3))
    self.assertEqual([s.windows for s in long.stages],
                     ['continued', 'blended'])
    self.assertEqual(
        {k: long.settings[k] for k in (
            'num_frames', 'windows', 'window_frames', 'context_frames')},
        dict(num_frames=15, windows=3, window_frames=9, context_frames=5))
    self.assertEqual(long.settings['text_encoder']['name'], 'minilm')
    base = [long.clip(e.stages['base']).astype(int) for e in long.entries]
    # One window alone makes the same first frames.
    lines[0]['prompt'] = 'a seven moves left'
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    short = self.sample('short', '--requests', file,
                        '--guidance', GUIDANCE)
    for clip, entry in zip(base, short.entries, strict=True):
      same = short.clip(entry.stages['base'])
      self.assertLessEqual(np.abs(clip[:FRAMES] - same).max(), 1)
    # Another prompt later on changes later frames only.
    plain = self.sample('plain', '--requests', file, '--num_frames', 15,
                        '--guidance', GUIDANCE)
    self.assertEqual([e.given_frames for e in plain.entries], [0, 0, 0])
    before = plain.clip(plain.entries[0].stages['base'])
    self.assertLessEqual(np.abs(base[0][:FRAMES] - before[:FRAMES]).max(), 1)
    self.assertGreater(np.abs(base[0][FRAMES:] - before[FRAMES:]).max(), 2)

  def test_an_image_is_the_first_frame(self):
    found = self.sample('image', '--image', self.image(), '--prompt',
                        'a seven moves left', '--num_samples', 3)
    truth = decode.read_image(self.image()).astype(int)
    low = truth.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    for entry in found.entries:
      self.assertEqual((entry.source, entry.given_frames),
                       (str(self.image()), 1))
      first = found.clip(entry.stages['base'])[0]
      self.assertLessEqual(np.abs(first - low).max(), 0.51)
      self.assertEqual(entry.shape, (FRAMES, 32, 32, 3))
    one, other = (found.clip(e.stages['base']).astype(int)
                  for e in found.entries[:2])
    self.assertGreater(np.abs(one[1:] - other[1:]).max(), 2)

  def test_a_video_is_continued(self):
    truth = np.random.default_rng(1).integers(
        0, 256, (8, 16, 16, 3), np.uint8)
    np.save(self.folder / 'video.npy', truth.repeat(2, 1).repeat(2, 2))
    found = self.sample('video', '--video', self.folder / 'video.npy',
                        '--num_frames', 13, '--animation', 'webp')
    clip = found.clip(found.entries[0].stages['base'])
    self.assertLen(clip, 13)
    self.assertEqual(found.entries[0].given_frames, 5)
    np.testing.assert_array_equal(clip[:5], truth[-5:])
    self.assertTrue((self.folder / 'video' / '00000.webp').is_file())

  def test_exports_draw_what_work_directories_do(self):
    flags = ['--prompt', 'a two moves up', '--num_samples', 2]
    workdirs = self.sample('from_workdirs', *flags)
    exports = []
    for workdir in (self.base, self.sr):
      exports.append(self.folder / f'export_{workdir.name}')
      result = tiny.walt('export', '--workdir', workdir, '--out', exports[-1])
      self.assertEqual(result.code, 0, result.err)
    result = tiny.walt(
        'sample', '--workdir', ','.join(map(str, exports)), '--out',
        self.folder / 'from_exports', '--steps', 2, '--batch_size', 2, *flags)
    self.assertEqual(result.code, 0, result.err)
    found = samples_lib.read_samples(self.folder / 'from_exports')
    np.testing.assert_array_equal(found.clips(), workdirs.clips())
    for a, b in zip(found.stages, workdirs.stages, strict=True):
      self.assertEqual((a.sha256, a.step, a.weights),
                       (b.sha256, b.step, b.weights))

  def test_refusals(self):
    text = self.folder / 'text.png'
    text.write_text('no image')
    plain = self.folder / 'plain'
    tiny.train('rollout', plain, 0, model__frame_condition=False,
               diffusion__frame_condition_probability=0.0)
    both = f'{self.base},{self.sr}'
    for workdir, argv, *named in (
        (both, ['--num_frames', 0], '--num_frames', '0'),
        (both, ['--image', text], text, 'image'),
        (both, ['--image', self.folder / 'none.png'], 'none.png'),
        (both, ['--video', text], text),
        (both, ['--image', text, '--video', text], '--video'),
        (both, ['--guidance', 'text=2;text=3'], 'text=3', 'sr1'),
        (self.base, ['--noise_level', '0.1'], '--noise_level'),
        (plain, ['--num_frames', 18], '--num_frames 18', plain),
        (plain, ['--image', self.image()], self.image(), plain),
        (plain, ['--guidance', 'frames=2'], 'frames=2'),
        (f'{self.base},{self.folder}/sr2', [], 'sr2'),
        (both, ['--out', text], text)):
      with self.subTest(named[0]):
        out = self.folder / 'refused'
        if '--out' not in argv:
          argv = ['--out', out, *argv]
        result = tiny.walt('sample', '--workdir', workdir, *argv)
        self.assertEqual(result.code, 2, result.err)
        self.assertRegex(result.err, r'\Awalt: error: [^\n]+\n\Z')
        for value in named:
          self.assertIn(str(value), result.err)
        self.assertFalse(out.exists())


if __name__ == '__main__':
  absltest.main()
