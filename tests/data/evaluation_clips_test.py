"""Prepared sets as scores read them."""
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np

from tests.data import video_files
from walt_jax.core import errors
from walt_jax.data import evaluation_clips
from walt_jax.data.prepare import prepare
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.stream import batches
from walt_jax.evaluation import clip_files
from walt_jax.evaluation import clip_sets


class EvaluationClipsTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    for number, frames in enumerate((12, 9, 15, 6, 20, 11)):
      video_files.write_video(root / 'in' / f'{number}.avi', frames)
    cls.path = root / 'a:b'
    prepare.prepare(root / 'in', cls.path, prepare.Settings(
        size=16, min_frames=5, heldout=0.4))

  def test_clips_are_those_that_training_evaluates_on(self):
    clips = evaluation_clips.EvaluationClips(self.path)
    self.assertEqual((clips.split, clips.num_frames, clips.size),
                     ('heldout', 5, (16, 16)))
    start = batches.make_batches(
        dataset_lib.PreparedDataset(self.path, 'heldout'),
        batches.BatchOptions(video_rows=len(clips), num_frames=5, size=16,
                              shuffle=False, num_threads=1))
    np.testing.assert_array_equal(np.stack(list(clips)),
                                  next(start(0)).videos.pixels)

  def test_split_length_and_size(self):
    clips = evaluation_clips.EvaluationClips(
        self.path, 'train', num_frames=12, size=(8, 12))
    table = dataset_lib.PreparedDataset(self.path, 'train').index
    self.assertLen(clips, (table['num_frames'] >= 12).sum())
    self.assertEqual(clips[0].shape, (12, 8, 12, 3))
    self.assertLen(set(clips.names), len(clips))
    with self.assertRaisesRegex(errors.UserError, 'None of the 4 clips has 99'):
      evaluation_clips.EvaluationClips(self.path, 'train', num_frames=99)
    with self.assertRaises(IndexError):
      clips[len(clips)]

  def test_walt_evaluate_opens_them(self):
    heldout = clip_sets.open_clips(self.path)
    self.assertEqual((heldout.split, len(heldout)), ('heldout', 2))
    self.assertEqual(heldout.stack().shape, (2, 5, 16, 16, 3))
    train = clip_sets.open_clips(f'{self.path}:train:8x24', frames=6)
    self.assertEqual((train.split, train[0].shape), ('train', (6, 8, 24, 3)))
    prints = [clip_files.fingerprint(f'{self.path}{end}')
              for end in ('', ':train', ':heldout')]
    self.assertLen({print_[0] for print_ in prints}, 3)
    self.assertEqual(prints[1][1], prints[0][1])
    self.assertNotEmpty(prints[0][1])
    with self.assertRaisesRegex(errors.UserError, "not 'test'"):
      clip_sets.open_clips(f'{self.path}:test')
    with self.assertRaisesRegex(errors.UserError, 'no folder of clips'):
      clip_sets.open_clips(f'{self.path}x:train')


if __name__ == '__main__':
  absltest.main()
