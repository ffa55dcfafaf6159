"""What happens in a clip, drawn from its number alone.

Places and speeds are whole ticks, 16 to a unit; a unit is a 32nd of the
frame's height. The world is a ring: what leaves it on one side enters on the
other. So the same number shows the same scene at any size and any length.
"""
from collections.abc import Sequence
import dataclasses
import functools

from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import draws
from walt_jax.data.sources.stage_play import places
from walt_jax.data.sources.stage_play import splits

VERSION = 1
TICKS = 16
UNITS = 32  # Height of the frame.
GROUND = 26 * TICKS  # Where feet stand, from the top.
CLIP_FRAMES = 17  # A path stays inside for as many frames.
TILE = 8 * TICKS
_LEAST_RING = 48 * TICKS
_HALF_BODY = 6 * TICKS  # What of an actor should stay inside.
_PAN = 8  # Ticks a frame.


@dataclasses.dataclass(frozen=True)
class Difficulty:
  """What a scene may hold.

  Attributes:
    names: Who may play.
    figure: Height of a character's picture, in units.
    groups: Least and most number of groups of actors.
    twins: Number of groups, of 8, in which two do the same.
    walls: Number of scenes, of 8, in which a wall of tiles hides who passes.
    pans: Number of scenes, of 8, in which the camera moves.
    speeds: Ticks a frame, of which each group has one.
    variants: Whether captions vary; else all are of one form.
  """
  names: tuple[str, ...]
  figure: int
  groups: tuple[int, int]
  twins: int = 0
  walls: int = 0
  pans: int = 0
  speeds: tuple[int, ...] = (16,)
  variants: bool = False


_ALL = tuple(actor.name for actor in cast.CAST)
DIFFICULTIES = {
    'solo': Difficulty(
        ('explorer', 'girl', 'boy', 'man', 'robot', 'zombie', 'bee', 'frog',
         'ladybug', 'coin'), 21, (1, 1)),
    'duo': Difficulty(_ALL, 19, (1, 2), twins=1, variants=True),
    'stage': Difficulty(_ALL, 18, (1, 3), twins=2, walls=4, pans=3,
                        speeds=(14, 16, 18), variants=True),
}


@dataclasses.dataclass(frozen=True)
class Part:
  """One actor of a scene.

  Attributes:
    actor: Its name.
    action: What it does.
    direction: 'left', 'right', 'up', 'down', or '' for none.
    group: Number of its group; all of a group do the same.
    x: Where its middle is in the first frame, in ticks from the left.
    y: Where its feet are then, in ticks from the top.
    speed: Ticks a frame, 0 or more.
    phase: Frames by which its motion is ahead.
    faces_left: Which way it looks.
  """
  actor: str
  action: str
  direction: str
  group: int
  x: int
  y: int
  speed: int
  phase: int
  faces_left: bool


@dataclasses.dataclass(frozen=True)
class Scene:
  """A clip before it is drawn.

  Attributes:
    place: Name of the place.
    light: 'day' or 'night'.
    camera: 'still', 'left' or 'right', the way the camera moves.
    parts: The actors, the farthest first.
    main: Number of the group whose combination the split chose.
    wall: Left side of a wall of tiles before the actors, in ticks; or None.
    props: (number of the prop, its middle in ticks) behind the actors.
    figure: Height of a character's picture, in units.
    ring: Ticks after which the world repeats.
    hills: Seed of the hills, the stars and the clouds.
    caption: Which of the forms of a caption it has.
  """
  place: str
  light: str
  camera: str
  parts: tuple[Part, ...]
  main: int
  wall: int | None
  props: tuple[tuple[int, int], ...]
  figure: int
  ring: int
  hills: int
  caption: int

  @property
  def pan(self) -> int:
    """Ticks by which the camera moves to the right each frame."""
    return dict(still=0, left=-_PAN, right=_PAN)[self.camera]


def ring_of(view: int) -> int:
  """The least ring of whole tiles that hides an actor outside of the view."""
  return -(-max(_LEAST_RING, view + 16 * TICKS) // TILE) * TILE


def draw(difficulty: str, split: str, seed: int, index: int,
         view: int) -> Scene:
  """The scene of a number.

  Args:
    difficulty: A key of `DIFFICULTIES`.
    split: One of `splits.SPLITS`.
    seed: Another seed gives other scenes.
    index: Number of the clip.
    view: Width of the frame, in ticks.
  """
  setting = DIFFICULTIES[difficulty]
  choose = draws.Draws(VERSION, seed, difficulty, split, index)
  combinations = splits.combinations(split, setting.names)
  # Any len(combinations) neighbours show each of them once.
  order = _order(len(combinations))
  actor, action, light = combinations[order[index % len(order)]]
  count = choose.between('groups', *setting.groups)
  chosen = [(actor, action)]
  for group in range(1, count):
    chosen.append(_beside(choose, f'group {group}', split, setting, light,
                          [name for name, _ in chosen]))
  camera = 'still'
  if choose.below('pans', 8) < setting.pans:
    camera = ('left', 'right')[choose.below('pan', 2)]
  parts = _parts(choose, setting, chosen, camera, view)
  place = places.PLACES[choose.below('place', len(places.PLACES))]
  ring = ring_of(view)
  wall = None
  if choose.below('walls', 8) < setting.walls:
    wall = _wall(choose, [p for p in parts if p.group == 0], camera, view)
  props = tuple(
      (choose.below(f'prop {i}', len(place.props)),
       choose.below(f'prop {i} x', ring))
      for i in range(1 + choose.below('props', 2)))
  depth = choose.shuffled('depth', len(parts))
  return Scene(
      place=place.name, light=light, camera=camera,
      parts=tuple(parts[i] for i in depth), main=0, wall=wall, props=props,
      figure=setting.figure, ring=ring, hills=choose.below('hills', 1 << 30),
      caption=choose.below('caption', 1 << 30) if setting.variants else 0)


@functools.cache
def _order(count: int) -> list[int]:
  return draws.Draws('combinations', count).shuffled('order', count)


def _beside(choose: draws.Draws, name: str, split: str, setting: Difficulty,
            light: str, taken: list[str]) -> tuple[str, str]:
  """Another actor than those that play already, and what it does."""
  pairs = [(actor, action) for actor, action in cast.PAIRS
           if actor in setting.names and actor not in taken
           and splits.allows(split, (actor, action, light))]
  # A creature in place of one of five actions of a character, so that both
  # are seen as often.
  kinds = ([p for p in pairs if cast.BY_NAME[p[0]].is_character],
           [p for p in pairs if not cast.BY_NAME[p[0]].is_character])
  kind = kinds[choose.below(f'{name} kind', 2)]
  return kind[choose.below(f'{name} pair', len(kind))]


def _parts(choose: draws.Draws, setting: Difficulty,
           chosen: Sequence[tuple[str, str]], camera: str,
           view: int) -> list[Part]:
  """The actors of all groups."""
  parts: list[Part] = []
  slots = choose.shuffled('slots', len(chosen))
  for group, (actor, action) in enumerate(chosen):
    name = f'part {group}'
    direction, faces_left = _direction(choose, name, action, group, camera)
    speed = setting.speeds[choose.below(f'{name} speed', len(setting.speeds))]
    speed = _speed(action, speed)
    x, y = _start(choose, name, action, direction, speed, camera, view,
                  (slots[group], len(chosen)))
    part = Part(actor, action, direction, group, x, y, speed,
                choose.below(f'{name} phase', 8), faces_left)
    parts.append(part)
    if choose.below(f'{name} twins', 8) < setting.twins:
      apart = 9 * TICKS if x < view // 2 else -9 * TICKS
      parts.append(dataclasses.replace(
          part, x=x + apart, phase=part.phase + 3))
  return parts


def _direction(choose: draws.Draws, name: str, action: str, group: int,
               camera: str) -> tuple[str, bool]:
  """Which way an actor moves, and whether it looks to the left."""
  second = bool(choose.below(f'{name} way', 2))
  if action == 'climb':
    return ('up', 'down')[second], False
  if action in cast.MOVING:
    if camera != 'still' and group == 0:
      return camera, camera == 'left'  # It stays in view.
    return ('left', 'right')[second], not second
  return '', second


def _speed(action: str, speed: int) -> int:
  if action in ('jump', 'stand'):
    return 0
  return speed // 2 if action in ('crawl', 'climb') else speed


def _start(choose: draws.Draws, name: str, action: str, direction: str,
           speed: int, camera: str, view: int, slot: tuple[int, int]
           ) -> tuple[int, int]:
  """Where an actor begins, so that it is seen for a clip's frames."""
  pan = dict(still=0, left=-_PAN, right=_PAN)[camera]
  across = dict(left=-speed, right=speed).get(direction, 0) - pan
  travel = across * (CLIP_FRAMES - 1)
  low, high = _HALF_BODY - min(0, travel), view - _HALF_BODY - max(0, travel)
  if not travel:  # Those that stay share the width.
    number, count = slot
    low, high = (low + (high - low) * number // count,
                 low + (high - low) * (number + 1) // count)
  if low > high:
    low = high = (low + high) // 2
  x = choose.between(f'{name} x', low, high)
  y = GROUND
  if action == 'fly':
    y = choose.between(f'{name} y', 10 * TICKS, 14 * TICKS)
  elif action == 'fall':
    y = GROUND - speed * choose.between(f'{name} y', 13, 17)
  elif direction == 'up':
    y = GROUND - choose.below(f'{name} y', TICKS)
  elif direction == 'down':
    y = GROUND - speed * (CLIP_FRAMES - 1) + choose.below(f'{name} y', TICKS)
  return x, y


def _wall(choose: draws.Draws, main: list[Part], camera: str,
          view: int) -> int:
  """A wall across the path of the main actor, or beside it."""
  part = main[0]
  pan = dict(still=0, left=-_PAN, right=_PAN)[camera]
  if part.direction in ('left', 'right'):
    sign = 1 if part.direction == 'right' else -1
    half_way = part.x + sign * part.speed * (CLIP_FRAMES // 2)
    return half_way - TILE // 2 + choose.between(
        'wall', -2 * TICKS, 2 * TICKS)
  middle = view // 2 + pan * (CLIP_FRAMES // 2)
  side = -1 if part.x > middle else 1
  return part.x + side * choose.between(
      'wall', 8 * TICKS, 12 * TICKS) - TILE // 2
