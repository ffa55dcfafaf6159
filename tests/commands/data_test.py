"""`walt data`: what each action leaves behind, and its one-line refusals."""
import contextlib
import io
import json
import pathlib
import tempfile

from absl.testing import absltest
import jax
import numpy as np
from PIL import Image

from tests.data import video_files
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.commands import data
from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.data import inspect
from walt_jax.data import latent_cache
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import manifest as manifest_lib
from walt_jax.data.stream import batches
from walt_jax.media import samples
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics as statistics_lib

_MODEL = dict(base_channels=8, channel_multipliers=(1,), time_downsample=(),
              blocks_per_level=1, middle_blocks=0, stem_patch=(4, 8, 8),
              num_groups=4, latent_channels=3)


def _data(*flags):
  data.run(cli.parse(['data', *map(str, flags)]))


class DataCommandTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _render(self, name, *flags):
    output = self.root / name
    _data('render', 'moving_digits', '--size', 32, '--output', output, *flags)
    return output

  def test_render_heldout_writes_clips_to_look_at(self):
    output = self._render('a', '--split', 'test', '--num', 5)
    dataset = dataset_lib.PreparedDataset(output, 'heldout')
    folder = samples.read_samples(output)
    self.assertEqual((len(dataset), len(folder.entries)), (5, 5))
    stored = codecs.decode_frames(dataset[4]['encoded'])
    np.testing.assert_array_equal(stored, folder.clips()[4])
    before = {p.name: p.read_bytes() for p in output.iterdir()}
    self._render('a', '--split', 'test', '--num', 5)  # Does nothing new.
    self.assertEqual({p.name: p.read_bytes() for p in output.iterdir()}, before)

  def test_a_set_of_other_settings_is_replaced_only_if_told_to(self):
    output = self._render('a', '--split', 'test', '--num', 5)
    with self.assertRaisesRegex(errors.UserError, 'already holds.*overwrite'):
      self._render('a', '--split', 'test', '--num', 3)
    (output / 'notes.txt').write_text('mine')
    self._render('a', '--split', 'test', '--num', 3, '--overwrite')
    clean = self._render('b', '--split', 'test', '--num', 3)
    names = lambda folder: {path.name for path in folder.iterdir()}
    self.assertEqual(names(output), names(clean) | {'notes.txt'})
    for path in clean.glob('*.array_record*'):
      self.assertEqual((output / path.name).read_bytes(), path.read_bytes())

  def test_render_both_splits(self):
    output = self._render('a', '--split', 'train', '--num', 80, '--heldout', 6,
                          '--labels', 'digit', '--num_frames', 3)
    for split, count in (('train', 80), ('heldout', 6)):
      dataset = dataset_lib.PreparedDataset(output, split)
      self.assertLen(dataset, count)
      self.assertEqual(dataset.classes[4], 'four')
      self.assertStartsWith(dataset[0]['key'], split)
    self.assertFalse(samples.is_sample_folder(output))  # More than a few.
    with contextlib.redirect_stdout(io.StringIO()) as told:
      few = self._render('b', '--split', 'train', '--num', 80, '--clips', 2,
                         '--num_frames', 3, '--seed', 1)
    self.assertIn('(train 80; 2 of them also as files)', told.getvalue())
    with contextlib.redirect_stdout(io.StringIO()) as told:
      self._render('d', '--split', 'train', '--num', 80, '--num_frames', 3)
    self.assertIn('(train 80)', told.getvalue())
    self.assertLen(samples.read_samples(few).entries, 2)
    with self.assertRaisesRegex(errors.UserError, '--heldout'):
      self._render('c', '--split', 'test', '--num', 2, '--heldout', 2)

  def test_texts_beside_clips_that_caption_none_are_told(self):
    for name in ('a', 'b'):
      video_files.write_video(self.root / 'in' / f'{name}.avi')
    flags = ('prepare', '--input', self.root / 'in', '--num_frames', 5,
             '--size', 16, '--workers', 1, '--output')
    with self.assertNoLogs('walt_jax', 'WARNING'):  # There are no texts.
      _data(*flags, self.root / 'plain')
    for name in ('a', 'b'):
      (self.root / 'in' / f'{name}.json').write_text('{"title": "a cat"}')
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      _data(*flags, self.root / 'out')
    line, = logs.output
    self.assertEndsWith(line, 'None of 2 clips has a caption: a.json gives '
                        'none, nor do 1 more files.')

  def test_prepare_counts_captions_that_will_be_cut(self):
    for number in range(4):
      video_files.write_video(self.root / 'in' / f'{number}.avi')
    # A word is a token; two more begin and end the caption.
    table = [dict(file='0.avi', caption='left ' * 3),
             dict(file='1.avi', caption='left ' * 4),
             dict(file='1.avi', caption='right ' * 9), dict(file='2.avi'),
             dict(file='/data/3.avi', caption='left')]
    (self.root / 'in' / 'captions.jsonl').write_text(
        '\n'.join(map(json.dumps, table)))
    flags = ('prepare', '--input', self.root / 'in', '--num_frames', 5,
             '--size', 16, '--workers', 1, '--output')
    counts = dict(captions=4, clips_without=1, clips_with_several=1,
                  matched_by_end=1)
    with (self.assertLogs('walt_jax', 'WARNING') as logs,
          contextlib.redirect_stdout(io.StringIO()) as printed):
      _data(*flags, self.root / 'out', '--max_tokens', 5)
    self.assertIn('\n1 lines of tables name no file as it stands and were '
                  'matched by the end of its path\n', printed.getvalue())
    self.assertRegex(logs.output[0], '1 of 4 clips have no caption')
    self.assertRegex(logs.output[1], '2 of 4 captions .* 5 tokens .*minilm')
    manifest = manifest_lib.read_manifest(self.root / 'out')
    self.assertEqual(manifest['captions'], counts | dict(cut=2))
    self.assertEqual(manifest['caption_limit'],
                     dict(encoder='minilm', max_tokens=5))
    self.assertIn('all 4, clips_without 1, clips_with_several 1, '
                  'matched_by_end 1; 2 longer than the 5 tokens that minilm '
                  'reads',
                  '\n'.join(inspect.inspect(self.root / 'out')))
    # They are stored whole, and finished sets are not written anew.
    stored = {dataset[row]['caption'] for dataset in (
        dataset_lib.PreparedDataset(self.root / 'out', split)
        for split in ('train', 'heldout')) for row in range(len(dataset))}
    self.assertIn(('left ' * 4).strip(), stored)
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      _data(*flags, self.root / 'out', '--max_tokens', 6)
    self.assertRegex(logs.output[1], '2 of 4 captions .* 5 tokens')
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      _data(*flags, self.root / 'none', '--text', 'none')
    self.assertLen(logs.output, 1)
    self.assertEqual(
        manifest_lib.read_manifest(self.root / 'none')['captions'], counts)
    with self.assertRaisesRegex(errors.UserError, 't5 needs'):
      _data(*flags, self.root / 't5', '--text', 't5')

  def test_prepare_says_which_folders_it_takes_for_clips(self):
    for number in range(6):
      path = self.root / 'in' / 'a' / f'{number}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.new('RGB', (16, 16)).save(path)
    flags = ('prepare', '--input', self.root / 'in', '--output',
             self.root / 'out', '--num_frames', 5, '--size', 16,
             '--text', 'none')
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
      _data(*flags)
    self.assertRegex(said.getvalue(), r'(?s)1 clips of 1 files.*0 cut where '
                     r'time.*1 of the files are folders of numbered images, '
                     r'taken as clips of 25 frames/s \(--fps')
    # A rerun does nothing, also of a set from before there were such counts.
    file = self.root / 'out' / 'manifest.json'
    manifest = json.loads(file.read_text())
    del manifest['frame_folders'], manifest['counts']['with_cuts']
    file.write_text(json.dumps(manifest))
    with contextlib.redirect_stdout(said):
      _data(*flags)
    self.assertEqual(json.loads(file.read_text()), manifest)

  def test_caches_latents_of_all_splits(self):
    dataset = self._render('data', '--split', 'train', '--num', 5,
                           '--heldout', 3, '--num_frames', 5)
    module = networks.autoencoder(schema.Autoencoder(**_MODEL), 'cpu')
    params = jax.jit(module.init)(
        jax.random.key(0), np.zeros((1, 1, 8, 8, 3), np.float32))['params']
    statistics = statistics_lib.LatentStatistics(mean=np.zeros(3, np.float32),
                                          std=np.ones(3, np.float32))
    sha256 = inference.save_tokenizer(
        self.root / 'tokenizer', params, statistics, dict(model=_MODEL))
    cache = self.root / 'cache'
    flags = ('prepare', '--latents', '--workdir', self.root / 'tokenizer',
             '--input', dataset, '--output', cache, '--low_res_factor', 2)
    with self.assertRaisesRegex(errors.UserError, '--width'):
      _data(*flags, '--height', 16)
    with self.assertRaisesRegex(errors.UserError, 'does not divide'):
      _data(*flags, '--height', 17, '--width', 16)
    _data(*flags, '--height', 16, '--width', 32)
    for split, count in (('train', 5), ('heldout', 3)):
      source = latent_cache.LatentCache(cache, split, tokenizer_sha256=sha256)
      self.assertLen(source, count)
    options = batches.BatchOptions(video_rows=3, shuffle=False)
    batch = next(batches.make_batches(source, options)(0))
    self.assertEqual(batch.videos.posterior.mean.shape, (3, 2, 2, 4, 3))
    self.assertEqual(batch.videos.low_res.mean.shape, (3, 2, 1, 2, 3))
    self.assertIsNone(batch.videos.text)
    pixels = pixels_lib.fit(codecs.decode_frames(
        dataset_lib.PreparedDataset(dataset, 'heldout')[0]['encoded']), 16, 32)
    want = module.apply(
        {'params': params}, pixels_lib.to_unit_range(pixels[None]),
        method='encode').mean[0]
    np.testing.assert_allclose(batch.videos.posterior.mean[0], want,
                               rtol=2**-7, atol=1e-3)


if __name__ == '__main__':
  absltest.main()
