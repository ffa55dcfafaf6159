"""The rate that clips were trained at, from data to the files of samples."""
import dataclasses
import json
import pathlib
import shutil
import tempfile
import types

from absl.testing import absltest
from absl.testing import parameterized
import av
import jax
from PIL import Image

from tests.sampling import cascade_test
from walt_jax.builders import datasets
from walt_jax.builders import denoiser_runs
from walt_jax.builders import pipelines
from walt_jax.builders import schema
from walt_jax.commands import requests
from walt_jax.core import errors
from walt_jax.data.sources import rates
from walt_jax.media import samples as samples_lib
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import output as output_lib
from walt_jax.training import resuming

_GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'files'
_CACHE = dict(name='latents', path=str(_GOLDEN / 'cache'))
_CLIPS = dict(name='clips', path=str(_GOLDEN / 'prepared'))


class _DescribedCodec(cascade_test.ExactCodec):

  def describe(self):
    return {}


def _same(rate: float) -> dict[str, float]:
  return dict(median=rate, lowest=rate, highest=rate)


class TrainedRateTest(parameterized.TestCase):

  def config(self, stage, **data):
    values = json.loads((_GOLDEN / stage / 'config.json').read_text())
    self.derived = values.pop('derived')
    values['data'] |= data
    return schema.of(values)

  def found(self, config):
    train = datasets.source(
        config, datasets.TRAIN,
        tokenizer_sha256=self.derived['tokenizer_sha256'])
    return datasets.clip_rates(config, train)

  @parameterized.parameters(
      # The clips in `prepared` were written at 8 frames/s (golden/make.py).
      ('sr', _CLIPS, 8.0, 8.0, 8.0),
      ('sr', _CLIPS | dict(strides=(2,)), 4.0, 4.0, 4.0),
      ('sr', _CLIPS | dict(strides=(1, 2)), 4.0, 4.0, 8.0),
      ('sr', _CLIPS | dict(frame_rate=5), 5.0, 5.0, 5.0),
      ('base', _CACHE, 8.0, 8.0, 8.0),
      ('base', _CACHE | dict(frame_rate=8), 8.0, 8.0, 8.0))
  def test_of_a_configs_data(self, stage, data, *expected):
    self.assertEqual(self.found(self.config(stage, **data)),
                     rates.ClipRates(*expected))

  def test_the_run_records_it(self):
    config = self.config('sr', **_CLIPS)
    config = dataclasses.replace(config, tokenizer=dataclasses.replace(
        config.tokenizer, workdir=str(_GOLDEN / 'tokenizer')))
    run = denoiser_runs.denoiser_run(
        config, self.enterContext(tempfile.TemporaryDirectory()),
        mesh_lib.make_mesh(devices=jax.devices()[:1]))
    self.assertEqual(
        json.loads(json.dumps(run.derived))['frame_rate'], _same(8.0))

  def test_images_have_none(self):
    for changed in (dict(num_frames=1), dict(image_rows=4)):
      self.assertIsNone(self.found(self.config('sr', **_CLIPS | changed)))

  def test_latents_of_clips_at_another_rate_are_refused(self):
    config = self.config('base', **_CACHE | dict(frame_rate=25))
    with self.assertRaisesRegex(
        errors.UserError, 'clips at 8 frames/s, .*frame_rate is 25;'):
      self.found(config)

  def test_latents_have_the_rate_that_they_were_encoded_at(self):
    """Of clips of 8 frames/s that the cache brought to 4."""
    folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'cache'
    shutil.copytree(_GOLDEN / 'cache', folder)
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['settings']['fps'] = 4.0
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    config = self.config('base', **_CACHE | dict(path=str(folder)))
    self.assertEqual(self.found(config), rates.ClipRates(4.0, 4.0, 4.0))

  def test_a_run_without_the_rate_is_resumed(self):
    saved = dict(seed=0, derived=dict(classes=['a']))
    new = dict(seed=0, derived=dict(classes=['a'], frame_rate=_same(25.0)))
    resuming.check_resume(saved, new)


class WrittenRateTest(parameterized.TestCase):

  def pipeline(self, recorded=None, config_says=0.0):
    folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'export'
    shutil.copytree(_GOLDEN / 'export', folder)
    config = json.loads((folder / 'config.json').read_text())
    if recorded:
      config['derived']['frame_rate'] = recorded
    config['data']['frame_rate'] = config_says
    (folder / 'config.json').write_text(json.dumps(config))
    return pipelines.load_pipeline(
        [str(folder)], mesh_lib.make_mesh(devices=jax.devices()[:1]))

  @parameterized.parameters(
      # What the run recorded, its config; rate, origin, rate of its clips.
      (_same(25.0), 0, 25.0, 'run', 25.0),
      (_same(25.0), 8, 25.0, 'run', 25.0),
      (dict(median=25.0, lowest=8.0, highest=30.0), 0, 25.0, 'run', None),
      (None, 8, 8.0, 'config', 8.0),
      (None, 12, 12.0, 'config', 12.0),
      (None, 0, 8.0, 'default', None))  # As runs of 0.1.0.
  def test_of_a_run(self, recorded, config, rate, origin, trained):
    found = self.pipeline(recorded, config)
    self.assertEqual(
        (found.frame_rate, found.rate_origin, found.trained_rate),
        (rate, origin, trained))

  def test_a_flag_decides(self):
    found = self.pipeline()
    with self.assertLogs('walt_jax', 'WARNING') as told:
      self.assertIs(requests.at_rate(found, None), found)
    self.assertRegex(told.output[0], 'written at 8; give --fps')
    self.assertLen(told.output, 1)
    known = dataclasses.replace(found, rate_origin='run', trained_rate=25.0)
    with self.assertNoLogs('walt_jax', 'WARNING'):
      self.assertIs(requests.at_rate(known, None), known)
      for pipeline in (known, found):
        faster = requests.at_rate(pipeline, 12.5)
        self.assertEqual((faster.frame_rate, faster.rate_origin),
                         (12.5, 'request'))
        # What a given video is brought to is not for the flag to say.
        self.assertEqual(faster.trained_rate, pipeline.trained_rate)

  @parameterized.parameters(12.5, 25.0)
  def test_every_file_has_the_rate(self, rate):
    pipeline = dataclasses.replace(
        cascade_test.pipeline_of(('base', ()), ('add', ())), frame_rate=rate,
        tokenizer=types.SimpleNamespace(sha256=''))
    pipeline.__dict__['codec'] = _DescribedCodec()
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    requests_of_all = [cascade_test.Request()]
    job = job_lib.PreparedJob(
        requests_of_all, pipeline.plan(), [cascade_test.SETTINGS] * 2,
        [None], 1)
    output_lib.draw(
        pipeline, job, output_lib.Output(out, 'webp', all_stages=True),
        report=lambda *_: None)
    found = samples_lib.read_samples(out)
    self.assertEqual((found.fps, found.settings['fps_origin']), (rate, 'run'))
    for name in ('00000.mp4', '00000.s0.mp4'):
      with av.open(out / name) as container:
        self.assertEqual(container.streams.video[0].average_rate, rate)
    with Image.open(out / '00000.webp') as image:
      image.load()
      self.assertEqual(image.info['duration'], 1000 / rate)

  def test_earlier_stages_are_written_only_if_asked_for(self):
    pipeline = dataclasses.replace(
        cascade_test.pipeline_of(('base', ()), ('add', ())),
        tokenizer=types.SimpleNamespace(sha256=''))
    pipeline.__dict__['codec'] = _DescribedCodec()
    job = job_lib.PreparedJob(
        [cascade_test.Request()], pipeline.plan(),
        [cascade_test.SETTINGS] * 2, [None], 1)
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    output_lib.draw(pipeline, job, output_lib.Output(out),
                    report=lambda *_: None)
    found = samples_lib.read_samples(out)
    self.assertEqual([p.name for p in out.glob('*.npy')], ['00000.npy'])
    self.assertEqual(found.entries[0].stages, {})
    self.assertEqual([tuple(stage.shape) for stage in found.stages],
                     [(17, 1, 1, 3)] * 2)


if __name__ == '__main__':
  absltest.main()
