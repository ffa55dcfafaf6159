"""Moving digits: real handwritten digits over textured backgrounds.

The data of the quickstart and of the tests, generated with no download. A
scene is described in units of 1/32 of the frame, so that the same index shows
the same scene at any size and any length: a larger clip only has finer detail
(smooth digit edges, fine background texture), a longer one only continues.

The world is a torus with the period of the frame: a digit that leaves on one
side enters on the other, so that its direction stays defined in clips of any
length. The first 17 frames never cross the border.

Where the exemplars go. scikit-learn's 1797 digits were written by 13 people
and seem to be stored one after the other. Within each digit, counted in that
order, every 18 exemplars give 10 to `train` (1000 in all), 3 to `heldout` and
5 to `reader`. The three sets share no exemplar, but they do share writers:
what is held out are exemplars, not handwritings. A reader that knows every
hand is somewhat better (logistic regression on the exemplars: 94% as split,
90-92% when fitted to the first or last third and read on the rest), so that
its errors say less about handwriting and more about the clips it is to judge.

Difficulties (`DIFFICULTIES`): `quick` moves digits exactly 1 pixel a frame (at
32 pixels) from edge to edge on three lanes over four fixed backgrounds; `free`
draws lane, speed, start and background afresh for each scene. Such backgrounds
have the same contrast, but are coarser (waves of 15 to 33 units, not 9 to 20):
what a model has not seen before must not look like a stroke.
"""
from collections.abc import Sequence
import dataclasses
import functools
from importlib import metadata

import numpy as np

from walt_jax.core import extras

WORDS = ('zero', 'one', 'two', 'three', 'four',
         'five', 'six', 'seven', 'eight', 'nine')
DIRECTIONS = ('left', 'right', 'up', 'down')
FPS = 8.0

UNITS = 32  # Extent of the frame.
DIGIT_UNITS = 16  # Extent of a digit's box: half the frame.
BACKGROUND_STD = 0.18  # Of luminance, as a fraction of the range.
BACKGROUND_MEAN = 0.36
INK = (1.0, 1.0, 0.92)
_FRESH_FREQUENCY = 0.6  # Of fresh backgrounds, as a part of the fixed ones'.

_EXEMPLAR_CELLS = 8
_SPLITS = {'train': range(0, 10), 'heldout': range(10, 13),
           'reader': range(13, 18)}  # Rank within the digit, modulo 18.
_SPLIT_PERIOD = 18
_CANONICAL_SIZE = 128  # Scenes have detail down to a pixel of this frame.
_CLIP_FRAMES = 17  # A path crosses no border within this many frames.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Difficulty:
  """What is fixed in all scenes; None means drawn afresh for each.

  Attributes:
    lanes: Offsets of the digit's box across its motion, in units.
    speed: Units a frame; None draws from [0.5, 1].
    num_backgrounds: Number of fixed backgrounds.
  """
  lanes: tuple[int, ...] | None
  speed: float | None
  num_backgrounds: int | None


DIFFICULTIES = {
    'quick': Difficulty(lanes=(0, 8, 16), speed=1.0, num_backgrounds=4),
    'free': Difficulty(lanes=None, speed=None, num_backgrounds=None),
}


@dataclasses.dataclass(frozen=True)
class Truth:
  """What the generator knows of one clip.

  Attributes:
    digit: 0..9.
    direction: Index into DIRECTIONS.
    lane: Offset of the box across its motion, in pixels.
    speed: Pixels a frame.
    background: Index of the fixed background, or None for a fresh one.
    boxes: float [T, 4], (top, left, height, width) of the digit's box in
      pixels; top and left in [0, size), boxes wrap around the frame.
  """
  digit: int
  direction: int
  lane: float
  speed: float
  background: int | None
  boxes: np.ndarray


def caption(digit: int, direction: int) -> str:
  """The caption of a scene: 'a seven moves left', 'an eight moves up'."""
  article = 'an' if digit == 8 else 'a'
  return f'{article} {WORDS[digit]} moves {DIRECTIONS[direction]}'


def class_names(labels: str) -> tuple[str, ...]:
  """Names by label id: 'digit_direction' (digit * 4 + direction) or 'digit'."""
  if labels == 'digit':
    return WORDS
  if labels == 'digit_direction':
    return tuple(f'{word} {way}' for word in WORDS for way in DIRECTIONS)
  raise ValueError(
      f'Unknown labels {labels!r}: use "digit_direction" or "digit".')


def parse_name(text: str) -> tuple[int, int | None]:
  """Reads (digit, direction) back from a caption or a class name."""
  words = text.replace('_', ' ').split()
  digits = [WORDS.index(word) for word in words if word in WORDS]
  ways = [DIRECTIONS.index(word) for word in words if word in DIRECTIONS]
  if len(digits) != 1 or len(ways) > 1:
    raise ValueError(f'Names no moving digit: {text!r}.')
  return digits[0], ways[0] if ways else None


def paths(direction: int, *, size: int, num_frames: int,
          difficulty: str = 'quick') -> np.ndarray:
  """The boxes of every lane of a difficulty with fixed lanes and speed.

  Returns:
    float [lanes, T, 4], boxes as in `Truth`.
  """
  fixed = _difficulty(difficulty)
  if fixed.lanes is None or fixed.speed is None:
    raise ValueError(f'Difficulty {difficulty!r} has no fixed lanes.')
  start = _first_offset(direction, fixed.speed, slack=0.0)
  return np.stack([
      _boxes(direction, lane, start, fixed.speed, size, num_frames)
      for lane in fixed.lanes])


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
  """All exemplars: alpha float32 [N, 8, 8] in [0, 1], and digit [N].

  scikit-learn's file is read as it is: to import the package takes a second of
  every process, to read 1,797 lines a twentieth.
  """
  with extras.needed('digits', 'the data moving_digits', 'scikit-learn'):
    package = metadata.distribution('scikit-learn')
  file = package.locate_file('sklearn/datasets/data/digits.csv.gz')
  table = np.loadtxt(str(file), np.uint8, delimiter=',')
  alpha = (table[:, :-1] / 16).astype(np.float32).reshape(-1, 8, 8)
  return alpha, table[:, -1].astype(int)


@functools.cache
def _members(split: str) -> tuple[np.ndarray, ...]:
  _, digits = _digits()
  ranks = [np.flatnonzero(digits == digit) for digit in range(10)]
  wanted = _SPLITS[split]
  return tuple(rows[np.isin(np.arange(len(rows)) % _SPLIT_PERIOD, wanted)]
               for rows in ranks)


def exemplars(split: str) -> tuple[np.ndarray, np.ndarray]:
  """The split's handwritten digits: float32 [N, 8, 8] in [0, 1], int [N]."""
  if split not in _SPLITS:
    raise ValueError(f'Unknown split {split!r}: use {", ".join(_SPLITS)}.')
  alpha, digits = _digits()
  rows = np.sort(np.concatenate(_members(split)))
  return alpha[rows], digits[rows]


@dataclasses.dataclass(frozen=True)
class MovingDigits:
  """A source of moving digit clips with random access by index.

  Attributes:
    split: Whose exemplars: 'train', 'heldout' or 'reader'.
    num_examples: Length; example i does not depend on it.
    size: Pixels a side.
    num_frames: Frames a clip.
    difficulty: A key of DIFFICULTIES.
    labels: What the label ids name, see `class_names`.
    seed: Another seed gives other scenes of the same split.
  """
  split: str = 'train'
  num_examples: int = 2048
  size: int = 32
  num_frames: int = 17
  difficulty: str = 'quick'
  labels: str = 'digit_direction'
  seed: int = 0

  def __post_init__(self):
    if self.split not in _SPLITS:
      raise ValueError(
          f'Unknown split {self.split!r}: use {", ".join(_SPLITS)}.')
    _difficulty(self.difficulty)
    class_names(self.labels)
    if min(self.num_examples, self.num_frames) < 1 or self.size < 16:
      raise ValueError(
          'Moving digits need at least one example, one frame and 16 pixels, '
          f'got {self.num_examples}, {self.num_frames} and {self.size}.')

  @property
  def classes(self) -> tuple[str, ...]:
    return class_names(self.labels)

  def __len__(self) -> int:
    return self.num_examples

  def __getitem__(self, index: int) -> dict:
    """Returns video uint8 [T, size, size, 3], label, caption, fps and key."""
    scene = self._scene(index)
    label = scene.digit
    if self.labels == 'digit_direction':
      label = scene.digit * len(DIRECTIONS) + scene.direction
    return dict(video=_render(scene, self.size, self.num_frames),
                label=label, caption=caption(scene.digit, scene.direction),
                fps=FPS, key=f'{self.split}-{index:06d}')

  def truth(self, index: int) -> Truth:
    """What was drawn in clip `index`, and where."""
    scene = self._scene(index)
    scale = self.size / UNITS
    return Truth(
        digit=scene.digit, direction=scene.direction,
        lane=scene.lane * scale, speed=scene.speed * scale,
        background=scene.background,
        boxes=_boxes(scene.direction, scene.lane, scene.start, scene.speed,
                     self.size, self.num_frames))

  def _scene(self, index: int) -> '_Scene':
    if not 0 <= index < self.num_examples:
      raise IndexError(f'Example {index} of {self.num_examples}.')
    fixed = _difficulty(self.difficulty)
    rng = np.random.default_rng(
        [self.seed, list(_SPLITS).index(self.split), index])
    # 13 is prime to 40: any 40 neighbours show every digit and direction.
    digit, direction = divmod(13 * index % 40, len(DIRECTIONS))
    exemplar = int(rng.choice(_members(self.split)[digit]))
    if fixed.lanes is None:
      lane = rng.uniform(0, UNITS - DIGIT_UNITS)
    else:
      lane = float(rng.choice(fixed.lanes))
    speed = rng.uniform(0.5, 1.0) if fixed.speed is None else fixed.speed
    start = _first_offset(direction, speed, slack=rng.uniform())
    if fixed.num_backgrounds is None:
      background = None
    else:
      background = int(rng.integers(fixed.num_backgrounds))
    return _Scene(digit, direction, exemplar, lane, speed, start, background,
                  int(rng.integers(2**31)))


@dataclasses.dataclass(frozen=True)
class _Scene:
  digit: int
  direction: int
  exemplar: int
  lane: float  # Units, as the next two.
  speed: float
  start: float
  background: int | None
  background_seed: int


def _difficulty(name: str) -> Difficulty:
  if name not in DIFFICULTIES:
    raise ValueError(
        f'Unknown difficulty {name!r}: use {", ".join(DIFFICULTIES)}.')
  return DIFFICULTIES[name]


def _first_offset(direction: int, speed: float, slack: float) -> float:
  """Where a path starts so that 17 frames of it stay inside, in units."""
  room = UNITS - DIGIT_UNITS
  offset = slack * (room - speed * (_CLIP_FRAMES - 1))
  return offset if DIRECTIONS[direction] in ('right', 'down') else room - offset


def _offsets(direction: int, start: float, speed: float,
             num_frames: int) -> np.ndarray:
  """Offsets along the motion, [T] in [0, UNITS)."""
  sign = 1 if DIRECTIONS[direction] in ('right', 'down') else -1
  return (start + sign * speed * np.arange(num_frames)) % UNITS


def _boxes(direction: int, lane: float, start: float, speed: float, size: int,
           num_frames: int) -> np.ndarray:
  moving = _offsets(direction, start, speed, num_frames)
  still = np.full(num_frames, lane, float)
  side = np.full(num_frames, DIGIT_UNITS, float)
  horizontal = DIRECTIONS[direction] in ('left', 'right')
  first, second = (still, moving) if horizontal else (moving, still)
  return np.stack([first, second, side, side], axis=1) * (size / UNITS)


def _integrate_to(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
  """Integrals from 0 of a piecewise constant function, zero past its end.

  Written with cumulative sums: small matrix products would do the same, but
  wake up a BLAS that spins on all cores.

  Args:
    values: [..., K], one a cell.
    ends: [...] >= 0, in cells.

  Returns:
    float64 [(front of values), (shape of ends)].
  """
  total = np.zeros((*values.shape[:-1], values.shape[-1] + 2))
  np.cumsum(values, axis=-1, out=total[..., 1:-1])
  total[..., -1] = total[..., -2]
  cells = np.minimum(np.floor(ends), values.shape[-1]).astype(int)
  part = np.clip(ends - cells, 0, 1)
  low = total[..., cells]
  return low + part * (total[..., cells + 1] - low)


def _cover(values: np.ndarray, offsets: np.ndarray, cell: float,
           size: int) -> np.ndarray:
  """Mean over each pixel of a row of cells on a torus, zero elsewhere.

  Args:
    values: [..., K].
    offsets: [T] where the row of cells starts, in pixels.
    cell: Extent of a cell in pixels; the row is shorter than the frame.
    size: Pixels, S.

  Returns:
    float32 [..., T, S].
  """
  edges = np.arange(size + 1) - offsets[:, None]
  turns = np.floor(edges / size)
  covered = _integrate_to(values, (edges - turns * size) / cell)
  whole = values.sum(axis=-1, dtype=float)[..., None, None] * turns
  share = np.diff(covered + whole, axis=-1) * cell
  return np.where(share > 1e-9, share, 0).astype(np.float32)


@functools.cache
def _enlarge(cells: int) -> np.ndarray:
  """Catmull-Rom interpolation of 8 exemplar cells, zeros outside: [K, 8]."""
  where = (np.arange(cells) + 0.5) * _EXEMPLAR_CELLS / cells - 0.5
  x = np.abs(where[:, None] - np.arange(_EXEMPLAR_CELLS))
  near = 1.5 * x**3 - 2.5 * x**2 + 1
  far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
  return np.where(x < 1, near, np.where(x < 2, far, 0)).astype(np.float32)


def _sprite(exemplar: int, cells: int) -> np.ndarray:
  """A digit's opacity with smooth edges, float32 [K, K] in [0, 1]."""
  alpha, _ = _digits()
  enlarge = _enlarge(cells)
  large = np.einsum('ia,ab->ib', enlarge, alpha[exemplar])
  large = np.einsum('ib,jb->ij', large, enlarge)
  ink = np.clip((large - 0.2) / 0.5, 0, 1)
  return ink * ink * (3 - 2 * ink)


def _render(scene: _Scene, size: int, num_frames: int) -> np.ndarray:
  """Draws uint8 [T, size, size, 3]; every pixel is the mean over its area."""
  cells = max(_CANONICAL_SIZE, size) * DIGIT_UNITS // UNITS
  # Below, the motion is along the second image axis; transposed if it is not.
  horizontal = DIRECTIONS[scene.direction] in ('left', 'right')
  if scene.background is None:
    background = _background(scene.background_seed, size)
  else:
    background = _fixed_background(scene.background, size)
  sprite = _sprite(scene.exemplar, cells)
  if not horizontal:
    sprite, background = sprite.T, background.transpose(1, 0, 2)
  scale = size / UNITS
  cell = DIGIT_UNITS * scale / cells
  across = _cover(sprite.T, np.array([scene.lane * scale]), cell, size)[:, 0].T
  lane = slice(*(np.flatnonzero(across.any(axis=1))[[0, -1]] + (0, 1)))
  moving = _offsets(scene.direction, scene.start, scene.speed, num_frames)
  alpha = _cover(across[lane], moving * scale, cell, size)
  alpha = alpha.transpose(1, 0, 2)[..., None]  # [T, lane, S, 1].
  backdrop = background[lane]
  ink = np.asarray(INK, np.float32) * 255 - backdrop
  video = np.empty((num_frames, *background.shape), np.uint8)
  video[:] = np.rint(background)
  video[:, lane] = np.rint(backdrop + alpha * ink)
  if not horizontal:
    video = np.ascontiguousarray(video.transpose(0, 2, 1, 3))
  return video


@functools.lru_cache(maxsize=64)
def _fixed_background(number: int, size: int) -> np.ndarray:
  return _background(number, size, kind=number % len(_PATTERNS))


def _waves(u: np.ndarray, v: np.ndarray, angle: float, wavelength: float,
           phase: float) -> np.ndarray:
  turn = 2 * np.pi / wavelength
  return np.sin(turn * (np.cos(angle) * u + np.sin(angle) * v) + phase)


def _stripes(u, v, draw):
  return _waves(u, v, draw[0] * np.pi, 9 + 6 * draw[1], 6.3 * draw[2])


def _checks(u, v, draw):
  angle, wavelength = draw[0] * np.pi, 14 + 6 * draw[1]
  return (_waves(u, v, angle, wavelength, 6.3 * draw[2])
          * _waves(u, v, angle + np.pi / 2, wavelength, 6.3 * draw[3]))


def _rings(u, v, draw):
  radius = np.hypot(u - UNITS * draw[0], v - UNITS * draw[1])
  return np.sin(2 * np.pi * radius / (9 + 6 * draw[2]) + 6.3 * draw[3])


def _blobs(u, v, draw):
  return (_waves(u, v, draw[0] * np.pi, 12 + 8 * draw[1], 6.3 * draw[2])
          + _waves(u, v, (draw[0] + 0.35) * np.pi, 12 + 8 * draw[3],
                   6.3 * draw[4]))


_PATTERNS = (_stripes, _checks, _rings, _blobs)


def _background(seed: int, size: int, kind: int | None = None) -> np.ndarray:
  """A still, textured, coloured frame, float32 [size, size, 3] in [0, 255].

  A coarse two-coloured pattern carries the contrast. Lines, only where it is
  bright, are detail to restore: frames of 32 pixels lose those a unit apart,
  frames of 64 pixels those half a unit apart.
  """
  rng = np.random.default_rng([seed, 71])
  draw = rng.uniform(size=6).astype(np.float32)
  middle, fine = rng.uniform(size=(2, 3)).astype(np.float32)
  tint = rng.permutation([1.1, 1.0, 0.94]).astype(np.float32)
  shade = rng.permutation([1.12, 1.0, 0.8]).astype(np.float32)
  fresh = kind is None
  if fresh:
    kind = int(rng.integers(len(_PATTERNS)))
  canonical = max(_CANONICAL_SIZE, size)
  axis = ((np.arange(canonical, dtype=np.float32) + 0.5)
          * np.float32(UNITS / canonical))
  v, u = axis[:, None], axis[None, :]
  frequency = np.float32(_FRESH_FREQUENCY if fresh else 1)
  pattern = _PATTERNS[kind](frequency * u, frequency * v, draw)
  pattern = (pattern - pattern.mean()) / pattern.std()
  lines = (
      _waves(u, v, middle[0] * np.pi, 0.9 + 0.5 * middle[1], 6.3 * middle[2])
      + _waves(u, v, fine[0] * np.pi, 0.54 + 0.12 * fine[1], 6.3 * fine[2]))
  lines = 0.12 * lines * np.clip(0.5 + pattern, 0, 1)
  bright = BACKGROUND_STD / (tint @ _LUMA)
  image = (BACKGROUND_MEAN * shade + (bright * tint) * pattern[..., None]
           + lines[..., None])
  image = np.clip(image, 0, 1) * np.float32(255)
  if canonical != size:
    for _ in range(2):  # Rows, then columns.
      image = _shrink(image.transpose(1, 2, 0), size)
      image = image.transpose(0, 2, 1)
  return image


def _shrink(values: np.ndarray, size: int) -> np.ndarray:
  """Means of [..., K] over S equal pixels, [..., S]."""
  cell = values.shape[-1] / size
  ends = np.arange(size + 1) * cell
  means = np.diff(_integrate_to(values, ends), axis=-1) / cell
  return means.astype(np.float32)


def centre(boxes: np.ndarray | Sequence) -> np.ndarray:
  """Centres (row, column) of boxes [..., 4], in pixels, not wrapped."""
  boxes = np.asarray(boxes)
  return boxes[..., :2] + boxes[..., 2:] / 2
