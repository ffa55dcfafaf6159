"""The report in a real browser: whatever files say is shown, and never runs."""
import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests import chromium
from walt_jax.media import samples
from walt_jax.report import build

HOSTILE = (
    '<script>window.hacked = 1</script>',
    '"><img src=x onerror="window.hacked=1">',
    "' onmouseover='window.hacked=1' autofocus onfocus='window.hacked=1",
    '</figcaption></figure></style></script><svg onload=window.hacked=1>',
    '<iframe srcdoc="<script>parent.hacked=1</script>"></iframe>',
    '<!-- <b> --!><a href="javascript:window.hacked=1">x</a>',
    '&lt;script&gt; &#60;b&#62; \u2028 \u202e',
)
_SCAN = '''[...document.querySelectorAll('*')].flatMap(
    element => [...element.attributes].map(one => [one.name, one.value]))
    .filter(([name, value]) => name.startsWith('on')
            || value.trim().toLowerCase().startsWith('javascript:'))'''


class HostileTest(absltest.TestCase):

  def test_what_files_say_is_shown_and_does_not_run(self):
    browser = chromium.find()
    if browser is None:
      self.skipTest('There is no Chromium on this machine.')
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.write(folder)
    page = folder / 'page.html'
    page.write_text(build.render(folder, max_clips=100), encoding='utf-8')
    opened = chromium.Page(browser)
    self.addCleanup(opened.close)
    opened.open(page.as_uri())
    opened.wait('document.readyState === "complete"')
    opened.run('document.querySelectorAll("*").forEach(one => {'
               'for (const kind of ["mouseover", "focus", "click", "error"])'
               ' one.dispatchEvent(new Event(kind)); })')
    self.assertEqual(opened.run('typeof window.hacked'), 'undefined')
    self.assertEqual(opened.run(_SCAN), [])
    self.assertEqual(opened.run(
        'document.querySelectorAll("iframe, object, embed, base, form")'
        '.length'), 0)
    text = opened.run('document.body.textContent')
    for caption in HOSTILE:
      self.assertIn(caption, text)

  def write(self, folder):
    """Captions, labels, names, settings, metrics, scores and a config."""
    clips = np.random.default_rng(0).integers(
        0, 256, (len(HOSTILE), 2, 8, 8, 3), np.uint8)
    record = samples.StageRecord(HOSTILE[0], HOSTILE[1], 1, HOSTILE[2],
                                 weights=HOSTILE[3], sampler=HOSTILE[4])
    samples.write_samples(
        folder / 'drawn <img src=x onerror=hacked=1>', clips,
        [samples.Entry(f'{i:05d}', caption=text, label=text, seed=i)
         for i, text in enumerate(HOSTILE)], 8, mp4=False, stages=[record])
    workdir = folder / "run '\"><svg onload=hacked=1>"
    workdir.mkdir()
    with open(workdir / 'metrics.jsonl', 'w') as file:
      for step in range(1, 5):
        file.write(json.dumps(
            {'step': step, 'train/loss': 1.0 / step}
            | {f'eval/{text}': step for text in HOSTILE}) + '\n')
    (workdir / 'config.json').write_text(json.dumps(
        dict(stage=HOSTILE[0], data=dict(name=HOSTILE[1]))))
    (folder / 'scores.json').write_text(json.dumps({HOSTILE[0]: {
        HOSTILE[1]: HOSTILE[2]}}))


if __name__ == '__main__':
  absltest.main()
