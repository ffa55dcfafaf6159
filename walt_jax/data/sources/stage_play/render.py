"""Draws a scene: uint8 frames of any size and number."""
import itertools

import numpy as np

from walt_jax.data.sources.stage_play import layers as layers_lib
from walt_jax.data.sources.stage_play import scenery
from walt_jax.data.sources.stage_play import scenes
from walt_jax.data.sources.stage_play import sprites

Box = tuple[float, float, float, float]
FINE = 128  # Rows that smaller frames are averaged from.


def factor(height: int) -> int:
  """How many rows are averaged to one."""
  return max(1, -(-FINE // height))


def view_of(height: int, width: int) -> int:
  """The width of a frame, in ticks."""
  return width * scenes.UNITS * scenes.TICKS // height


def render(scene: scenes.Scene, height: int, width: int,
           num_frames: int) -> np.ndarray:
  """Draws uint8 [T, height, width, 3].

  Frames of less than 128 rows are means of larger ones, so that the frames of
  32 and 64 rows are exactly those of 128 made smaller.
  """
  times = factor(height)
  stage = layers_lib.Stage(scene, times * height, times * width)
  frames = [stage.frame(number) for number in range(num_frames)]
  back = scenery.sky(scene.place, scene.light, scene.hills, stage.height,
                     stage.width).copy()
  still = _shared(frames)
  for layer in frames[0][:still]:
    _paint(back, layer)
  video = np.empty((num_frames, stage.height, stage.width, 3), np.uint8)
  video[:] = back
  for image, layers in zip(video, frames, strict=True):
    for layer in layers[still:]:
      _paint(image, layer)
  return video if times == 1 else _shrink(video, times)


def _shared(frames: list[list[layers_lib.Layer]]) -> int:
  """How many of the farthest pictures are the same in all frames."""
  first = frames[0]
  for count in itertools.count():
    if any(len(layers) <= count or not _is_same(layers[count], first[count])
           for layers in frames):
      return count
  raise AssertionError


def _is_same(one: layers_lib.Layer, other: layers_lib.Layer) -> bool:
  return (one.top, one.left) == (other.top, other.left) and (
      one.sprite is other.sprite or (
          one.sprite.add.base is not None
          and one.sprite.add.base is other.sprite.add.base
          and one.sprite.add.ctypes.data == other.sprite.add.ctypes.data))


def _paint(image: np.ndarray, layer: layers_lib.Layer) -> None:
  """Lays a picture over a frame, cut at its borders."""
  place = _cut(layer, image.shape[0], image.shape[1])
  if place is None:
    return
  rows, columns, own_rows, own_columns = place
  sprite = layer.sprite
  if sprite.solid is not None:
    image[rows, columns] = sprite.solid[own_rows, own_columns]
  else:
    sprites.paint(image[rows, columns], sprite.add[own_rows, own_columns],
                  sprite.keep[own_rows, own_columns])


def _cut(layer: layers_lib.Layer, height: int, width: int
         ) -> tuple[slice, slice, slice, slice] | None:
  """Rows and columns of the frame, and of the picture, that meet."""
  rows, columns = layer.sprite.size
  top, left = max(0, layer.top), max(0, layer.left)
  bottom, right = (min(height, layer.top + rows),
                   min(width, layer.left + columns))
  if top >= bottom or left >= right:
    return None
  return (slice(top, bottom), slice(left, right),
          slice(top - layer.top, bottom - layer.top),
          slice(left - layer.left, right - layer.left))


def _shrink(video: np.ndarray, times: int) -> np.ndarray:
  """Means of [T, times * H, times * W, 3] over squares of pixels."""
  total = np.zeros((video.shape[0], video.shape[1] // times, video.shape[2],
                    3), np.uint16)
  for row in range(times):
    total += video[:, row::times]
  sums = total[:, :, ::times].astype(np.uint32)
  for column in range(1, times):
    sums += total[:, :, column::times]
  return ((sums + times * times // 2) // (times * times)).astype(np.uint8)


def visible(scene: scenes.Scene, height: int, width: int, number: int
            ) -> list[tuple[float, Box | None]]:
  """What is seen of each actor in a frame.

  Returns:
    For each part: which fraction of its picture neither lies outside of the
    frame nor behind another, and the box of all of it (top, left, height,
    width) in pixels of the frame, or None where it is outside.
  """
  times = factor(height)
  stage = layers_lib.Stage(scene, times * height, times * width)
  shown = [np.zeros((stage.height, stage.width)) for _ in scene.parts]
  whole = [0.0] * len(shown)
  boxes: list[Box | None] = [None] * len(shown)
  for layer in stage.frame(number):
    alpha = (255.0 - layer.sprite.keep[..., 0]) / 255
    place = _cut(layer, stage.height, stage.width)
    if layer.owner != layers_lib.NOBODY:
      whole[layer.owner] = alpha.sum()
      boxes[layer.owner] = _box(layer, alpha, times)
    if place is None:
      continue
    rows, columns, own_rows, own_columns = place
    for mine in shown:
      mine[rows, columns] *= 1 - alpha[own_rows, own_columns]
    if layer.owner != layers_lib.NOBODY:
      shown[layer.owner][rows, columns] = alpha[own_rows, own_columns]
  return [(float(mine.sum() / all_) if all_ else 0.0, box)
          for mine, all_, box in zip(shown, whole, boxes, strict=True)]


def _box(layer: layers_lib.Layer, alpha: np.ndarray, times: int) -> Box:
  rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
  return ((layer.top + int(rows[0])) / times,
          (layer.left + int(columns[0])) / times,
          (int(rows[-1]) + 1 - int(rows[0])) / times,
          (int(columns[-1]) + 1 - int(columns[0])) / times)
