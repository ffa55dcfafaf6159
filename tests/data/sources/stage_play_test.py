"""The captioned world: what is drawn, said and known of it agree."""
import dataclasses
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import datasets
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.commands import data
from walt_jax.core import errors
from walt_jax.data.sources.stage_play import art
from walt_jax.data.sources.stage_play import captions
from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import facts as facts_lib
from walt_jax.data.sources.stage_play import places
from walt_jax.data.sources.stage_play import render
from walt_jax.data.sources.stage_play import scenes
from walt_jax.data.sources.stage_play import source
from walt_jax.data.sources.stage_play import splits
from walt_jax.data.sources.stage_play import sprites
from walt_jax.data.sources.stage_play import version
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.text import encoder

ROOT = pathlib.Path(__file__).resolve().parents[3]
_LEVELS = tuple(scenes.DIFFICULTIES)


def play(difficulty='solo', split='train', **given) -> source.StagePlay:
  return source.StagePlay(
      split, given.pop('num_examples', 10_000), difficulty=difficulty, **given)


class VersionTest(absltest.TestCase):

  def test_this_is_version_1(self):
    self.assertEqual(version.VERSION, 1)
    self.assertEqual(version.fingerprint(), version.SHA256,
                     'a change of the world is version 2')


class ClipsTest(parameterized.TestCase):

  @parameterized.parameters(*_LEVELS)
  def test_a_clip_is_a_function_of_its_number(self, difficulty):
    clips = play(difficulty)
    example = clips[7]
    again = play(difficulty, num_examples=8)[7]
    np.testing.assert_array_equal(example['video'], again['video'])
    self.assertEqual(example['video'].dtype, np.uint8)
    self.assertEqual(example['video'].shape, (17, 32, 32, 3))
    self.assertEqual((example['fps'], example['caption']),
                     (8.0, example['captions'][0]))
    for other in (play(difficulty, seed=1), play(difficulty, 'heldout')):
      self.assertFalse(np.array_equal(example['video'], other[7]['video']))

  @parameterized.parameters(32, 64)
  def test_small_frames_are_means_of_large_ones(self, side):
    fine = play('stage', height=128, width=128)[3]['video'].astype(float)
    small = play('stage', height=side, width=side)[3]['video']
    times = 128 // side
    means = fine.reshape(17, side, times, side, times, 3).mean(axis=(2, 4))
    self.assertLessEqual(np.abs(means - small).max(), 0.5)

  @parameterized.parameters((16, 16), (48, 80), (130, 50), (90, 160), (32, 90))
  def test_any_size(self, height, width):
    video = play('stage', height=height, width=width, num_frames=2)[5]['video']
    self.assertEqual(video.shape, (2, height, width, 3))

  def test_a_longer_clip_only_continues(self):
    long = play('stage', num_frames=60)[11]['video']
    np.testing.assert_array_equal(long[:17], play('stage')[11]['video'])

  def test_night_is_darker_and_cameras_move_the_ground(self):
    light = {'day': [], 'night': []}
    moved = {'still': [], 'left': [], 'right': []}
    clips = play('stage')
    for index in range(40):
      scene = clips.scene(index)
      video = clips[index]['video'].astype(float)
      light[scene.light].append(video[:, :3].mean())
      bottom = video[:, -2:]
      moved[scene.camera].append(np.abs(np.diff(bottom, axis=0)).mean())
    self.assertLess(max(light['night']), min(light['day']))
    self.assertLess(max(moved['still']),
                    min(moved['left'] + moved['right']))

  @parameterized.parameters(
      dict(split='test'), dict(difficulty='quick'), dict(height=8),
      dict(num_frames=0), dict(num_examples=0))
  def test_what_there_is_not(self, **given):
    with self.assertRaisesRegex(ValueError, 'stage_play'):
      play(**given)


class SplitsTest(parameterized.TestCase):

  @parameterized.product(difficulty=_LEVELS, split=('train', 'heldout'))
  def test_no_held_out_combination_is_trained_on(self, difficulty, split):
    clips, seen = play(difficulty, split), set()
    for index in range(400):
      scene = clips.scene(index)
      seen |= {(part.actor, part.action, scene.light) for part in scene.parts}
    self.assertEmpty(seen & splits.HELD_OUT)
    # But each of their parts is.
    names = scenes.DIFFICULTIES[difficulty].names
    for actor, action, light in splits.HELD_OUT:
      if actor in names:
        other = 'day' if light == 'night' else 'night'
        self.assertIn((actor, action, other), seen)
        self.assertIn(light, {one for _, _, one in seen})

  @parameterized.parameters(*_LEVELS)
  def test_unseen_shows_nothing_else(self, difficulty):
    clips, seen = play(difficulty, 'unseen'), set()
    wanted = {one for one in splits.HELD_OUT
              if one[0] in scenes.DIFFICULTIES[difficulty].names}
    for index in range(len(wanted)):
      scene = clips.scene(index)
      part = next(p for p in scene.parts if p.group == scene.main)
      seen.add((part.actor, part.action, scene.light))
    self.assertEqual(seen, wanted)  # Each once.

  def test_neighbours_show_every_combination(self):
    wanted = splits.combinations('reader', scenes.DIFFICULTIES['stage'].names)
    self.assertLen(wanted, 2 * len(cast.CLASSES))
    labels = [play('stage', 'reader')[i]['label'] for i in range(0, 20)]
    self.assertGreater(len(set(labels)), 12)

  def test_directions_are_balanced(self):
    ways = [facts_lib.of_scene(play().scene(i)).groups[0].direction
            for i in range(1000)]
    for one, other in (('left', 'right'), ('up', 'down')):
      share = ways.count(one) / (ways.count(one) + ways.count(other))
      self.assertBetween(share, 0.4, 0.6)


class CaptionsTest(parameterized.TestCase):

  @parameterized.parameters(*_LEVELS)
  def test_they_say_what_is_shown(self, difficulty):
    clips = play(difficulty, 'reader')
    for index in range(200):
      shown = facts_lib.of_scene(clips.scene(index))
      for text in clips.captions(index):
        said = captions.parse(text)
        self.assertEqual(said.groups, shown.groups, text)
        self.assertIn(said.place, (shown.place, None), text)
        self.assertIn(said.light, (shown.light, None), text)
        self.assertEqual(said.camera, None if said.place is None or (
            shown.camera == 'still') else shown.camera, text)

  def test_examples(self):
    facts = facts_lib.Facts(
        (facts_lib.Group('zombie', 'jump', ''),
         facts_lib.Group('bee', 'fly', 'right', 2)), 'desert', 'night', 'left')
    every = captions.variants(facts)
    self.assertEqual(every[0], 'a zombie jumps and two bees fly right in the '
                     'desert at night, the camera pans left')
    self.assertIn('under a night sky, a zombie jumps while two bees fly right '
                  'in the desert, the camera pans left', every)
    self.assertLen(set(every), len(every))
    self.assertEqual(captions.parse('blue slime hop').groups[0].actor,
                     'blue slime')
    with self.assertRaisesRegex(ValueError, 'nobody'):
      captions.parse('a seven moves left')

  def test_labels_name_the_main_actor(self):
    self.assertLen(set(cast.CLASSES), 42)
    for difficulty in _LEVELS:
      clips = play(difficulty)
      for index in range(20):
        main = facts_lib.of_scene(clips.scene(index)).groups[0]
        self.assertEqual(clips.classes[clips[index]['label']],
                         f'{main.actor} {main.action}')

  @parameterized.parameters(*_LEVELS)
  def test_every_caption_fits_the_text_encoder(self, difficulty):
    setting = scenes.DIFFICULTIES[difficulty]
    count = lambda text: len(tokenizer.full_ids(text))
    tokenizer = encoder.load_tokenizer('minilm')
    limit = captions.MAX_TOKENS[difficulty]
    # The longest clause as often as there may be groups, in every place.
    pairs = [(a, b) for a, b in cast.PAIRS if a in setting.names]
    groups = [facts_lib.Group(actor, action, 'right' if action in cast.MOVING
                              else 'down', number)
              for actor, action in pairs
              for number in ((1, 2) if setting.twins else (1,))]
    longest = max(groups, key=lambda group: count(captions._clause(group)))
    camera = 'right' if setting.pans else 'still'
    for place in places.PLACES:
      for light in cast.LIGHTS:
        facts = facts_lib.Facts(
            (longest,) * setting.groups[1], place.name, light, camera)
        forms = (captions.variants(facts) if setting.variants else
                 [captions.plain(facts)])
        for text in forms:
          self.assertLessEqual(count(text), limit, text)


class TruthTest(parameterized.TestCase):

  @parameterized.parameters(*_LEVELS)
  def test_boxes_hold_all_that_actors_change(self, difficulty):
    clips = play(difficulty, height=128, width=128, num_frames=9)
    for index in range(6):
      scene, truth = clips.scene(index), clips.truth(index)
      scene = dataclasses.replace(scene, parts=tuple(
          p for p in scene.parts if p.action != 'climb'))  # No ladders.
      if len(scene.parts) < len(truth.actors):
        continue
      empty = dataclasses.replace(scene, parts=())
      changed = (render.render(scene, 128, 128, 9)
                 != render.render(empty, 128, 128, 9)).any(axis=-1)
      inside = np.zeros_like(changed)
      for actor in truth.actors:
        for frame, box in enumerate(actor.boxes):
          if box is not None:
            top, left, height, width = (round(side) for side in box)
            inside[frame, max(0, top):max(0, top + height),
                   max(0, left):max(0, left + width)] = True
      self.assertTrue(changed.any())
      self.assertFalse((changed & ~inside).any())

  def test_actors_do_what_is_said(self):
    found = set()
    for index in range(70):
      clips = play()
      truth = clips.truth(index)
      group, (actor,) = truth.facts.groups[0], truth.actors
      boxes = np.array(actor.boxes)
      middle = boxes[:, 1] + boxes[:, 3] / 2
      feet = boxes[:, 0] + boxes[:, 2]
      ahead = dict(left=-np.diff(middle), right=np.diff(middle),
                   up=-np.diff(feet), down=np.diff(feet))
      if group.direction:
        self.assertGreater(ahead[group.direction].sum(), 5)
      elif group.action == 'fall':
        self.assertGreater(feet[-1] - feet[0], 8)
      elif group.action == 'jump':
        self.assertBetween(np.ptp(feet), 5, 9)
      else:
        self.assertEqual(np.ptp(feet), 0)
      self.assertIn(group.action, actor.actions)
      self.assertContainsSubset(actor.actions, {group.action, 'stand'})
      self.assertGreater(min(actor.visible[4:]), 0.5)
      found.add(group.action)
    self.assertEqual(found, set(cast.ACTIONS))

  def test_walls_hide_actors_that_come_back(self):
    clips, came_back = play('stage'), 0
    for index in range(60):
      scene = clips.scene(index)
      if scene.wall is None or scene.main not in {
          p.group for p in scene.parts if p.action in ('walk', 'crawl')}:
        continue
      truth = clips.truth(index)
      seen = np.array([a.visible for a in truth.actors
                       if a.group == scene.main][0])
      hidden = np.flatnonzero(seen < 0.35)
      came_back += bool(len(hidden)) and (
          seen[:hidden[0]].max(initial=0) > 0.7) and (
              seen[hidden[-1]:].max() > 0.7)
    self.assertGreaterEqual(came_back, 3)

  def test_what_leaves_comes_back_on_the_other_side(self):
    clips = play(num_frames=120)
    index = next(i for i in range(99) if facts_lib.of_scene(
        clips.scene(i)).groups[0].action == 'walk')
    seen = np.array(clips.truth(index).actors[0].visible)
    self.assertLess(seen.min(), 0.1)
    gone = np.flatnonzero(seen < 0.1)
    self.assertGreater(seen[gone[0]:].max(), 0.9)


class SpritesTest(absltest.TestCase):

  def test_scaling_keeps_means(self):
    values = np.random.default_rng(0).integers(0, 255, (12, 18, 4))
    small = sprites.scaled(values, 4, 6)
    means = values.reshape(4, 3, 6, 3, 4).mean(axis=(1, 3))
    self.assertLessEqual(np.abs(small - means).max(), 0.5)
    uneven = sprites.scaled(values, 5, 7)
    self.assertLess(abs(uneven.mean() - values.mean()), 1)
    np.testing.assert_array_equal(sprites.scaled(values, 12, 18), values)

  def test_four_quarter_turns(self):
    square = np.random.default_rng(0).integers(0, 255, (8, 8, 4))
    turned = sprites.scaled(sprites._turned(square, 16), 8, 8)
    np.testing.assert_array_equal(turned, np.rot90(square, -1))


class ArtTest(absltest.TestCase):

  def test_other_pictures_and_a_missing_package_are_refused(self):
    with mock.patch.object(art, 'digests', lambda: {'enemies/bee': '0' * 64}):
      with self.assertRaisesRegex(errors.UserError, 'expected 000'):
        art.read.__wrapped__('enemies/bee')
    with mock.patch.object(art.reader.importlib.util, 'find_spec',
                           lambda name: None):
      with self.assertRaisesRegex(errors.UserError, 'arcade==3.3.3'):
        art.read.__wrapped__('enemies/bee')

  def test_every_picture_is_there(self):
    for name in art.digests():
      self.assertEqual(art.read(name).shape[-1], 4)


class ConfigTest(absltest.TestCase):

  def load(self, **values):
    return schema.of(config_lib.load(
        str(ROOT / 'configs/quickstart.py:smoke'),
        [('data.name', 'stage_play'), ('data.crop_sizes', '()'),
         *((f'data.{key}', str(value)) for key, value in values.items())]))

  def test_a_config_chooses_it(self):
    config = self.load(difficulty='duo', num_clips=9, height=32, width=48)
    found = datasets.source(config, datasets.HELD_OUT)
    self.assertLen(found, 9)
    self.assertEqual(found.classes, cast.CLASSES)
    self.assertEqual(found.videos[0]['video'].shape[1:], (32, 48, 3))
    with self.assertRaisesRegex(errors.UserError, "'quick'.*solo, duo, stage"):
      datasets.source(self.load(difficulty='quick'), datasets.TRAIN)
    with self.assertRaisesRegex(errors.UserError, 'crop_sizes'):
      self.load(crop_sizes='(64,)')

  def test_it_is_rendered_to_a_set_with_all_captions(self):
    with tempfile.TemporaryDirectory() as folder:
      line = ['data', 'render', 'stage_play', '--split', 'train', '--num', '3',
              '--difficulty', 'duo', '--num_frames', '2', '--output', folder]
      data.run(cli.parse(line))
      stored = dataset_lib.PreparedDataset(folder, 'train')
      clips = play('duo', num_frames=2)
      for index in range(3):
        self.assertEqual(list(stored[index]['captions']),
                         clips[index]['captions'])
      with self.assertRaisesRegex(errors.UserError, '--labels'):
        data.run(cli.parse([*line, '--labels', 'digit']))


if __name__ == '__main__':
  absltest.main()
