"""What a clip shows, for captions and for those who check them."""
import dataclasses

from walt_jax.data.sources.stage_play import scenes


@dataclasses.dataclass(frozen=True)
class Group:
  """Actors that do the same.

  Attributes:
    actor: Name of the actor.
    action: What it does.
    direction: 'left', 'right', 'up', 'down', or '' for none.
    count: How many there are.
  """
  actor: str
  action: str
  direction: str
  count: int = 1


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a caption says, or a clip shows.

  Attributes:
    groups: Who does what, the main one first.
    place: Name of the place; None where a caption does not say.
    light: 'day' or 'night'; None likewise.
    camera: 'still', 'left' or 'right'; None likewise.
  """
  groups: tuple[Group, ...]
  place: str | None = None
  light: str | None = None
  camera: str | None = None

  @property
  def count(self) -> int:
    """How many actors there are."""
    return sum(group.count for group in self.groups)


def of_scene(scene: scenes.Scene) -> Facts:
  """All facts of a scene."""
  groups = []
  for number in sorted({part.group for part in scene.parts}):
    own = [part for part in scene.parts if part.group == number]
    groups.append(Group(
        own[0].actor, own[0].action, own[0].direction, len(own)))
  return Facts(tuple(groups), scene.place, scene.light, scene.camera)
