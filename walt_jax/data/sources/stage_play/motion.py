"""Where an actor is in each frame, and which picture of it is shown."""
import dataclasses

from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import scenes

_JUMP = 7 * scenes.TICKS  # Height; a jump takes 5 frames, and 2 between.
_HOP = 6 * scenes.TICKS
_BOB = (0, 8, 16, 8, 0, -8, -16, -8)  # Ticks, of those that fly.
# Period of the way up or down, behind the ground and over the frame.
_SHAFT = 56 * scenes.TICKS


@dataclasses.dataclass(frozen=True)
class Pose:
  """One actor in one frame.

  Attributes:
    picture: Path of its picture.
    x: Its middle, in ticks in the ring.
    y: Its lower edge, in ticks.
    mirrored: Whether the picture is mirrored.
    turn: 64ths of a turn, clockwise, before it is mirrored.
    squash: Its height, in 16ths.
    is_behind: Whether it is behind the ground.
    action: What it does in this frame.
  """
  picture: str
  x: int
  y: int
  mirrored: bool
  turn: int = 0
  squash: int = 16
  is_behind: bool = False
  action: str = ''


def pose(part: scenes.Part, frame: int) -> Pose:
  """An actor in a frame, counted from 0."""
  actor = cast.BY_NAME[part.actor]
  if actor.is_character:
    return _character(part, actor, frame)
  return _CREATURES[part.action](part, actor, frame)


def _along(part: scenes.Part, distance: int) -> int:
  """Its middle after so many ticks on its way."""
  return part.x + dict(left=-distance, right=distance).get(part.direction, 0)


def _character(part: scenes.Part, actor: cast.Actor, frame: int) -> Pose:
  step = frame + part.phase
  name, x, y, mirrored, action = 'idle', part.x, part.y, part.faces_left, (
      part.action)
  if action == 'walk':
    name, x = f'walk{step % 8}', _along(part, part.speed * frame)
  elif action == 'climb':
    name = f'climb{step // 2 % 2}'
    sign = -1 if part.direction == 'up' else 1
    y = _in_shaft(part.y + sign * part.speed * frame)
  elif action == 'jump':
    beat = step % 7 - 1
    if 1 <= beat <= 5:
      y -= _JUMP * beat * (6 - beat) // 9
      name = 'jump' if beat <= 3 else 'fall'
    else:
      action = 'stand'
  elif action == 'fall':
    y = part.y + part.speed * frame
    if y < scenes.GROUND:
      name, mirrored = 'fall', mirrored ^ bool(step // 2 % 2)
    else:
      y, action = scenes.GROUND, 'stand'
  return Pose(f'{actor.sprites}_{name}', x, y, mirrored, action=action,
              is_behind=part.action == 'climb')


def _in_shaft(y: int) -> int:
  """A height on the ring that a ladder is: over the frame, behind ground."""
  low = -4 * scenes.TICKS
  return low + (y - low) % _SHAFT


def _sees_left(part: scenes.Part, actor: cast.Actor) -> bool:
  """Whether a picture that looks to the left has to be mirrored."""
  return part.faces_left if actor.turn is not None else not part.faces_left


def _fly(part: scenes.Part, actor: cast.Actor, frame: int) -> Pose:
  step = frame + part.phase
  tilt = 0 if actor.turn is not None else (2, -2)[step % 2]
  return Pose(actor.sprites, _along(part, part.speed * frame),
              part.y + _BOB[step % 8], _sees_left(part, actor),
              turn=(actor.turn or 0) + tilt, action='fly')


def _hop(part: scenes.Part, actor: cast.Actor, frame: int) -> Pose:
  """Two frames of six on the ground, four in the air, at 3/2 of the speed."""
  beat = (frame + part.phase) % 6
  in_air = beat >= 2
  gone = sum((i + part.phase) % 6 >= 2 for i in range(1, frame + 1))
  lift = _HOP * (beat - 1) * (6 - beat) // 6 if in_air else 0
  picture = actor.moved if in_air and actor.moved else actor.sprites
  squash = 16 if actor.moved else (19 if in_air else 12)
  return Pose(picture, _along(part, part.speed * gone * 3 // 2),
              part.y - lift, _sees_left(part, actor), squash=squash,
              action='hop')


def _crawl(part: scenes.Part, actor: cast.Actor, frame: int) -> Pose:
  second = (frame + part.phase) // 2 % 2
  picture = actor.moved if second and actor.moved else actor.sprites
  return Pose(picture, _along(part, part.speed * frame),
              part.y, _sees_left(part, actor),
              turn=0 if actor.moved else (1, -1)[second], action='crawl')


def _roll(part: scenes.Part, actor: cast.Actor, frame: int) -> Pose:
  distance = part.speed * frame
  # Its radius is about four and a half units: 28 to a turn of 64 steps.
  turn = distance * 64 // (28 * scenes.TICKS)
  return Pose(actor.sprites, _along(part, distance), part.y,
              part.direction == 'left', turn=turn % 64, action='roll')


_CREATURES = dict(fly=_fly, hop=_hop, crawl=_crawl, roll=_roll)
