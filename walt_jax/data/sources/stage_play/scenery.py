"""What does not play: sky, hills, ground, props, walls and ladders."""
import functools
import math

import numpy as np

from walt_jax.data.sources.stage_play import draws
from walt_jax.data.sources.stage_play import places
from walt_jax.data.sources.stage_play import sprites

_UNITS = 32
HILL_SPEEDS = (4, 2)  # The camera's speed over those of far and near hills.
_HORIZON = 26  # Units from the top.


@functools.lru_cache(maxsize=64)
def sky(place: str, light: str, seed: int, height: int,
        width: int) -> np.ndarray:
  """The sky with its sun or moon, uint8 [height, width, 3]."""
  choose = draws.Draws('sky', seed)
  top, bottom = (places.BY_NAME[place].sky if light == 'day' else
                 places.NIGHT_SKY)
  down = np.minimum(np.arange(height)[:, None] * _UNITS, _HORIZON * height)
  colours = (np.array(top) * (_HORIZON * height - down)
             + np.array(bottom) * down) // (_HORIZON * height)
  image = np.repeat(colours[:, None], width, axis=1).astype(np.uint8)
  spots = []  # (row, column, radius), in 64ths of a unit, and a colour.
  across = width * _UNITS * 64 // height
  if light == 'night':
    spots += [(choose.below(f'star {i} y', 18 * 64),
               choose.below(f'star {i} x', across), 18, places.STAR)
              for i in range(10 * across // (_UNITS * 64) + 4)]
  spots.append((
      choose.between('sun y', 4 * 64, 6 * 64),
      choose.between('sun x', 4 * 64, max(4 * 64, across - 4 * 64)),
      160 if light == 'day' else 128,
      places.SUN if light == 'day' else places.MOON))
  for row, column, radius, colour in spots:
    _spot(image, row, column, radius, colour)
  image.setflags(write=False)
  return image


def _spot(image: np.ndarray, row: int, column: int, radius: int,
          colour: places.Colour) -> None:
  """A disc with a smooth edge; lengths are 64ths of a unit."""
  height, width = image.shape[:2]
  scale = height / (_UNITS * 64)
  y, x, r = row * scale, column * scale, max(radius * scale, 0.5)
  rows = slice(max(0, int(y - r - 1)), min(height, int(y + r + 2)))
  columns = slice(max(0, int(x - r - 1)), min(width, int(x + r + 2)))
  # Sixteen places in each pixel.
  fine = (np.arange(4) + 0.5) / 4
  dy = (np.arange(rows.start, rows.stop)[:, None] + fine).reshape(-1, 1) - y
  dx = (np.arange(columns.start, columns.stop)[:, None] + fine).reshape(
      1, -1) - x
  inside = dy * dy + dx * dx < r * r
  cover = inside.reshape(len(dy) // 4, 4, -1, 4).sum(axis=(1, 3))
  alpha = (cover * 255 // 16).astype(np.uint16)[..., None]
  sprites.paint(image[rows, columns], np.array(colour, np.uint16) * alpha,
                255 - alpha)


@functools.lru_cache(maxsize=128)
def hills(place: str, light: str, seed: int, layer: int, height: int,
          ring: int) -> sprites.Sprite:
  """A row of hills, as wide as the ring of the world.

  Args:
    place: Name of the place.
    light: 'day' or 'night'.
    seed: Seed of their form.
    layer: 0 for the far ones, 1 for the near ones.
    height: Pixels of the frame, in units of which all is.
    ring: Pixels after which they repeat.
  """
  choose = draws.Draws('hills', seed, layer)
  colour = places.BY_NAME[place].hills[layer]
  if light == 'night':
    colour = places.lit(colour, places.NIGHT_SCENERY)
  at = (np.arange(ring) + 0.5) / ring
  form = np.zeros(ring)
  for turns, size in ((2, 1.0), (3, 0.7), (5, 0.35)):
    phase = choose.below(f'phase {turns}', 1 << 16) / (1 << 16)
    form += size * np.sin(2 * math.pi * (turns * at + phase))
  middle, swing = ((17, 2.2), (21, 1.6))[layer]
  # Of the column's pixels, 255ths that are above the hill.
  above = np.rint((middle - swing * form) * height * 255 / _UNITS).astype(int)
  rows = height * _HORIZON // _UNITS + 1
  cover = np.clip(255 * (np.arange(rows)[:, None] + 1) - above, 0, 255)
  alpha = cover.astype(np.uint16)[..., None]
  return sprites.Sprite(np.array(colour, np.uint16) * alpha, 255 - alpha)


def slice_of(strip: sprites.Sprite, left: int, width: int) -> sprites.Sprite:
  """The part of a row that repeats which begins at a column."""
  ring = strip.size[1]
  columns = (left + np.arange(width)) % ring
  if columns[-1] >= columns[0]:
    part = slice(columns[0], columns[-1] + 1)
    return sprites.Sprite(
        strip.add[:, part], strip.keep[:, part],
        None if strip.solid is None else strip.solid[:, part])
  return sprites.Sprite(
      strip.add[:, columns], strip.keep[:, columns],
      None if strip.solid is None else strip.solid[:, columns])


@functools.lru_cache(maxsize=128)
def ground(place: str, light: str, height: int, rows: int,
           ring: int) -> sprites.Sprite:
  """The ground, as wide as the ring of the world.

  Args:
    place: Name of the place.
    light: 'day' or 'night'.
    height: Pixels of the frame.
    rows: Pixels of the ground that are seen.
    ring: Pixels after which it repeats, about four tiles to a frame's height.
  """
  tiles = round(ring * 4 / height)
  name = places.BY_NAME[place].ground
  side = -(-height // 4)
  pieces = []
  for number in range(tiles):
    left, right = number * ring // tiles, (number + 1) * ring // tiles
    tile = sprites.sprite(name, side, right - left, light=scenery_light(light))
    pieces.append(tile.add[:rows] // 255)
  solid = np.concatenate(pieces, axis=1).astype(np.uint8)
  keep = np.zeros((*solid.shape[:2], 1), np.uint16)
  return sprites.Sprite(solid * np.uint16(255), keep, solid)


def scenery_light(light: str) -> places.Colour:
  """What is left of the colours of tiles and props."""
  return places.DAY if light == 'day' else places.NIGHT_SCENERY


def actors_light(light: str) -> places.Colour:
  """What is left of the colours of those that play."""
  return places.DAY if light == 'day' else places.NIGHT_ACTORS
