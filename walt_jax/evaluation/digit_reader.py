"""Does a clip show the digit and the motion that were asked for?

The readers see pixels alone, never the request. The direction is the one of
four whose motion, undone, makes the moving part of the clip sharpest. The
digit is read from that sharpened picture, wherever it lies: cut around its
centroid, down to 8x8 cells, classified by a support vector machine trained
on clips of the generator's `reader` exemplars, which no model is trained on.
"""
from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import numpy as np

from walt_jax.core import extras
from walt_jax.data.sources import moving_digits
from walt_jax.metrics import intervals

NO_DIRECTION = -1  # Nothing moves.

_SPEEDS = np.arange(0.4, 1.11, 0.1)  # Units a frame, a unit 1/32 of the frame.
_SIZE = 32  # Clips are read at this size.
_CELLS = 8
_FLOOR = 0.1  # Of the brightest point; less is not ink.
_MIN_MOTION = 1e-6  # Mean square of the moving part; still clips have less.
_TRAIN_CLIPS = 1000  # Of each difficulty.
_TRAIN_NOISE = 8.0  # Of 255.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Reading:
  """What the readers saw in N clips.

  Attributes:
    digit: int [N], 0..9.
    direction: int [N], index into `moving_digits.DIRECTIONS`, or
      NO_DIRECTION.
  """
  digit: np.ndarray
  direction: np.ndarray


class DigitReader:
  """Reads direction and digit of clips; made by `train_reader`."""

  def __init__(self, classifier: Any):
    self._classifier = classifier

  def read(self, clips: np.ndarray) -> Reading:
    """Reads clips uint8 [N, T, S, S, 3], S a multiple of 32."""
    direction, still = sharpen_motion(clips)
    return Reading(self._classifier.predict(_digit_cells(still)), direction)


@functools.cache
def train_reader() -> DigitReader:
  """Trains the digit reader; the same every time, in a few seconds."""
  with extras.needed('digits', 'reading digits', 'scikit-learn'):
    from sklearn import svm  # Slow to import.
  rng = np.random.default_rng(0)
  cells: list[np.ndarray] = []
  digits: list[int] = []
  for difficulty in ('quick', 'free'):
    source = moving_digits.MovingDigits(
        split='reader', num_examples=_TRAIN_CLIPS, size=_SIZE,
        difficulty=difficulty, seed=1)
    clips = np.stack([source[i]['video'] for i in range(len(source))])
    # Half of them as noisy as reconstructions are.
    noise = rng.normal(scale=_TRAIN_NOISE, size=clips[::2].shape)
    clips[::2] = np.clip(np.rint(clips[::2] + noise), 0, 255)
    cells.append(_digit_cells(sharpen_motion(clips)[1]))
    digits.extend(source.truth(i).digit for i in range(len(source)))
  classifier = svm.SVC(C=10.0, gamma=2.0)
  classifier.fit(np.concatenate(cells), np.asarray(digits))
  return DigitReader(classifier)


def sharpen_motion(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Finds the motion of what moves, from the pixels alone, and undoes it.

  What moves is the luminance above each pixel's minimum over time: digits are
  brighter than the still background. For every direction and speed the
  frames are shifted back and averaged; the right motion adds up to the
  picture of largest energy. Shifts wrap around, as digits do; they are phases
  of the Fourier transform along the motion.

  Args:
    clips: uint8 [N, T, S, S, 3], T >= 4, S a multiple of 32.

  Returns:
    direction: int [N], index into `moving_digits.DIRECTIONS` or NO_DIRECTION.
    still: float32 [N, 32, 32], the average of the shifted moving part, where
      it was at the first frame.
  """
  parts = [_sharpen(clips[i:i + 256]) for i in range(0, len(clips), 256)]
  direction, still = zip(*parts, strict=True)
  return np.concatenate(direction), np.concatenate(still)


def _sharpen(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  moving = _moving_part(clips)
  num_frames = moving.shape[1]
  waves = np.arange(_SIZE // 2 + 1)
  turns = (waves * _SPEEDS[:, None, None]
           * np.arange(num_frames)[:, None] / _SIZE)
  # Multiplying by exp(2 pi i k d / S) shifts back by d, as "right" and "down"
  # need; the conjugate is for "left" and "up".
  back = (np.exp(2j * np.pi * turns) / num_frames).astype(np.complex64)
  weight = np.full(len(waves), 2.0, np.float32)
  weight[[0, -1]] = 1.0  # Waves that a real signal's spectrum holds once.
  spectra, energies = [], []
  for frames in (moving, moving.transpose(0, 1, 3, 2)):
    spectrum = np.fft.rfft(frames, axis=3).astype(np.complex64)
    # [N, T, S, K] -> [K, N * S, T] @ [K, T, V]: a product for each wave.
    n, t, s, k = spectrum.shape
    rows = spectrum.transpose(3, 0, 2, 1).reshape(k, n * s, t)
    for phase in (back.conj(), back):  # Left, right; then up, down.
      summed = (rows @ phase.transpose(2, 1, 0)).reshape(k, n, s, -1)
      power = np.square(summed.real).sum(2) + np.square(summed.imag).sum(2)
      spectra.append(summed)
      energies.append(np.tensordot(weight, power, 1))
  energy = np.stack(energies, axis=1)  # [N, 4, V].
  best = energy.reshape(len(clips), -1).argmax(axis=1)
  direction, speed = np.divmod(best, len(_SPEEDS))
  chosen = np.stack([spectra[way][:, i, :, v].T for i, (way, v) in
                     enumerate(zip(direction, speed, strict=True))])
  still = np.fft.irfft(chosen, n=_SIZE, axis=-1).astype(np.float32)
  vertical = (direction >= 2)[:, None, None]
  still = np.where(vertical, still.transpose(0, 2, 1), still)
  moves = np.mean(moving ** 2, axis=(1, 2, 3)) > _MIN_MOTION
  return np.where(moves, direction, NO_DIRECTION), still


def _moving_part(clips: np.ndarray) -> np.ndarray:
  """Luminance above its minimum over time, float32 [N, T, 32, 32]."""
  clips = np.asarray(clips)
  if (clips.ndim != 5 or clips.dtype != np.uint8 or clips.shape[1] < 4
      or clips.shape[2] != clips.shape[3] or clips.shape[2] % _SIZE):
    raise ValueError(
        'The readers need uint8 [N, T >= 4, S, S, 3] with S a multiple of '
        f'{_SIZE}, got {clips.dtype} {clips.shape}.')
  light = clips.astype(np.float32) @ (_LUMA / 255)
  n, t, s, _ = light.shape
  block = s // _SIZE
  if block > 1:
    light = light.reshape(n, t, _SIZE, block, _SIZE, block).mean(axis=(3, 5))
  return light - light.min(axis=1, keepdims=True)


def _digit_cells(still: np.ndarray) -> np.ndarray:
  """Pictures [N, 32, 32] to unit vectors [N, 64]: cells of the digit's box.

  The box has the size of the generator's; its centre is the centroid.
  """
  side = moving_digits.DIGIT_UNITS * _SIZE / moving_digits.UNITS
  # Most of the frame is not digit: what is there is noise and background.
  floor = np.median(still, axis=(1, 2), keepdims=True)
  peak = still.max(axis=(1, 2), keepdims=True)
  still = np.maximum(still - floor - _FLOOR * (peak - floor), 0)
  light = still + 1e-9
  light = light / light.sum(axis=(1, 2), keepdims=True)
  middle = np.arange(_SIZE) + 0.5
  rows = _cell_shares(light.sum(axis=2) @ middle - side / 2, side / _CELLS)
  cols = _cell_shares(light.sum(axis=1) @ middle - side / 2, side / _CELLS)
  cells = (rows @ still @ cols.transpose(0, 2, 1)).reshape(len(still), -1)
  return cells / np.maximum(
      np.linalg.norm(cells, axis=1, keepdims=True), 1e-9)


def _cell_shares(start: np.ndarray, cell: float) -> np.ndarray:
  """Share of each pixel in each of 8 cells from `start` [N]: [N, 8, 32]."""
  low = start[:, None, None] + cell * np.arange(_CELLS)[:, None]
  pixel = np.arange(_SIZE)
  cover = np.minimum(low + cell, pixel + 1) - np.maximum(low, pixel)
  return np.clip(cover, 0, None) / cell


def score(reading: Reading, digits: Sequence[int] | np.ndarray,
          directions: Sequence[int | None] | np.ndarray) -> dict[str, Any]:
  """Accuracies of what was read against what was asked.

  Args:
    reading: Reading of N clips.
    digits: Asked digit of each clip.
    directions: Asked direction, or None where none was asked.

  Returns:
    {'digit': {accuracy, low, high, correct, total}, 'direction': the same, or
    None}; low and high are Wilson's 95% interval.
  """
  asked = np.asarray([-2 if d is None else d for d in directions])
  told = asked >= 0
  result = dict(digit=intervals.accuracy(
      int(np.sum(reading.digit == np.asarray(digits))), len(digits)),
                direction=None)
  if told.any():
    result['direction'] = intervals.accuracy(
        int(np.sum(reading.direction[told] == asked[told])), int(told.sum()))
  return result


def held_out_clips(
    count: int, *, size: int = 32, num_frames: int = 17,
    difficulty: str = 'quick', seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Real clips uint8 [N, T, S, S, 3] of held-out digits, digit, direction."""
  source = moving_digits.MovingDigits(
      split='heldout', num_examples=count, size=size, num_frames=num_frames,
      difficulty=difficulty, seed=seed)
  truths = [source.truth(i) for i in range(count)]
  return (np.stack([source[i]['video'] for i in range(count)]),
          np.array([truth.digit for truth in truths]),
          np.array([truth.direction for truth in truths]))


def reader_accuracy(
    reader: DigitReader, *, size: int, num_frames: int, count: int = 320,
    difficulty: str = 'quick',
    reconstruct: Callable[[np.ndarray], np.ndarray] | None = None
) -> dict[str, Any]:
  """What the readers themselves score, to be shown beside every result.

  Args:
    reader: Result of `train_reader`.
    size: Pixels a side of the clips that are scored.
    num_frames: Their frames.
    count: Real held-out clips.
    difficulty: Difficulty of the data.
    reconstruct: Maps clips to a tokenizer's reconstructions of them, or None.

  Returns:
    {'real': accuracies on real held-out clips, 'reconstruction': the same on
    their reconstructions, or None}.
  """
  clips, digits, directions = held_out_clips(
      count, size=size, num_frames=num_frames, difficulty=difficulty)
  result = dict(real=score(reader.read(clips), digits, directions),
                reconstruction=None)
  if reconstruct is not None:
    result['reconstruction'] = score(
        reader.read(reconstruct(clips)), digits, directions)
  return result
