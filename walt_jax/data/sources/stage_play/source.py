"""The world as a source of examples, with the truth of each."""
import dataclasses

from walt_jax.data.sources.stage_play import captions
from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import facts as facts_lib
from walt_jax.data.sources.stage_play import motion
from walt_jax.data.sources.stage_play import render
from walt_jax.data.sources.stage_play import scenes
from walt_jax.data.sources.stage_play import splits

NAME = 'stage_play'
FPS = 8.0
_LEAST = 16  # Rows and columns of a frame.


@dataclasses.dataclass(frozen=True)
class ActorTruth:
  """What is known of one actor of a clip.

  Attributes:
    group: Number of its group in `facts.groups`.
    actions: What it does in each frame; who has fallen, or is between two
      jumps, stands.
    boxes: (top, left, height, width) of its picture in each frame, in pixels;
      it may lie partly outside. None where all of it does.
    visible: Which part of its picture is seen in each frame, in [0, 1].
  """
  group: int
  actions: tuple[str, ...]
  boxes: tuple[render.Box | None, ...]
  visible: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Truth:
  """What is known of one clip.

  Attributes:
    facts: Who does what where, and how the camera moves.
    actors: Each actor by frame, the farthest first.
  """
  facts: facts_lib.Facts
  actors: tuple[ActorTruth, ...]


@dataclasses.dataclass(frozen=True)
class StagePlay:
  """A source of clips with random access by index.

  Attributes:
    split: One of `splits.SPLITS`.
    num_examples: Length; example i does not depend on it.
    height: Rows of a frame.
    width: Columns of a frame.
    num_frames: Frames of a clip.
    difficulty: A key of `scenes.DIFFICULTIES`.
    seed: Another seed gives other scenes of the same split.
  """
  split: str = 'train'
  num_examples: int = 2048
  height: int = 32
  width: int = 32
  num_frames: int = 17
  difficulty: str = 'solo'
  seed: int = 0

  def __post_init__(self):
    for what, value, known in (
        ('split', self.split, splits.SPLITS),
        ('difficulty', self.difficulty, tuple(scenes.DIFFICULTIES))):
      if value not in known:
        raise ValueError(
            f'Unknown {what} {value!r} of {NAME}: use {", ".join(known)}.')
    if min(self.num_examples, self.num_frames) < 1 or (
        min(self.height, self.width) < _LEAST):
      raise ValueError(
          f'{NAME} needs at least one example, one frame and {_LEAST} pixels '
          f'a side, got {self.num_examples}, {self.num_frames} and '
          f'{self.height}x{self.width}.')

  @property
  def classes(self) -> tuple[str, ...]:
    """Actor and action of the main actor; the same in all difficulties."""
    return cast.CLASSES

  def __len__(self) -> int:
    return self.num_examples

  def __getitem__(self, index: int) -> dict:
    """Returns video uint8 [T, H, W, 3], label, captions, fps and key."""
    scene = self.scene(index)
    main = facts_lib.of_scene(scene).groups[scene.main]
    forms = self.captions(index)
    return dict(
        video=render.render(scene, self.height, self.width, self.num_frames),
        label=cast.PAIRS.index((main.actor, main.action)), caption=forms[0],
        captions=forms, fps=FPS,
        key=f'{self.difficulty}-{self.split}-{index:06d}')

  def captions(self, index: int) -> list[str]:
    """All captions of clip `index`; the first one is its caption."""
    scene = self.scene(index)
    facts = facts_lib.of_scene(scene)
    if not scenes.DIFFICULTIES[self.difficulty].variants:
      return [captions.plain(facts)]
    every = captions.variants(facts)
    first = scene.caption % len(every)
    return [*every[first:], *every[:first]]

  def truth(self, index: int) -> Truth:
    """What happens in clip `index`."""
    scene = self.scene(index)
    seen = [render.visible(scene, self.height, self.width, frame)
            for frame in range(self.num_frames)]
    return Truth(facts_lib.of_scene(scene), tuple(
        ActorTruth(
            part.group,
            tuple(motion.pose(part, frame).action
                  for frame in range(self.num_frames)),
            tuple(frame[number][1] for frame in seen),
            tuple(frame[number][0] for frame in seen))
        for number, part in enumerate(scene.parts)))

  def scene(self, index: int) -> scenes.Scene:
    """The scene of clip `index`, before it is drawn."""
    if not 0 <= index < self.num_examples:
      raise IndexError(f'Example {index} of {self.num_examples}.')
    return scenes.draw(self.difficulty, self.split, self.seed, index,
                       render.view_of(self.height, self.width))
