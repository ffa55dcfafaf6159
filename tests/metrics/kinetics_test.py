"""I3D knows what real clips show: its weights, layout and preprocessing fit.

Each class of UCF-101 at hand has Kinetics-400 labels that name the same
thing; one of them is among the five most likely for most of its clips.
"""
import collections

from absl.testing import absltest
import numpy as np
import pytest

from tests import real_data
from walt_jax.media import decode
from walt_jax.metrics import video_features

_FRAMES = 32
_TOP = 5
# Class -> numbers of Kinetics-400's labels, in its alphabetical order.
_LABELS = {
    'ApplyEyeMakeup': {126: 'filling eyebrows', 388: 'waxing eyebrows'},
    'BenchPress': {19: 'bench pressing'},
    'Biking': {267: 'riding a bike', 271: 'riding mountain bike',
               22: 'biking through snow'},
    'Diving': {329: 'springboard diving', 93: 'diving cliff',
               172: 'jumping into pool'},
    'HeadMassage': {196: "massaging person's head"},
    'LongJump': {182: 'long jump', 367: 'triple jump'},
    'PlayingGuitar': {232: 'playing guitar', 335: 'strumming guitar',
                      350: 'tapping guitar', 221: 'playing bass guitar'},
}
_MAY_MISS = ('ApplyEyeMakeup',)  # No label of Kinetics-400 says so.
# More clips of a class say little more and take a second each.
_MOST_CLIPS = 3


def hits(most_clips: int | None = _MOST_CLIPS) -> dict[str, list[bool]]:
  """By class: whether a label is in the top five, for each of its clips."""
  files = collections.defaultdict(list)
  for path in sorted(real_data.path('ucf101').glob('v_*.avi')):
    files[path.name.split('_')[1]].append(path)
  network = video_features.load_network()
  found = {}
  for name, paths in files.items():
    found[name] = []
    for path in paths[:most_clips]:
      frames = decode.read_clip(path)
      first = max(0, (len(frames) - _FRAMES) // 2)
      logits = network.features([frames[first:first + _FRAMES]])[0]
      top = set(np.argsort(logits)[-_TOP:].tolist())
      found[name].append(bool(top & set(_LABELS[name])))
  return found


class KineticsTest(absltest.TestCase):

  @pytest.mark.slow
  def test_labels_of_real_clips(self):
    found = hits()
    self.assertEqual(found.keys(), _LABELS.keys())
    for name, outcomes in found.items():
      with self.subTest(name):
        if name not in _MAY_MISS:
          self.assertGreater(sum(outcomes), len(outcomes) / 2, outcomes)


if __name__ == '__main__':
  for class_name, outcomes in hits(None).items():
    print(f'{class_name}: {sum(outcomes)} of {len(outcomes)}')
