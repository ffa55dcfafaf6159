"""The `data` section of a config: what it opens, and what it refuses."""
import dataclasses
import itertools
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from walt_jax.builders import config as config_lib
from walt_jax.builders import datasets
from walt_jax.builders import schema
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.data import latent_cache
from walt_jax.data import render
from walt_jax.data.storage import caption_counts
from walt_jax.parallel import mesh as mesh_lib

_CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


class Filled:
  """Clip i is filled with `first` + i."""

  def __init__(self, count, shape=(6, 16, 16), first=0, classes=('a',)):
    self.classes = classes
    self._count, self._shape, self._first = count, shape, first

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    return dict(
        video=np.full((*self._shape, 3), self._first + index, np.uint8),
        label=index % len(self.classes), caption=f'{self._first + index}',
        fps=8.0, key=str(index))


def _write(folder, **splits):
  render.write_sources(splits, folder, dict(seed=0), codec='png')
  return str(folder)


def _load(spec, **changed):
  name, colon, variant = spec.partition(':')
  values = dict(
      data__name='clips', data__batch_size=10, data__image_rows=0,
      data__num_frames=5, data__height=16, data__width=16, data__flip=False,
      data__random_crop=False, data__num_workers=0, data__frame_rate=0.0,
      train__eval_every=1, train__eval_batches=1) | changed
  return schema.of(config_lib.load(
      f'{_CONFIGS / name}.py{colon}{variant}',
      [(key.replace('__', '.'), str(value)) for key, value in values.items()]))


class DataTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.small = _write(root / 'small', train=Filled(4), heldout=Filled(2))
    cls.large = _write(
        root / 'large', train=Filled(12, first=100, classes=('b', 'a')),
        heldout=Filled(3, first=200, classes=('b', 'a')))
    cls.images = _write(
        root / 'images', train=Filled(5, (1, 16, 16), 50, ('c', 'a')),
        heldout=Filled(1, (1, 16, 16), 70, ('c', 'a')))
    cls.wide = _write(root / 'wide', train=Filled(4, (6, 16, 32), first=150))
    cls.root = root
    cls.mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])

  def _batches(self, config, count, tokenizer_sha256=''):
    data = datasets.source(config, datasets.TRAIN, tokenizer_sha256)
    start = datasets.train_batches(config, self.mesh, data, None)
    return list(itertools.islice(start(0), count))

  def test_sets_are_mixed_by_weight(self):
    config = _load('ucf101:smoke', data__path=f'{self.small}, {self.large}',
                   data__weights=(0.7, 0.3))
    shown = np.concatenate([
        batch.videos.pixels[:, 0, 0, 0, 0] for batch in
        self._batches(config, 100)])
    self.assertEqual((shown < 100).sum(), 700)
    self.assertEqual(set(shown), {0, 1, 2, 3, *range(100, 112)})
    data = datasets.source(config, datasets.TRAIN)
    self.assertEqual(data.classes, ('a', 'b'))
    batch = self._batches(config, 1)[0].videos
    for value, label in zip(batch.pixels[:, 0, 0, 0, 0], batch.label[:, 0],
                            strict=True):
      # Of the second set, even clips are 'b'.
      self.assertEqual(label, int(value >= 100 and value % 2 == 0))
    with self.assertRaisesRegex(errors.UserError, '2 data sets but 3 weights'):
      datasets.source(_load('ucf101:smoke', data__weights=(1, 1, 1),
                            data__path=f'{self.small},{self.large}'), 'train')

  def test_a_mixed_set_without_a_held_out_split_gives_none(self):
    config = _load('ucf101:smoke', data__path=f'{self.small},{self.images}',
                   data__num_frames=1)
    held_out = datasets.source(config, datasets.HELD_OUT)
    batch, = datasets.held_out_batches(config, self.mesh, held_out, None)
    self.assertEqual(set(batch.videos.pixels[:, 0, 0, 0, 0]), {0, 1, 70})

  def test_images_may_come_from_a_set_of_their_own(self):
    config = _load('ucf101:smoke', data__path=self.large,
                   data__image_path=self.images, data__image_rows=4)
    batch, = self._batches(config, 1)
    self.assertEqual(batch.videos.pixels.shape, (6, 5, 16, 16, 3))
    self.assertEqual(batch.images.pixels.shape, (4, 5, 16, 16, 3))
    self.assertGreaterEqual(batch.videos.pixels.min(), 100)
    shown = batch.images.pixels[..., 0, 0, 0]
    self.assertEqual(set(shown.flat), set(range(50, 55)))
    classes = datasets.source(config, datasets.TRAIN).classes
    self.assertEqual(classes, ('b', 'a', 'c'))
    np.testing.assert_array_equal(batch.images.label,
                                  np.where(shown % 2, 1, 2))
    with self.assertRaisesRegex(errors.UserError, 'data.image_rows'):
      datasets.source(_load('ucf101:smoke', data__path=self.large,
                            data__image_path=self.images), 'train')

  def test_strides_reach_the_pipeline(self):
    config = _load('ucf101:smoke', data__path=self.small, data__num_frames=3,
                   data__strides='(2, 9)')
    self.assertLen(self._batches(config, 1), 1)
    with self.assertRaisesRegex(errors.UserError, 'None of the 4 clips'):
      self._batches(_load('ucf101:smoke', data__path=self.small,
                          data__strides='(2, 9)'), 1)
    with self.assertRaisesRegex(errors.UserError, 'data.strides is .0.5,'):
      self._batches(_load('ucf101:smoke', data__path=self.small,
                          data__strides='(0.5,)'), 1)

  def test_a_tokenizer_trains_on_aspect_buckets(self):
    config = _load('tokenizer_video:smoke',
                   data__path=f'{self.small},{self.wide}',
                   data__buckets='((16, 16), (16, 32))')
    self.assertEqual(datasets.shapes(config), ((16, 16), (16, 32)))
    counts = {16: 0, 32: 0}
    for batch in self._batches(config, 100):
      width = batch.videos.pixels.shape[3]
      counts[width] += 1
      wide = batch.videos.pixels[:, 0, 0, 0, 0] >= 150
      self.assertTrue((wide == (width == 32)).all())
    self.assertBetween(counts[16], 35, 65)
    # Figures of evaluations are of one shape.
    held_out = datasets.source(
        _load('tokenizer_video:smoke', data__path=self.small),
        datasets.HELD_OUT)
    batch, = datasets.held_out_batches(config, self.mesh, held_out, None)
    self.assertEqual(batch.videos.pixels.shape[2:4], (16, 16))
    with self.assertRaisesRegex(errors.UserError, 'data.buckets is .16, 16'):
      datasets.shapes(_load('tokenizer_video:smoke', data__path=self.small,
                            data__buckets='(16, 16)'))

  def test_a_denoiser_has_one_shape(self):
    config = _load('ucf101:smoke', data__path=self.small)
    with self.assertRaisesRegex(errors.UserError, 'one shape of latents'):
      dataclasses.replace(config, data=dataclasses.replace(
          config.data, buckets=((16, 16), (16, 32))))

  @pytest.mark.slow
  def test_sets_of_tensorflow_datasets(self):
    config = _load('ucf101:smoke',
                   data__path=f'{self.small},tfds:{self.large}')
    data = datasets.source(config, datasets.HELD_OUT)
    self.assertEqual((len(data), data.classes), (5, ('a', 'b')))
    with self.assertRaisesRegex(errors.UserError, 'tfds build nothing'):
      datasets.source(_load('ucf101:smoke', data__path='tfds:nothing'),
                      'train')

  def test_moving_digits_need_no_keys(self):
    data = datasets.source(_load('ucf101:smoke', data__name='moving_digits'),
                           datasets.TRAIN)
    self.assertLen(data, 2048)
    self.assertLen(data.classes, 40)

  def test_an_empty_split_is_told(self):
    config = _load('ucf101:smoke', data__path=self.wide)
    with self.assertRaisesRegex(errors.UserError, "no split 'heldout'"):
      datasets.source(config, datasets.HELD_OUT)
    empty = _write(self.root / 'empty', train=Filled(4), heldout=Filled(0))
    config = _load('ucf101:smoke', data__path=empty)
    held_out = datasets.source(config, datasets.HELD_OUT)
    with self.assertRaisesRegex(errors.UserError, '--heldout 0.1'):
      datasets.held_out_batches(config, self.mesh, held_out, None)
    config = _load('ucf101:smoke', data__path=empty, train__eval_every=0)
    self.assertEmpty(
        datasets.held_out_batches(config, self.mesh, held_out, None))

  @parameterized.parameters(
      ('ucf101', '--input VIDEOS --output DIR$'),
      ('k600', '--input VIDEOS --output DIR$'),
      ('imagenet256', '--input IMAGES --output DIR --num_frames 1 --size 256'),
      ('tokenizer_image', '--input IMAGES .*--num_frames 1 --size 256$'),
      ('t2v_base', '--output DIR --fps 8 --annotations CAPTIONS$'),
      ('t2v_sr2', '--output DIR --fps 8 --size 512'),
      ('quickstart:sr1', 'prepare --latents --workdir TOKENIZER --input DATA '
       '--output DIR --height 64 --width 64 --low_res_factor 2$'))
  def test_missing_data_name_the_command_that_makes_them(self, spec, command):
    name, colon, variant = spec.partition(':')
    config = schema.of(
        config_lib.load(f'{_CONFIGS / name}.py{colon}{variant}'))
    with self.assertRaisesRegex(errors.UserError, command):
      datasets.source(config, datasets.TRAIN)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, path='/no/where'))
    with self.assertRaisesRegex(
        errors.UserError, "'/no/where' holds no prepared data.*walt data "
        'prepare .*--output /no/where'):
      datasets.source(config, datasets.TRAIN)

  @parameterized.parameters('clips', 'latents')
  def test_raw_files_are_never_proposed_as_the_output(self, name):
    raw = self.root / f'my {name}'
    raw.mkdir()
    (raw / 'a.mp4').write_bytes(b'x')
    config = _load('ucf101:smoke', data__name=name, data__path=str(raw))
    with self.assertRaises(errors.UserError) as caught:
      datasets.source(config, datasets.TRAIN)
    message = str(caught.exception)
    self.assertIn(f"--input '{raw}' --output '{raw}_prepared'", message)
    self.assertRegex(message, 'and give --config.data.path=.*_prepared')

  def test_a_latent_cache_must_hold_what_the_config_wants(self):
    cache = str(self.root / 'cache')
    latent_cache.write_cache(
        dict(train=Filled(3), heldout=Filled(2)), cache,
        latent_cache.CacheSettings('ab', num_frames=5, size=16),
        encode=lambda pixels: types.Posterior(
            mean=pixels[:, ::4, ::4, ::4], logvar=None))
    ours = dict(data__name='latents', data__path=cache, latents__frames=2,
                latents__height=4, latents__width=4, latents__channels=3)
    opened = datasets.source(_load('ucf101:smoke', **ours), 'train', 'ab')
    self.assertLen(opened, 3)
    for message, changed in (
        ('holds latents of 2 x 4 x 4 x 3, but config section latents says 2 x '
         '8 x 4 x 3', dict(latents__height=8)),
        ('no low-resolution latents', dict(model__low_res_factor=2,
                                            model__use_noise_level=True)),
        ('no text states', dict(
            text__name='minilm', text__max_tokens=8, text__width=384))):
      with self.assertRaisesRegex(errors.UserError, message):
        datasets.source(_load('ucf101:smoke', **ours | changed), 'train', 'ab')
    with self.assertRaisesRegex(errors.UserError, 'flipped'):
      self._batches(_load('ucf101:smoke', **ours | dict(data__flip=True)), 1,
                    'ab')
    with self.assertRaisesRegex(errors.UserError, 'trains on pixels'):
      _load('tokenizer_video:smoke', data__name='latents', data__path=cache)

  def test_captions_that_a_latent_cache_has_cut_are_told(self):
    def embed(texts):
      return (np.zeros((len(texts), 8, 384), np.float32),
              np.ones((len(texts), 8), bool))

    cache = str(self.root / 'cut')
    latent_cache.write_cache(
        dict(train=Filled(5), heldout=Filled(2)), cache,
        latent_cache.CacheSettings('ab', num_frames=5, size=16,
                                   text_sha256='cd'),
        encode=lambda pixels: types.Posterior(mean=pixels[:, ::4, ::4, ::4]),
        text=latent_cache.TextStates(embed, caption_counts.CaptionLimit(
            'minilm', 8, lambda caption: caption > '2')))
    ours = dict(data__name='latents', data__path=cache, latents__frames=2,
                latents__height=4, latents__width=4, latents__channels=3)
    with self.assertLogs('walt_jax', 'WARNING') as logs:
      datasets.source(_load(
          'ucf101:smoke', text__name='minilm', text__max_tokens=8,
          text__width=384, **ours), 'train', 'ab')
    self.assertRegex(logs.output[0], 'cut: 2 of 7 captions .* 8 tokens')
    with self.assertNoLogs('walt_jax'):
      datasets.source(_load('ucf101:smoke', **ours), 'train', 'ab')


if __name__ == '__main__':
  absltest.main()
