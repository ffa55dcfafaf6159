"""TensorFlow Datasets reads our sets, and we read its sets."""
import dataclasses
import io
import json
import pathlib
import pickle
import tempfile

from absl.testing import absltest
import numpy as np
from PIL import Image

from tests.data import video_files
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.data.sources import open
from walt_jax.data.sources import rates
from walt_jax.data.sources import tfds as tfds_lib
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.storage import examples
from walt_jax.data.storage import shards
from walt_jax.data.stream import batches

try:
  import tensorflow_datasets as tfds
except ImportError:
  tfds = None


def _write_set(folder, name, split, records, features):
  """A set as `tfds build` leaves it, of records {feature: value}."""
  folder.mkdir(parents=True)
  shards.write_records(
      folder / f'{name}-{split}.array_record-00000-of-00001',
      [examples.encode(record) for record in records])
  template = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
  (folder / 'dataset_info.json').write_text(json.dumps(dict(
      name=name, version=folder.name, fileFormat='array_record',
      splits=[dict(name=split, shardLengths=[str(len(records))],
                   filepathTemplate=template)])))
  (folder / 'features.json').write_text(json.dumps(features.to_json()))


def _jpeg(value, size=(30, 20)):
  out = io.BytesIO()
  image = np.full((size[1], size[0], 3), value, np.uint8)
  Image.fromarray(image).save(out, 'JPEG')
  return out.getvalue()


@absltest.skipIf(tfds is None, 'TensorFlow Datasets is not installed.')
class TfdsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def _prepare(self, output, codec):
    for number in range(3):
      video_files.write_video(self.root / 'in' / 'sit' / f'{number}.avi')
    prepare.prepare(self.root / 'in', output, prepare.Settings(
        size=16, min_frames=5, clip_frames=12, codec=codec))

  def test_reads_what_we_prepare(self):
    # Where `tfds.data_source('walt', data_dir=..)` looks, too.
    folder = self.root / 'walt' / '1.0.0'
    self._prepare(folder, 'png')
    ours = dataset_lib.PreparedDataset(folder, 'train')
    builder = tfds.builder_from_directory(str(folder))
    # What earlier versions wrote: a set's bytes do not change.
    info = json.loads((folder / 'dataset_info.json').read_text())
    self.assertEqual(info['moduleName'], 'walt_jax.data.prepare')
    self.assertEqual(builder.info.features['label'].names, ['sit'])
    self.assertEqual(builder.info.splits['train'].num_examples, 2)
    for theirs in (builder.as_data_source('train'),
                   tfds.data_source('walt', split='train',
                                    data_dir=str(self.root))):
      self.assertLen(theirs, 2)
      for row in range(2):
        example = theirs[row]
        np.testing.assert_array_equal(
            example['video'], codecs.decode_frames(ours[row]['encoded']))
        self.assertEqual(example['label'], 0)
        self.assertEqual(example['fps'], 10)
        self.assertEqual(example['caption'].decode(), 'sit')
        self.assertEqual(example['key'].decode(), ours[row]['key'])
    again = tfds_lib.TfdsSource(str(folder))
    self.assertEqual(again[1], ours[1])

  def test_reads_stored_video_as_bytes(self):
    self._prepare(self.root / 'out', 'h264')
    theirs = tfds.builder_from_directory(
        str(self.root / 'out')).as_data_source('heldout')
    ours = dataset_lib.PreparedDataset(self.root / 'out', 'heldout')
    self.assertEqual(theirs[0]['video'], ours[0]['video_file'])
    self.assertEqual(theirs[0]['num_frames'], 12)

  def test_reads_ucf101(self):
    features = tfds.features.FeaturesDict(dict(
        video=tfds.features.Video((None, 256, 256, 3), encoding_format='jpeg'),
        label=tfds.features.ClassLabel(num_classes=101)))
    records = [dict(video=[_jpeg(10 * row + t) for t in range(20)],
                    label=np.array([row], np.int64)) for row in range(3)]
    _write_set(self.root / 'ucf101' / 'ucf101_1_256' / '2.0.0', 'ucf101',
               'test', records, features)
    source = pickle.loads(pickle.dumps(tfds_lib.TfdsSource(
        'ucf101/ucf101_1_256:2.0.0', 'heldout', str(self.root))))
    self.assertLen(source.classes, 101)
    example = source[2]
    self.assertEqual(example['label'], 2)
    self.assertEqual(example['fps'], 25)
    self.assertLen(example['encoded'], 20)
    options = batches.BatchOptions(video_rows=2, size=16, shuffle=False)
    batch = next(batches.make_batches(source, options)(1))
    self.assertEqual(batch.videos.pixels.shape, (2, 17, 16, 16, 3))
    np.testing.assert_allclose(batch.videos.pixels[0, 0], 21, atol=2)

  def test_the_rate_of_another_set_is_not_known(self):
    features = tfds.features.FeaturesDict(dict(
        video=tfds.features.Video((None, 20, 30, 3), encoding_format='jpeg'),
        label=tfds.features.ClassLabel(num_classes=2)))
    records = [dict(video=[_jpeg(9 * t) for t in range(20)],
                    label=np.array([0], np.int64)) for _ in range(2)]
    _write_set(self.root / 'others' / '1.0.0', 'others', 'train', records,
               features)
    source = tfds_lib.TfdsSource(str(self.root / 'others' / '1.0.0'))
    self.assertIsNone(source[0]['fps'])
    self.assertIsNone(rates.of_source(source))
    options = batches.BatchOptions(video_rows=1, size=16, shuffle=False)
    next(batches.make_batches(source, options)(0))  # Neighbours have no rate.
    with self.assertRaisesRegex(ValueError, 'none at 8 frames/s .* to 0'):
      batches.make_batches(source, dataclasses.replace(options, fps=8.0))

  def test_reads_imagenet(self):
    features = tfds.features.FeaturesDict(dict(
        image=tfds.features.Image(encoding_format='jpeg'),
        label=tfds.features.ClassLabel(num_classes=1000),
        file_name=tfds.features.Text()))
    records = [dict(image=[_jpeg(50 + row)], file_name=[b'n1_%d.JPEG' % row],
                    label=np.array([row], np.int64)) for row in range(4)]
    _write_set(self.root / 'imagenet2012' / '5.1.0', 'imagenet2012',
               'train', records, features)
    source = open.open_source(f'tfds:imagenet2012:5.1.0@{self.root}',
                                 'train')
    self.assertEqual(source[3]['key'], 'n1_3.JPEG')
    options = batches.BatchOptions(video_rows=0, image_rows=2, num_frames=1,
                                    images_per_row=2, size=16, shuffle=False)
    batch = next(batches.make_batches(source, options)(0))
    self.assertEqual(batch.images.pixels.shape, (2, 2, 16, 16, 3))
    self.assertEqual(batch.images.label.tolist(), [[0, 1], [2, 3]])

  def test_says_how_to_make_what_is_missing(self):
    with self.assertRaisesRegex(
        errors.UserError, 'tfds build imagenet2012 --file_format=array_record '
        f'--data_dir={self.root}'):
      tfds_lib.TfdsSource('imagenet2012', 'train', str(self.root))
    with self.assertRaisesRegex(errors.UserError, 'no TFDS set'):
      tfds_lib.TfdsSource('no_such_set', 'train', str(self.root))


class OpeningTest(absltest.TestCase):

  def test_mixes_folders(self):
    with tempfile.TemporaryDirectory() as root:
      root = pathlib.Path(root)
      for name in ('a', 'b'):
        video_files.write_video(root / name / 'sit' / '0.avi')
        video_files.write_video(root / name / 'sit' / '1.avi')
        prepare.prepare(root / name, root / f'out_{name}', prepare.Settings(
            size=16, min_frames=5, clip_frames=12))
      path = f'{root}/out_a, {root}/out_b'
      self.assertLen(open.open_source(path, 'train', (3, 1)), 2)
      with self.assertRaisesRegex(errors.UserError, '2 data sets but 3'):
        open.open_source(path, 'train', (1, 1, 1))
      with self.assertRaisesRegex(errors.UserError, 'weights: .*positive'):
        open.open_source(path, 'train', (1, 0))
    with self.assertRaisesRegex(errors.UserError, 'walt data prepare'):
      open.open_source('/nowhere', 'train')


if __name__ == '__main__':
  absltest.main()
