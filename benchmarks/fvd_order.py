"""Does FVD rise with what makes clips worse, and how much does the way of
measuring it matter? Both on the same real clips.

  python -m benchmarks.fvd_order --clips $WALT_TEST_DATA/ucf101 --out runs/order

Prints the tables of docs/measurements/evaluation.md. Features are kept in
--out, from which an interrupted run continues.
"""
import argparse
import collections
from collections.abc import Callable
import io
import json
import pathlib

import numpy as np
from PIL import Image
import scipy.ndimage

from walt_jax.core import files
from walt_jax.core import moments as moments_lib
from walt_jax.media import decode
from walt_jax.metrics import frechet
from walt_jax.metrics import kernel
from walt_jax.metrics import video_features

_FRAMES = 16
_SIZE = 128


def blur(clip: np.ndarray, sigma: float, seed: int) -> np.ndarray:
  """Gaussian blur of each frame; sigma in pixels."""
  del seed
  blurred = scipy.ndimage.gaussian_filter(
      clip.astype(np.float32), (0, sigma, sigma, 0))
  return np.rint(blurred).astype(np.uint8)


def noise(clip: np.ndarray, std: float, seed: int) -> np.ndarray:
  """Gaussian noise, new in each frame; std in 0..255."""
  rng = np.random.default_rng(seed)
  noisy = clip + rng.normal(0, std, clip.shape)
  return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def shuffle(clip: np.ndarray, window: float, seed: int) -> np.ndarray:
  """Frames in another order within windows of so many."""
  rng, size = np.random.default_rng(seed), int(window)
  order = np.concatenate([
      first + _derangement(rng, min(size, len(clip) - first))
      for first in range(0, len(clip), size)])
  return clip[order]


def _derangement(rng: np.random.Generator, count: int) -> np.ndarray:
  """A permutation that leaves no place as it was (but a single one)."""
  while True:
    order = rng.permutation(count)
    if count == 1 or (order != np.arange(count)).all():
      return order


def freeze(clip: np.ndarray, count: float, seed: int) -> np.ndarray:
  """The last so many frames repeat the one before them."""
  del seed
  last = len(clip) - 1 - int(count)
  return clip[np.minimum(np.arange(len(clip)), last)]


DISTORTIONS: dict[str, tuple[Callable, tuple[float, ...], str]] = {
    'blur': (blur, (1, 2, 4), 'sigma {:g} pixels'),
    'noise': (noise, (8, 24, 64), 'std {:g} of 255'),
    'shuffled frames': (shuffle, (2, 4, 16), 'within windows of {:g}'),
    'frozen frames': (freeze, (4, 8, 15), 'last {:g} of 16'),
}


def compress(clip: np.ndarray, quality: int) -> np.ndarray:
  """Each frame through JPEG."""
  frames = []
  for frame in clip:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, 'JPEG', quality=quality)
    frames.append(np.asarray(Image.open(file)))
  return np.stack(frames)


def read_clips(folder: pathlib.Path, per_class: int) -> np.ndarray:
  """The middle of each `v_CLASS_*` video: uint8 [N, 16, 128, 128, 3]."""
  clips: list[np.ndarray] = []
  seen: collections.Counter[str] = collections.Counter()
  for path in sorted(folder.iterdir()):
    name = path.name.split('_')[1:2]
    if path.suffix not in decode.VIDEO_SUFFIXES or seen[str(name)] >= per_class:
      continue
    seen[str(name)] += 1
    frames = decode.read_clip(path)
    first = (len(frames) - _FRAMES) // 2
    frames = frames[first:first + _FRAMES]
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    clips.append(np.stack([
        np.asarray(Image.fromarray(
            frame[top:top + side, left:left + side]).resize(
                (_SIZE, _SIZE), Image.Resampling.BICUBIC))
        for frame in frames]))
  return np.stack(clips)


class Features:
  """Features by set and preprocessing, kept in a folder."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._networks: dict[str, video_features.VideoNetwork] = {}
    folder.mkdir(parents=True, exist_ok=True)

  def of(self, name: str, clips: Callable[[], np.ndarray],
         preprocessing: str = video_features.PREPROCESSING) -> np.ndarray:
    """[N, 400] of the clips that `clips()` makes."""
    path = self._folder / f'{name}-{preprocessing}.npy'.replace(' ', '_')
    if not path.is_file():
      if preprocessing not in self._networks:
        self._networks[preprocessing] = video_features.load_network(
            preprocessing=preprocessing)
      found = self._networks[preprocessing].features(clips(), label=name)
      files.write_bytes(path, _npy(found))
    return np.load(path)


def _npy(array: np.ndarray) -> bytes:
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


def fvd(a: np.ndarray, b: np.ndarray, **variant) -> float:
  """Frechet distance of features [N, 400]."""
  return frechet.frechet_distance(
      moments_lib.Moments.of(a), moments_lib.Moments.of(b), **variant)


def order_table(clips: np.ndarray, features: Features) -> list[dict]:
  """FVD and KVD of each distortion and strength, weakest first."""
  real, rows = features.of('real', lambda: clips), []
  for name, (distort, strengths, label) in DISTORTIONS.items():
    for strength in strengths:
      found = features.of(f'{name} {strength:g}', lambda d=distort, s=strength:
                          np.stack([d(c, s, i) for i, c in enumerate(clips)]))
      rows.append(dict(
          distortion=name, strength=label.format(strength),
          fvd=fvd(real, found),
          kvd=kernel.kernel_distance(real, found).value))
  return rows


def is_monotonic(rows: list[dict], score: str,
                 start: float) -> dict[str, bool]:
  """Whether each distortion's score rises with its strength, from `start`."""
  found = {}
  for name in DISTORTIONS:
    values = [start] + [r[score] for r in rows if r['distortion'] == name]
    found[name] = bool((np.diff(values) > 0).all())
  return found


def variant_table(clips: np.ndarray, features: Features) -> list[dict]:
  """One comparison, real against blur of 2 pixels, measured in many ways."""
  blurred = lambda: np.stack([blur(clip, 2, 0) for clip in clips])
  sets = {
      name: (features.of('real', lambda: clips, name),
             features.of('blur 2', blurred, name))
      for name in video_features.PREPROCESSINGS}
  a, b = sets[video_features.PREPROCESSING]
  jpeg = features.of('jpeg 75', lambda: np.stack(
      [compress(clip, 75) for clip in clips]))
  half = len(a) // 2
  rows = [('TF1 resizing to 224, covariance / (N - 1): ours, MAGVIT',
           fvd(a, b)),
          ('covariance / N', fvd(a, b, covariance='biased')),
          ("SciPy's sqrtm", fvd(a, b, root='sqrtm')),
          ('half-pixel resizing to 224',
           fvd(*sets[video_features.PREPROCESSING_TORCH])),
          ('half-pixel, covariance / N, sqrtm: StyleGAN-V',
           fvd(*sets[video_features.PREPROCESSING_TORCH],
               covariance='biased', root='sqrtm')),
          ('TF1 resizing to 64, then to 224: MAGVIT on K600',
           fvd(*sets[video_features.PREPROCESSING_64])),
          ('TF1 real against half-pixel blurred: two scripts mixed',
           fvd(a, sets[video_features.PREPROCESSING_TORCH][1])),
          ('half as many clips', fvd(a[:half], b[:half])),
          ('real clips against themselves, resized two ways',
           fvd(a, sets[video_features.PREPROCESSING_TORCH][0])),
          ('real clips against themselves as JPEG 75', fvd(a, jpeg)),
          ('the first half of the real clips against the second: other '
           'classes',
           fvd(a[:half], a[half:]))]
  return [dict(way=way, fvd=value) for way, value in rows]


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--clips', required=True, type=pathlib.Path)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--per_class', type=int, default=1000)
  args = parser.parse_args()
  clips = read_clips(args.clips, args.per_class)
  features = Features(args.out)
  order = order_table(clips, features)
  real = features.of('real', lambda: clips)
  # Unbiased for independent sets; the same clips twice give less than 0.
  lowest_kvd = kernel.kernel_distance(real, real).value
  result = dict(
      clips=len(clips), order=order,
      rises=is_monotonic(order, 'fvd', 0.0), kvd_of_itself=lowest_kvd,
      kvd_rises=is_monotonic(order, 'kvd', lowest_kvd),
      ways=variant_table(clips, features))
  text = json.dumps(result, indent=1)
  (args.out / 'order.json').write_text(text + '\n')
  print(text)


if __name__ == '__main__':
  main()
