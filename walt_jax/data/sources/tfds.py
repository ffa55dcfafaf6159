"""Sets prepared by TensorFlow Datasets, such as `ucf101` and `imagenet2012`.

Examples are read through `tfds.data_source`'s random access, and taken apart
here: only the frames that are shown get decoded, and no TensorFlow runs.
"""
import functools
import pathlib

from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.data.storage import examples
from walt_jax.data.storage import names as names_lib

# Rates of sets that do not say theirs, frames/s.
_RATES = {'ucf101': 25.0}
# What TFDS calls the split that is not trained on.
_HELD_OUT_NAMES = (names_lib.HELD_OUT, 'validation', 'test')
_MEDIA = ('video', 'image')


class TfdsSource:
  """One split of a TFDS set that is stored as ArrayRecord.

  Attributes:
    classes: Names by label id.
  """

  def __init__(self, name: str, split: str = 'train',
               data_dir: str | None = None):
    """Opens a split.

    Args:
      name: Such as 'ucf101/ucf101_1_256', or the folder of a set.
      split: A split of TFDS; 'heldout' is its validation or test split.
      data_dir: TFDS's folder of sets; None is its default.

    Raises:
      errors.UserError: The set is not there, or not stored as ArrayRecord.
    """
    self._name, self._data_dir = name, data_dir
    self._split = split
    info = self._builder.info
    if split == names_lib.HELD_OUT:
      self._split = next((held_out for held_out in _HELD_OUT_NAMES
                          if held_out in info.splits), split)
    if self._split not in info.splits:
      raise errors.UserError(
          f'{name!r} has no split {split!r} on disk: it has '
          f'{", ".join(info.splits) or "none"}; {self._fix()}')
    features = info.features
    self._media = next((key for key in _MEDIA if key in features), '')
    if not self._media or 'label' not in features:
      raise errors.UserError(
          f'{name!r} holds {", ".join(features)}: a video or an image, and a '
          'label are needed')
    self.classes = tuple(features['label'].names)
    self._rate = _RATES.get(info.name)
    self._length = len(self._records)

  def _fix(self) -> str:
    where = f' --data_dir={self._data_dir}' if self._data_dir else ''
    return ('make it with: tfds build '
            f'{self._name} --file_format=array_record{where}')

  @functools.cached_property
  def _builder(self):
    with extras.needed(
        'data', f'reading {self._name!r}', 'TensorFlow Datasets'):
      import tensorflow_datasets as tfds
    try:
      if (pathlib.Path(self._name) / 'features.json').is_file():
        return tfds.builder_from_directory(self._name)
      return tfds.builder(self._name, data_dir=self._data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError,
            AssertionError) as error:
      reason = str(error).strip().splitlines()[0]
      raise errors.UserError(
          f'no TFDS set {self._name!r} ({reason}); {self._fix()}') from error

  @functools.cached_property
  def _records(self):
    import tensorflow_datasets as tfds
    try:
      return self._builder.as_data_source(
          self._split,
          deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    except (NotImplementedError, ValueError, AssertionError,
            FileNotFoundError) as error:
      raise errors.UserError(
          f'the TFDS set {self._name!r} cannot be read at random; '
          f'{self._fix()}') from error

  def __getstate__(self):  # Open files do not travel to worker processes.
    return {name: value for name, value in self.__dict__.items()
            if name not in ('_builder', '_records')}

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> dict:
    if not 0 <= index < self._length:
      raise IndexError(f'Example {index} of {self._length}.')
    features = examples.decode(self._records[index])
    label = int(features['label'][0])
    caption = names_lib.spaced(self.classes[label])
    for name in ('caption', 'text'):
      if features.get(name):
        caption = features[name][0].decode('utf-8', 'replace')
    rate = self._rate
    if 'fps' in features:
      rate = float(features['fps'][0]) or None
    key = f'{self._split}-{index:08d}'
    for name in ('key', 'file_name'):
      if features.get(name):
        key = features[name][0].decode('utf-8', 'surrogateescape')
    example = dict(encoded=list(features[self._media]), label=label,
                   caption=caption, fps=rate, key=key)
    if len(features.get('captions', ())) > 1:
      example['captions'] = tuple(
          text.decode('utf-8', 'replace') for text in features['captions'])
    return example
