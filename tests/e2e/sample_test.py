"""`walt sample`: base and super-resolution, from requests to files."""
import json
import pathlib
import tempfile

from absl.testing import absltest
import jax
import numpy as np

from tests.e2e import tiny
from walt_jax.builders import pipelines
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.media import decode
from walt_jax.media import samples as samples_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import cascade
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import requests as requests_lib
from walt_jax.training import checkpoint_params

# A prompt, a label, both with a seed of its own, and nothing at all.
REQUESTS = (
    {'prompt': 'a seven moves left'}, {'label': 'two up'},
    {'prompt': 'an eight moves down', 'label': 'eight down', 'seed': 5}, {})
STEPS = 2


class SampleTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.folder = pathlib.Path(folder)
    cls.base, cls.sr = tiny.run('base'), tiny.run('sr')
    cls.file = cls.folder / 'requests.jsonl'
    cls.file.write_text(
        ''.join(json.dumps(request) + '\n' for request in REQUESTS))
    cls.out = cls.folder / 'samples'
    cls.sample(cls.out, '--batch_size', 3, '--noise_level', 0.2,
               '--guidance', 'text=3,label=2;none')
    cls.set = samples_lib.read_samples(cls.out)

  @classmethod
  def sample(cls, out, *argv, devices=1, workdirs=None):
    workdirs = workdirs or [cls.base, cls.sr]
    result = tiny.walt(
        'sample', '--workdir', ','.join(map(str, workdirs)), '--out', out,
        '--requests', cls.file, '--steps', STEPS, '--all_stages', *argv,
        devices=devices)
    if result.code:
      raise AssertionError(result.err)
    return result.out

  def test_every_sample_has_its_files(self):
    self.assertLen(self.set.entries, len(REQUESTS))
    for number, (entry, request) in enumerate(
        zip(self.set.entries, REQUESTS, strict=True)):
      self.assertEqual(entry.stem, f'{number:05d}')
      self.assertEqual(entry.caption, request.get('prompt', ''))
      self.assertEqual(entry.label, request.get('label'))
      self.assertEqual(entry.seed, request.get('seed', 0))
      self.assertEqual(entry.index, number)
      clip = self.set.clip(entry.stem)
      self.assertEqual((clip.dtype, clip.shape), (np.uint8, (5, 32, 32, 3)))
      self.assertEqual(entry.shape, clip.shape)
      low = self.set.clip(entry.stages['base'])
      self.assertEqual(low.shape, (5, 16, 16, 3))
      info, shown = decode.read_frames(self.out / f'{entry.stem}.mp4')
      self.assertLen(list(shown), 5)
      self.assertEqual((info.fps, self.set.fps), (8.0, 8.0))
    self.assertEmpty(list(self.out.glob('*partial*')))
    self.assertTrue((self.out / 'contact_sheet.png').is_file())

  def test_samples_json_says_how_they_were_made(self):
    base, sr = self.set.stages
    self.assertEqual((base.name, sr.name), ('base', 'sr1'))
    self.assertEqual(
        (base.workdir, sr.workdir), (str(self.base), str(self.sr)))
    for stage, workdir in ((base, self.base), (sr, self.sr)):
      self.assertEqual((stage.step, stage.weights), (3, 'ema/0.99'))
      config = json.loads((workdir / 'config.json').read_text())
      self.assertEqual((stage.sampler, stage.steps),
                       (config['sampler']['sampler'], STEPS))
      self.assertEqual(stage.sampler_options['num_steps'], STEPS)
      averages = checkpoint_params.restore_params(workdir)
      self.assertEqual(stage.sha256, pipelines.params_sha256(averages))
      self.assertEqual(stage.tokenizer_sha256,
                       config['derived']['tokenizer_sha256'])
    self.assertEqual(base.guidance, {'text': 3.0, 'label': 2.0})
    self.assertEqual((sr.guidance, sr.noise_level), ({}, 0.2))
    self.assertIsNone(base.noise_level)
    self.assertEqual((base.shape, sr.shape),
                     ((5, 16, 16, 3), (5, 32, 32, 3)))
    self.assertEqual(self.set.kind, 'generated')
    self.assertGreater(self.set.seconds, 0)

  def test_the_same_command_makes_the_same_clips(self):
    again = self.folder / 'again'
    self.sample(again, '--batch_size', 3, '--noise_level', 0.2,
                '--guidance', 'text=3,label=2;none')
    np.testing.assert_array_equal(
        samples_lib.read_samples(again).clips(), self.set.clips())

  def test_latents_depend_on_neither_batch_size_nor_neighbours(self):
    """Equal to 1e-5: products of other sizes may add in another order."""
    mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
    pipeline = pipelines.load_pipeline([str(self.base), str(self.sr)], mesh)
    requests = requests_lib.read(str(self.file), 0)
    settings = [
        pipeline_lib.StageSettings(
            stage.defaults.options, guidance_lib.Guidance(), noise_level=0.2)
        for stage in pipeline.stages]

    def draw(requests, batch_size):
      latents = []
      for index in range(2):
        latents.append(cascade.run_stage(
            pipeline, index, requests, settings[index], batch_size=batch_size,
            low_res=latents[-1] if latents else None).latents)
      return latents

    together = draw(requests, 3)
    for size in (1, 8):
      for a, b in zip(draw(requests, size), together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(draw(requests[2:3], 1), together, strict=True):
      np.testing.assert_allclose(a[0], b[2], atol=1e-5)
    # Each request, seed and index draws something else.
    for latents in together:
      for i in range(len(requests)):
        for j in range(i):
          self.assertGreater(np.abs(latents[i] - latents[j]).max(), 0.1)

  def test_eight_devices_draw_what_one_does(self):
    one, eight = self.folder / 'one', self.folder / 'eight'
    for out, devices, argv in (
        (one, 1, ()), (eight, 8, ('--mesh', 'fsdp=2,tensor=2'))):
      said = self.sample(out, *argv, devices=devices, workdirs=[self.base])
    self.assertRegex(said, r'sampling: 8 x cpu, data 2 x fsdp 2 x tensor 2;')
    self.assertRegex(
        said, r'weights: cut by heads and MLP units over tensor 2 and \d+% cut '
        r'over fsdp 2, gathered layer by layer, [\d.e-]+ GiB a device')
    found = samples_lib.read_samples(eight)
    self.assertEqual(found.settings['mesh'], dict(data=2, fsdp=2, tensor=2))
    difference = found.clips().astype(int) - (
        samples_lib.read_samples(one).clips())
    self.assertLessEqual(np.abs(difference).max(), 1)

  def test_all_labels(self):
    out = self.folder / 'labels'
    result = tiny.walt(
        'sample', '--workdir', self.base, '--out', out, '--label', 'all',
        '--steps', 1, '--batch_size', 40)
    self.assertEqual(result.code, 0, result.err)
    found = samples_lib.read_samples(out)
    self.assertLen({entry.label for entry in found.entries}, 40)
    self.assertIn('40 samples', result.out)

  def test_an_unfinished_folder_is_no_set_of_samples(self):
    """An older `samples.json` goes before the first clip is replaced."""
    out = tiny.copy(self.out, self.folder / 'stale')
    samples_lib.SampleWriter(out, fps=8.0)
    self.assertFalse(samples_lib.is_sample_folder(out))


if __name__ == '__main__':
  absltest.main()
