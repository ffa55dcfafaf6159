"""The files that make a prepared set readable by TensorFlow Datasets.

  tfds.builder_from_directory(DIR).as_data_source('train')

Written without TFDS, whose features need TensorFlow to be described.
"""
import json
from typing import Any

from walt_jax.data.storage import codecs
from walt_jax.data.storage import shards

VERSION = '1.0.0'
_FEATURES = 'tensorflow_datasets.core.features.'


def write(unfinished: shards.Unfinished, name: str, codec: str,
          classes: list[str], splits: dict[str, dict], *,
          list_captions: bool = False) -> None:
  """Writes features.json, dataset_info.json and label.labels.txt.

  Args:
    unfinished: The set.
    name: First part of the names of its shards.
    codec: How clips are stored.
    classes: Names by label id.
    splits: The manifest's splits.
    list_captions: Whether records hold a list of captions, too.
  """
  for file, content in (
      ('features.json', _features(codec, len(classes), list_captions)),
      ('dataset_info.json', _info(name, splits))):
    unfinished.write(file, (json.dumps(content, indent=1) + '\n').encode())
  lines = [' '.join(name.split()) for name in classes]  # A line each.
  unfinished.write('label.labels.txt', '\n'.join(lines).encode(
      'utf-8', 'backslashreplace'))


def _scalar(dtype: str) -> dict[str, Any]:
  return dict(pythonClassName=f'{_FEATURES}scalar.Scalar',
              tensor=dict(shape={}, dtype=dtype, encoding='none'))


def _features(codec: str, num_classes: int,
              list_captions: bool) -> dict[str, Any]:
  if codec in codecs.FRAME_CODECS:
    video = dict(
        pythonClassName=f'{_FEATURES}video_feature.Video',
        video=dict(shape=dict(dimensions=['-1', '-1', '-1', '3']),
                   dtype='uint8', encodingFormat=codec))
  else:  # The bytes of a file.
    video = _scalar('string')
  text = dict(pythonClassName=f'{_FEATURES}text_feature.Text', text={})
  label = dict(pythonClassName=f'{_FEATURES}class_label_feature.ClassLabel',
               classLabel=dict(numClasses=str(num_classes)))
  features = dict(
      video=video, label=label, caption=text, key=text,
      fps=_scalar('float32'), num_frames=_scalar('int64'),
      height=_scalar('int64'), width=_scalar('int64'))
  if list_captions:
    features['captions'] = dict(
        pythonClassName=f'{_FEATURES}sequence_feature.Sequence',
        sequence=dict(feature=text, length='-1'))
  return dict(
      type=f'{_FEATURES}features_dict.FeaturesDict',
      proto_cls='tensorflow_datasets.FeaturesDict',
      content=dict(features=features))


def _info(name: str, splits: dict[str, dict]) -> dict[str, Any]:
  return dict(
      name=name, version=VERSION, fileFormat='array_record',
      description='Clips prepared by walt_jax.',
      moduleName='walt_jax.data.prepare',  # Part of a set's bytes: stays.
      splits=[dict(
          name=split,
          filepathTemplate='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
          shardLengths=[str(s['num_examples']) for s in entry['shards']],
          numBytes=str(sum(s['bytes'] for s in entry['shards'])))
          for split, entry in splits.items() if entry['shards']])
