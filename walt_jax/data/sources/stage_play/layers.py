"""The pictures of each frame of a scene, from the farthest to the nearest."""
from collections.abc import Iterator
import dataclasses

from walt_jax.data.sources.stage_play import art
from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import motion
from walt_jax.data.sources.stage_play import places
from walt_jax.data.sources.stage_play import scenery
from walt_jax.data.sources.stage_play import scenes
from walt_jax.data.sources.stage_play import sprites

NOBODY = -1
_FIGURE = 21  # Units, at which sizes of the cast are given.


@dataclasses.dataclass(frozen=True)
class Layer:
  """One picture of a frame.

  Attributes:
    sprite: The picture.
    top: Its upper row in the frame, which may lie outside of it.
    left: Its left column.
    owner: Number of the part that it shows, or `NOBODY`.
  """
  sprite: sprites.Sprite
  top: int
  left: int
  owner: int = NOBODY


@dataclasses.dataclass(frozen=True)
class Stage:
  """A scene at a size in pixels.

  Attributes:
    scene: What happens.
    height: Rows of the frame.
    width: Columns of the frame.
  """
  scene: scenes.Scene
  height: int
  width: int

  def pixels(self, ticks: int) -> int:
    """The nearest whole number of pixels."""
    return (2 * ticks * self.height // (scenes.UNITS * scenes.TICKS) + 1) // 2

  def frame(self, number: int) -> list[Layer]:
    """All pictures of a frame before the sky."""
    scene, place = self.scene, places.BY_NAME[self.scene.place]
    camera = scene.pan * number
    poses = [motion.pose(part, number) for part in scene.parts]
    found = [self._hills(layer, camera) for layer in range(2)]
    found += self._ladders(camera, poses)
    found += self._actors(camera, poses, is_behind=True)
    found.append(self._ground(camera))
    light = scenery.scenery_light(scene.light)
    for prop, middle in scene.props:
      found += self._put(sprites.sprite(
          place.props[prop], *self._square(8), light=light), camera, middle,
                         scenes.GROUND)
    found += self._actors(camera, poses, is_behind=False)
    if scene.wall is not None:
      brick = sprites.sprite(place.wall, *self._square(8), light=light)
      for row in range(2):
        found += self._put(brick, camera, scene.wall + scenes.TILE // 2,
                           scenes.GROUND - row * scenes.TILE)
    return found

  def _square(self, units: int) -> tuple[int, int]:
    side = max(1, self.pixels(units * scenes.TICKS))
    return side, side

  def _hills(self, layer: int, camera: int) -> Layer:
    scene = self.scene
    strip = scenery.hills(scene.place, scene.light, scene.hills, layer,
                          self.height, self.pixels(scene.ring))
    left = self.pixels(camera) // scenery.HILL_SPEEDS[layer]
    return Layer(scenery.slice_of(strip, left, self.width), 0, 0)

  def _ground(self, camera: int) -> Layer:
    top = self.pixels(scenes.GROUND)
    strip = scenery.ground(
        self.scene.place, self.scene.light, self.height, self.height - top,
        self.pixels(self.scene.ring))
    return Layer(scenery.slice_of(strip, self.pixels(camera), self.width),
                 top, 0)

  def _ladders(self, camera: int, poses: list[motion.Pose]
               ) -> Iterator[Layer]:
    """A ladder from the ground over the frame, behind each who climbs."""
    rung = sprites.sprite('tiles/ladderMid', *self._square(8),
                          light=scenery.scenery_light(self.scene.light))
    for x in {pose.x for pose in poses if pose.is_behind}:
      for row in range(4):
        yield from self._put(rung, camera, x,
                             scenes.GROUND - (row - 1) * scenes.TILE)

  def _actors(self, camera: int, poses: list[motion.Pose], *,
              is_behind: bool) -> Iterator[Layer]:
    for owner, pose in enumerate(poses):
      if pose.is_behind == is_behind:
        yield from self._put(self.sprite_of(owner, pose), camera, pose.x,
                             pose.y + self._lift(owner), owner)

  def sprite_of(self, owner: int, pose: motion.Pose) -> sprites.Sprite:
    """The picture of an actor in a frame."""
    height, width = self._size(owner, pose)
    return sprites.sprite(
        pose.picture, height, width, mirrored=pose.mirrored, turn=pose.turn,
        light=scenery.actors_light(self.scene.light))

  def _size(self, owner: int, pose: motion.Pose) -> tuple[int, int]:
    """Rows and columns that a picture is drawn at."""
    actor = cast.BY_NAME[self.scene.parts[owner].actor]
    ticks = actor.units * scenes.TICKS * self.scene.figure // _FIGURE
    rows, columns = art.read(pose.picture).shape[:2]
    of = lambda side: max(1, self.pixels(ticks * side // cast.FIGURE_PIXELS))
    return of(rows * pose.squash // 16), of(columns)

  def _lift(self, owner: int) -> int:
    """Ticks by which pictures of some actors end below their feet."""
    part = self.scene.parts[owner]
    actor = cast.BY_NAME[part.actor]
    ticks = actor.units * scenes.TICKS * self.scene.figure // _FIGURE
    return ticks * actor.margin // cast.FIGURE_PIXELS

  def _put(self, sprite: sprites.Sprite, camera: int, middle: int,
           bottom: int, owner: int = NOBODY) -> Iterator[Layer]:
    """A picture by its middle and lower edge, where the frame shows it."""
    height, width = sprite.size
    ring = self.pixels(self.scene.ring)
    left = (self.pixels(middle - camera) - width // 2) % ring
    if left + width > ring:
      left -= ring  # It enters on the left side.
    if left < self.width and left + width > 0:
      yield Layer(sprite, self.pixels(bottom) - height, left, owner)
