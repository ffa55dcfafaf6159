"""The latent cache: what was encoded is what is read, for one tokenizer."""
import concurrent.futures
import dataclasses
import functools
import pathlib
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
import numpy as np

from walt_jax.core import errors
from walt_jax.core import pixels as pixels_lib
from walt_jax.core import types
from walt_jax.data import latent_cache
from walt_jax.data.sources import moving_digits
from walt_jax.data.storage import caption_counts
from walt_jax.data.storage import example_index
from walt_jax.data.stream import batches


def _encode(pixels):
  """A stand-in for a causal tokenizer: 4 frames and 8x8 pixels a latent."""
  groups = np.concatenate([pixels[:, :1]] * 3 + [pixels], axis=1)
  b, t, h, w, c = groups.shape
  mean = groups.reshape(b, t // 4, 4, h // 8, 8, w // 8, 8, c).mean((2, 4, 6))
  return types.Posterior(mean=mean / 128 - 1, logvar=-mean / 64)


def _embed(texts):
  states = np.zeros((len(texts), 6, 4), np.float32)
  mask = np.zeros((len(texts), 6), bool)
  for row, text in enumerate(texts):
    words = text.split()
    mask[row, :len(words)] = True
    states[row, :len(words), 0] = [len(word) for word in words]
  return states, mask


_TEXT = latent_cache.TextStates(_embed, caption_counts.CaptionLimit(
    'words', 3, lambda caption: len(caption.split()) > 3))
_SETTINGS = latent_cache.CacheSettings(
    tokenizer_sha256='ab' * 32, num_frames=9, size=(32, 32), low_res_factor=2,
    images_per_clip=2, text_sha256='cd' * 32)
_ALONE = latent_cache.Processes()


class LatentCacheTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'cache'
    self.splits = {
        'train': moving_digits.MovingDigits(num_examples=11, num_frames=9),
        'heldout': moving_digits.MovingDigits(split='heldout', num_examples=3,
                                              num_frames=9)}

  def _write(self, encode=_encode, settings=_SETTINGS,
             processes=_ALONE):
    return latent_cache.write_cache(
        self.splits, self.path, settings, encode=encode, text=_TEXT,
        batch_size=4, clips_per_shard=5, processes=processes)

  def _open(self, split='train', **kwargs):
    return latent_cache.LatentCache(
        self.path, split, tokenizer_sha256='ab' * 32, **kwargs)

  def test_reads_what_was_encoded(self):
    manifest = self._write()
    # 'a seven moves left': four words of which the encoder reads three.
    self.assertEqual(manifest['captions'], dict(
        captions=14, clips_without=0, clips_with_several=0, cut=14))
    self.assertEqual(manifest['caption_limit'],
                     dict(encoder='words', max_tokens=3))
    for split, source in self.splits.items():
      cache = self._open(split)
      self.assertLen(cache, len(source))
      self.assertEqual(cache.classes, source.classes)
      for index in range(len(source)):
        got, example = cache[index], source[index]
        video = example['video'][None]
        near = dict(rtol=2**-8)  # bfloat16.
        want = _encode(video)
        np.testing.assert_allclose(got['mean'], want.mean[0], **near)
        np.testing.assert_allclose(got['logvar'], want.logvar[0], **near)
        low = _encode(pixels_lib.downsample(video, 2))
        np.testing.assert_allclose(got['low_mean'], low.mean[0], **near)
        last = _encode(video[:, -1:])
        self.assertEqual(got['image_mean'].shape, (2, 4, 4, 3))
        np.testing.assert_allclose(got['image_mean'][1], last.mean[0, 0],
                                   **near)
        states, mask = _embed([example['caption']])
        np.testing.assert_allclose(got['text'], states[0], **near)
        np.testing.assert_array_equal(got['text_mask'], mask[0])
        for name in ('label', 'caption', 'fps', 'key'):
          self.assertEqual(got[name], example[name])

  def test_a_rate_that_is_not_known_stays_so(self):
    read = moving_digits.MovingDigits.__getitem__
    with mock.patch.object(
        moving_digits.MovingDigits, '__getitem__', autospec=True,
        side_effect=lambda *args: read(*args) | dict(fps=None)):
      self._write()
    self.assertIsNone(self._open()[0]['fps'])

  def test_distinct_captions_are_stored_once_a_shard(self):
    self.splits['train'] = moving_digits.MovingDigits(num_examples=90,
                                                      num_frames=9)
    manifest = latent_cache.write_cache(
        self.splits, self.path, _SETTINGS, encode=_encode, text=_TEXT,
        batch_size=8)
    self.assertEqual(manifest['splits']['train']['text'][0]['num_examples'], 40)

  def test_feeds_the_pipeline(self):
    self._write()
    options = batches.BatchOptions(video_rows=2, image_rows=3,
                                    images_per_row=3, shuffle=False)
    batch = next(batches.make_batches(self._open(), options)(0))
    self.assertIsNone(batch.videos.pixels)
    self.assertEqual(batch.videos.posterior.mean.shape, (2, 3, 4, 4, 3))
    self.assertEqual(batch.videos.low_res.logvar.shape, (2, 3, 2, 2, 3))
    self.assertEqual(batch.videos.text.shape, (2, 1, 6, 4))
    self.assertEqual(batch.images.posterior.mean.shape, (3, 3, 4, 4, 3))
    self.assertEqual(batch.images.low_res.mean.shape, (3, 3, 2, 2, 3))
    self.assertEqual(batch.images.text_mask.shape, (3, 3, 6))
    first = _encode(self.splits['train'][0]['video'][None, :1]).mean[0, 0]
    np.testing.assert_allclose(batch.images.posterior.mean[0, 0], first,
                               rtol=2**-8)
    flips = batches.BatchOptions(video_rows=1, flip=True)
    with self.assertRaisesRegex(ValueError, 'cannot be flipped'):
      next(batches.make_batches(self._open(), flips)(0))

  def test_refuses_another_tokenizer_and_text_encoder(self):
    self._write()
    with self.assertRaisesRegex(errors.UserError, 'tokenizer abab.*not by 12'):
      latent_cache.LatentCache(self.path, tokenizer_sha256='12' * 32)
    with self.assertRaisesRegex(errors.UserError, 'text encoder cdcd'):
      self._open(text_sha256='12' * 32)
    with self.assertRaisesRegex(errors.UserError, "no split 'test'"):
      self._open('test')

  def test_takes_up_interrupted_work_and_does_nothing_when_done(self):
    calls = []

    def failing(pixels):
      calls.append(len(pixels))
      if len(calls) == 14:  # In the second of four shards.
        raise KeyboardInterrupt
      return _encode(pixels)

    with self.assertRaises(KeyboardInterrupt):
      self._write(failing)
    self.assertFalse((self.path / 'manifest.json').exists())
    calls.clear()
    self._write(lambda pixels: calls.append(0) or _encode(pixels))
    self.assertLen(calls, 6 * 6 - 2 * 6)  # Not the first shard again.
    before = {p.name: p.read_bytes() for p in self.path.iterdir()}
    self._write(encode=None)  # Not called.
    elsewhere = self.path
    self.path = self.path.with_name('again')
    self._write()
    after = {p.name: p.read_bytes() for p in self.path.iterdir()}
    self.assertEqual(before, after)
    self.path = elsewhere
    with self.assertRaisesRegex(errors.UserError, 'other settings'):
      self._write(settings=latent_cache.CacheSettings(
          tokenizer_sha256='ef' * 32, num_frames=9, size=32,
          text_sha256='cd' * 32))

  def test_processes_share_the_shards(self):
    self._write()
    alone = {p.name: p.read_bytes() for p in self.path.iterdir()}
    self.path = self.path.with_name('shared')
    write = functools.partial(
        latent_cache.write_cache, self.splits, self.path, _SETTINGS,
        encode=_encode, text=_TEXT, batch_size=4, clips_per_shard=5)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
      jobs = [pool.submit(
          write, processes=latent_cache.Processes(number, 3))
              for number in range(3)]
      manifests = [job.result() for job in jobs]
    self.assertIsNotNone(manifests[0])
    self.assertEqual(manifests[1:], [None, None])
    self.assertEqual({p.name: p.read_bytes() for p in self.path.iterdir()},
                     alone)

  def test_a_process_that_is_lost_is_named(self):
    first = latent_cache.Processes(
        0, 2, silence_seconds=0.5, start_seconds=0.5)
    with self.assertRaisesRegex(errors.UserError, (
        r'process 1 of 2 has not come within 0.5 s, and shard 1 of 4 .* is '
        'missing .*run the same command on every host again')):
      self._write(processes=first)
    sign = self.path / '.unfinished' / 'process-000001'
    timer = threading.Timer(0.5, sign.write_bytes, [b'its only one'])
    timer.start()
    with self.assertRaisesRegex(
        errors.UserError, 'process 1 of 2 has been silent for 0.5 s'):
      self._write(processes=dataclasses.replace(first, start_seconds=20.0))
    timer.join()
    # What it left is no sign of life.
    with self.assertRaisesRegex(errors.UserError, 'has not come'):
      self._write(processes=first)
    self.assertIsNone(self._write(processes=latent_cache.Processes(1, 2)))
    self.assertIsNotNone(self._write(processes=first))

  def test_who_waits_sees_a_process_that_works_for_long(self):
    def slowly(pixels):
      time.sleep(0.2)
      return _encode(pixels)

    limits = dict(silence_seconds=0.4, start_seconds=5.0)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      first = pool.submit(
          self._write, processes=latent_cache.Processes(0, 2, **limits))
      second = pool.submit(
          self._write, slowly, processes=latent_cache.Processes(1, 2, **limits))
      self.assertIsNone(second.result())
      self.assertIsNotNone(first.result())

  def test_what_killed_runs_left_goes(self):
    folder = self.path / '.unfinished'
    with self.assertRaisesRegex(errors.UserError, 'has not come'):
      self._write(processes=latent_cache.Processes(0, 2, start_seconds=0.1))
    own, other = ('.000003.records.partial-a', '.000002.records.partial-b')
    for name in (own, other):
      (folder / name).write_bytes(b'half')
    self.assertIsNone(self._write(processes=latent_cache.Processes(1, 2)))
    self.assertFalse((folder / own).exists())
    # Another process may be writing it.
    self.assertTrue((folder / other).exists())
    self._write(processes=latent_cache.Processes(0, 2))
    self.assertFalse(folder.exists())

  def test_names_the_clips_that_are_too_short(self):

    class Uneven(moving_digits.MovingDigits):
      """Says of two clips that they are short."""

      @property
      def index(self):
        table = np.zeros(len(self), example_index.DTYPE)
        table['num_frames'], table['fps'] = 9, 8.0
        table['num_frames'][[1, 4]] = 8
        return table

    self.splits['train'] = Uneven(num_examples=11, num_frames=9)
    with self.assertLogs('walt_jax', 'WARNING'):
      manifest = self._write()
    self.assertEqual(manifest['left_out'],
                     dict(train=['train-000001', 'train-000004'], heldout=[]))
    cache = self._open()
    self.assertLen(cache, 9)
    self.assertEqual([cache[row]['key'] for row in range(3)],
                     ['train-000000', 'train-000002', 'train-000003'])
    long = dataclasses.replace(_SETTINGS, num_frames=10)
    self.path = self.path.with_name('long')
    with self.assertRaisesRegex(errors.UserError, 'None of the 11 clips'):
      self._write(settings=long)


if __name__ == '__main__':
  absltest.main()
