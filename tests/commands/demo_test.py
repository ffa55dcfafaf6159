"""`walt demo`: what the page draws, and the page itself in a browser."""
import contextlib
import dataclasses
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import pytest

from tests import chromium
from tests.e2e import tiny
from tests.sampling import cascade_test
from walt_jax.builders import pipelines
from walt_jax.commands import demo
from walt_jax.core import errors
from walt_jax.diffusion import guidance as guidance_lib
from walt_jax.diffusion import samplers
from walt_jax.media import samples as samples_lib
from walt_jax.media import video
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import settings

PROMPT = 'a seven moves left'
FRAMES = 9
# What a person types and presses, for the page's own framework to see.
TYPE = '''(() => {
  const field = document.querySelector(%r);
  const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement
                                            : HTMLInputElement;
  Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(
      field, %r);
  field.dispatchEvent(new Event('input', {bubbles: true}));
  field.dispatchEvent(new Event('change', {bubbles: true}));
  field.dispatchEvent(new Event('blur', {bubbles: true}));
})()'''
HOSTS = """[...new Set(performance.getEntriesByType('resource').map(
    entry => new URL(entry.name).host).filter(host => host))]"""
SAMPLES = """fetch([...document.querySelectorAll('#files a')].find(
    one => one.href.includes('samples')).href).then(one => one.text())"""
VIDEO = "document.querySelector('#clip video')?.src || ''"


def load(folder) -> demo.Drawer:
  mesh = mesh_lib.make_mesh()
  return demo.Drawer(
      pipelines.load_pipeline([str(tiny.run('rollout'))], mesh), mesh,
      pathlib.Path(folder))


class DrawerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.drawer = load(self.enterContext(tempfile.TemporaryDirectory()))

  def job(self, frames=9, steps=2, scale=2.0, **changed):
    return job_lib.SamplingJob(**dict(
        prompt=PROMPT, num_frames=frames, choice=settings.SamplerChoice(
            steps=[steps], sampler=['ddim'], guidance=[{'text': scale}])
        ) | changed)

  @pytest.mark.slow
  def test_a_clip_is_what_walt_sample_draws(self):
    told = []
    job = self.job(frames=12, seed=3)
    out = self.drawer.draw(job, lambda *values: told.append(values))
    self.assertEqual(told, [('base', 1, 2), ('base', 2, 2)])
    drawn = samples_lib.read_samples(out)
    same = self.drawer.draw(job, lambda *_: None)
    np.testing.assert_array_equal(
        drawn.clips(), samples_lib.read_samples(same).clips())
    # The second clip was drawn by the programs of the first.
    self.assertEqual(
        samples_lib.read_samples(same).stages[0].compile_seconds, 0)
    with tempfile.TemporaryDirectory() as folder:
      result = tiny.walt(
          'sample', '--workdir', tiny.run('rollout'), '--prompt', PROMPT,
          '--seed', 3, '--num_frames', 12, '--steps', 2, '--guidance',
          'text=2', '--out', folder)
      self.assertEqual(result.code, 0, result.err)
      difference = samples_lib.read_samples(folder).clips().astype(int) - (
          drawn.clips())
      self.assertLessEqual(np.abs(difference).max(), 1)

  def test_refusals(self):
    for changed, said in (
        (dict(frames=0), '0'), (dict(steps=0), 'num_steps'),
        (dict(scale=float('nan')), 'nan')):
      with self.assertRaisesRegex(errors.UserError, said):
        self.drawer.draw(self.job(**changed), lambda *_: None)
    fields = [2, 'ddim', 1.0, 1.0, 1.0]
    for value in (None, 1.5, -1):
      with self.assertRaisesRegex(errors.UserError, 'Seed'):
        demo._job(self.drawer.pipeline, ['', None, None, 9, value], [fields],
                  self.drawer.limits)

  def test_without_the_library(self):
    with mock.patch.dict(sys.modules, {'gradio': None}):
      result = tiny.walt('demo', '--workdir', tiny.run('rollout'))
    self.assertEqual(result.code, 2)
    self.assertRegex(
        result.err, r"\Awalt: error: .*Gradio.*-e '.\[demo\]'.*\n\Z")


class FieldsTest(absltest.TestCase):

  def test_fields_begin_with_what_the_config_says(self):
    pipeline = cascade_test.pipeline_of(
        ('base', (1, 2)), text=cascade_test.Codes())
    stage = dataclasses.replace(
        pipeline.stages[0], defaults=pipeline_lib.StageSettings(
            samplers.SamplerOptions('dpmpp_2m', 12),
            guidance_lib.of({'text': 12.5})))
    gradio = mock.MagicMock()
    fields = demo._stage_fields(gradio, stage, first=True)
    self.assertLen(fields, 4)
    begun = {call.kwargs['label']: call.kwargs['value']
             for call in gradio.Slider.call_args_list}
    self.assertEqual(
        begun, {'Guidance by frames': 1.0, 'Guidance by text': 12.5})
    for call in gradio.Slider.call_args_list:
      self.assertBetween(call.kwargs['value'], *call.args)


class PageTest(absltest.TestCase):

  def test_a_person_draws_clips(self):
    gradio = pytest.importorskip('gradio')
    browser = chromium.find()
    if browser is None:
      self.skipTest('There is no Chromium on this machine.')
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    drawer = load(folder)
    with contextlib.closing(
        demo.serve(gradio, drawer, '127.0.0.1', 0)) as server:
      self.assertStartsWith(server.local_url, 'http://127.0.0.1:')
      with contextlib.closing(chromium.Page(browser)) as page:
        page.open(server.local_url)
        page.wait("document.querySelector('#prompt textarea') !== null")
        page.wait("document.querySelector('#base-steps input') !== null")
        page.run(TYPE % ('#base-steps input', '2'))
        self.draw(page, prompt=PROMPT)
        first = self.finished(page, '')
        drawn = self.last(folder)
        self.assertEqual(drawn.entries[0].caption, PROMPT)
        self.assertLen(drawn.clips()[0], FRAMES)
        # The browser plays it.
        self.assertAlmostEqual(
            page.wait("document.querySelector('#clip video').duration"),
            FRAMES / 8, places=1)
        # Nothing came from anywhere else.
        hosts = page.run(HOSTS)
        self.assertEqual(hosts, [server.local_url.split('/')[2]])
        # An image to begin with, and more frames than a window.
        image = np.full((16, 16, 3), (200, 40, 90), np.uint8)
        video.write_png(folder / 'given.png', image)
        page.upload('#image input[type=file]', folder / 'given.png')
        page.wait("document.querySelector('#image img') !== null")
        page.run(TYPE % ('#frames input', '12'))
        self.draw(page, prompt='a two moves up')
        second = self.finished(page, first)
        drawn = self.last(folder)
        self.assertLen(drawn.clips()[0], 12)
        np.testing.assert_array_equal(drawn.clips()[0, 0], image)
        # What cannot be done is said on the page, and nothing breaks.
        for frames, said in (
            ('100000', 'Frames must be a whole number from 1 to'),
            ('9', 'Prompt has 3000 characters; it may have 2000.')):
          page.run(TYPE % ('#frames input', frames))
          self.draw(page, prompt='<img src=x onerror="window.hacked=1">' if (
              frames == '100000') else 'x' * 3000)
          page.wait(f"document.body.innerText.includes('{said}')")
        self.assertEqual(page.run('typeof window.hacked'), 'undefined')
        # Nothing that is offered tells where it lies.
        self.assertNotIn(str(folder), page.run('document.body.innerText'))
        self.assertNotIn(tempfile.gettempdir(), page.run(SAMPLES))
        page.run(TYPE % ('#seed input', '5'))
        self.draw(page, prompt=PROMPT)
        self.finished(page, second)
        self.assertEqual(self.last(folder).entries[0].seed, 5)

  def draw(self, page, prompt):
    page.run(TYPE % ('#prompt textarea', prompt))
    page.run("document.querySelector('#draw').click()")

  def finished(self, page, before):
    """Waits for another clip than `before`."""
    return page.wait(VIDEO, 120, lambda found: found and found != before)

  def last(self, folder):
    done = [path for path in folder.iterdir()
            if samples_lib.is_sample_folder(path)]
    return samples_lib.read_samples(
        max(done, key=lambda path: path.stat().st_mtime_ns))


if __name__ == '__main__':
  absltest.main()
