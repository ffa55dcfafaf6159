"""Several captions a clip: stored once, one drawn a row."""
import collections
import dataclasses
import json
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests.data import video_files
from walt_jax.core import types
from walt_jax.data import latent_cache
from walt_jax.data.prepare import prepare
from walt_jax.data.sources import mixture
from walt_jax.data.sources import tfds as tfds_source
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import examples
from walt_jax.data.stream import batches

try:
  import tensorflow_datasets as tfds
except ImportError:
  tfds = None

_LETTERS = 'abcdefgh'


def _tokenize(texts):
  """A caption's last letter, as its place in the alphabet."""
  ids = np.array([[ord(text[-1])] for text in texts], np.int32)
  return ids, ids > 0


def _states(texts):
  ids, mask = _tokenize(texts)
  return ids[..., None].astype(np.float32), mask


class Described:
  """Clip i has i captions, `i a`, `i b`, ..; clip 0 has one that is empty."""
  classes = ('all',)

  def __init__(self, length):
    self._length = length

  def __len__(self):
    return self._length

  def __getitem__(self, index):
    captions = tuple(f'{index} {letter}' for letter in _LETTERS[:index]) or (
        '',)
    example = dict(video=np.full((5, 8, 8, 3), index, np.uint8), label=0,
                   caption=captions[0], fps=8.0, key=str(index))
    return example | (dict(captions=captions) if index > 1 else {})


_OPTIONS = batches.BatchOptions(
    video_rows=4, image_rows=4, num_frames=5, images_per_row=2, size=8, seed=3,
    num_threads=1)


def _shown(source, options, start=0, count=1, rows=None):
  """(first pixel, letter) of videos and of images of some batches."""
  iterator = batches.make_batches(
      source, options, tokenize=lambda texts: _tokenize(
          [text or 'a' for text in texts]), rows=rows)(start)
  videos, images = [], []
  for _ in range(count):
    batch = next(iterator)
    for found, own in ((videos, batch.videos), (images, batch.images)):
      clips = own.pixels[:, :own.label.shape[1], 0, 0, 0]
      found += zip(clips.ravel().tolist(),
                   map(chr, own.text_ids.ravel().tolist()), strict=True)
  return videos, images


class DrawnCaptionsTest(absltest.TestCase):

  def test_each_row_draws_one_of_its_clips_captions_evenly(self):
    videos, images = _shown(Described(5), _OPTIONS, count=400)
    for found in (videos, images):
      counts = collections.Counter(found)
      for clip in range(1, 5):
        own = [counts[clip, letter] for letter in _LETTERS]
        self.assertEqual(sum(map(bool, own)), clip)
        # Six standard deviations of a uniform draw.
        self.assertLess(max(own[:clip]) - sum(own) / clip,
                        6 * (sum(own) / clip) ** 0.5)
    # Images of a row draw by themselves, and not what the videos draw.
    pairs = list(zip(images[::2], images[1::2], strict=True))
    both = {(a[1], b[1]) for a, b in pairs if (a[0], b[0]) == (3, 4)}
    self.assertLen(both, 12)

  def test_a_draw_depends_on_seed_and_row_alone(self):
    source = Described(5)
    videos, images = _shown(source, _OPTIONS, count=6)
    later = _shown(source, _OPTIONS, start=3, count=3)
    self.assertEqual(later, (videos[12:], images[24:]))
    hosts = [_shown(source, _OPTIONS, count=1,
                    rows=lambda n, half=half: (half * n // 2,
                                               (half + 1) * n // 2))
             for half in (0, 1)]
    self.assertEqual([*hosts[0][0], *hosts[1][0]], videos[:4])
    self.assertEqual([*hosts[0][1], *hosts[1][1]], images[:8])

  def test_another_seed_draws_other_captions(self):
    class Last(Described):

      def __getitem__(self, index):
        return super().__getitem__(8)

    letters = [_shown(Last(1), dataclasses.replace(_OPTIONS, seed=seed),
                      count=3) for seed in (3, 4)]
    self.assertNotEqual(*letters)

  def test_evaluation_takes_the_first(self):
    options = dataclasses.replace(_OPTIONS, shuffle=False)
    videos, images = _shown(Described(5), options, count=3)
    self.assertEqual({letter for _, letter in videos + images}, {'a'})

  def test_several_captions_change_nothing_else(self):
    class Single(Described):

      def __getitem__(self, index):
        example = super().__getitem__(index)
        example.pop('captions', None)
        return example

    options = dataclasses.replace(_OPTIONS, num_frames=3, flip=True,
                                  random_crop=True, size=6)
    with_several, without = (next(batches.make_batches(source, options)(7))
                             for source in (Described(5), Single(5)))
    np.testing.assert_array_equal(with_several.videos.pixels,
                                  without.videos.pixels)
    np.testing.assert_array_equal(with_several.images.pixels,
                                  without.images.pixels)

  def test_mixtures_draw_too(self):
    source = mixture.Mixture([Described(3), Described(5)], [1, 1])
    videos, _ = _shown(source, _OPTIONS, count=50)
    self.assertEqual({letter for clip, letter in videos if clip == 4},
                     set('abcd'))


class StoredCaptionsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _prepare(self, lines):
    for name in sorted({line['file'] for line in lines}):
      video_files.write_video(self.root / 'in' / name)
    (self.root / 'in' / 'captions.jsonl').write_text(
        '\n'.join(map(json.dumps, lines)))
    return prepare.prepare(self.root / 'in', self.root / 'out',
                           prepare.Settings(size=16, min_frames=5,
                                            clip_frames=6, heldout=0))

  def test_a_clip_is_stored_once_with_all_its_captions(self):
    manifest = self._prepare([
        dict(file='a.avi', caption='one'), dict(file='b.avi'),
        dict(file='a.avi', caption='two'), dict(file='a.avi', caption='one')])
    self.assertEqual(manifest['captions'], dict(
        captions=4, clips_without=2, clips_with_several=2,
        matched_by_end=0))
    self.assertEqual(manifest['counts']['clips'], 4)
    dataset = dataset_lib.PreparedDataset(self.root / 'out')
    found = {dataset[row]['key']: (dataset[row]['caption'],
                                   dataset[row].get('captions'))
             for row in range(4)}
    self.assertEqual(found, {
        'a.avi#0': ('one', ('one', 'two')), 'a.avi#1': ('one', ('one', 'two')),
        'b.avi#0': ('', None), 'b.avi#1': ('', None)})

  def test_one_caption_is_stored_as_it_always_was(self):
    self._prepare([dict(file='a.avi', caption='caf\u00e9')])
    shard, = (self.root / 'out').glob('*.array_record*')
    from array_record.python import array_record_data_source
    records = array_record_data_source.ArrayRecordDataSource([str(shard)])
    self.assertEqual(
        sorted(examples.decode(records[0])),
        ['caption', 'fps', 'height', 'key', 'label', 'num_frames', 'video',
         'width'])
    features = json.loads((self.root / 'out' / 'features.json').read_text())
    self.assertNotIn('captions', features['content']['features'])

  @absltest.skipIf(tfds is None, 'TensorFlow Datasets is not installed.')
  def test_tfds_reads_all_captions(self):
    self._prepare([dict(file='a.avi', caption='one'),
                   dict(file='b.avi', caption='only'),
                   dict(file='a.avi', caption='two')])
    theirs = tfds.builder_from_directory(
        str(self.root / 'out')).as_data_source('train')
    self.assertEqual(
        [(theirs[row]['caption'], list(theirs[row]['captions']))
         for row in (0, 2)],
        [(b'one', [b'one', b'two']), (b'only', [b'only'])])
    ours = dataset_lib.PreparedDataset(self.root / 'out')
    again = tfds_source.TfdsSource(str(self.root / 'out'))
    self.assertEqual([again[row] for row in (0, 2)],
                     [ours[row] for row in (0, 2)])

  def test_latent_cache_keeps_the_states_of_all(self):
    def encode(pixels):
      mean = pixels[:, :1, ::8, ::8].astype(np.float32)
      return types.Posterior(mean=mean)

    settings = latent_cache.CacheSettings(
        tokenizer_sha256='ab', num_frames=5, size=8, text_sha256='cd')
    latent_cache.write_cache(
        {'train': Described(5)}, self.root / 'cache', settings, encode=encode,
        text=latent_cache.TextStates(
            lambda texts: _states([text or 'a' for text in texts])),
        batch_size=2)
    cache = latent_cache.LatentCache(self.root / 'cache',
                                     tokenizer_sha256='ab')
    self.assertEqual(cache[4]['captions'], Described(5)[4]['captions'])
    self.assertNotIn('text', cache[4])
    options = dataclasses.replace(_OPTIONS, images_per_row=1)
    iterator = batches.make_batches(cache, options)(0)
    found = {(int(mean[0, 0, 0, 0]), chr(int(text[0, 0, 0])))
             for batch in (next(iterator) for _ in range(60))
             for rows in (batch.videos, batch.images)
             for mean, text in zip(rows.posterior.mean, rows.text,
                                   strict=True)}
    self.assertEqual(found, {(0, 'a')} | {
        (clip, letter) for clip in range(1, 5) for letter in _LETTERS[:clip]})


if __name__ == '__main__':
  absltest.main()
