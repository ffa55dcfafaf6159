"""Bytes and error of what is stored, by codec: docs/data.md.

  python -m benchmarks.stored_codecs --input VIDEOS .. [--size 128]

Cuts each video into clips as `walt data prepare` does, stores them
with each lossy codec at the default quality, reads them back, and compares
frames with those that went in. Writes benchmarks/results/stored_codecs.json,
a row a set and codec.
"""
import argparse
import functools
import pathlib

import numpy as np

from benchmarks import harness
from walt_jax.core import pixels
from walt_jax.data.prepare import work_items
from walt_jax.data.storage import codecs
from walt_jax.data.storage import frames as frames_lib
from walt_jax.media import decode

_CODECS = ('jpeg', 'h264')


def measure(folder: str, size: int) -> dict[str, harness.Row]:
  """Bytes a frame and PSNR of the frames that lossy codecs give back."""
  settings = work_items.Settings(size=size)
  cover = functools.partial(pixels.cover, height=size, width=size)
  stored = dict.fromkeys(_CODECS, 0)
  errors: dict[str, list[np.ndarray]] = {codec: [] for codec in _CODECS}
  for path in sorted(pathlib.Path(folder).iterdir()):
    info, stream = decode.read_frames(path, size=cover)
    for clip in frames_lib.cut(stream, settings.clip_frames,
                               settings.clip_frames, settings.min_frames):
      for codec in _CODECS:
        encoded = codecs.encode_clip(clip, codec, settings.quality, info.fps)
        stored[codec] += sum(map(len, encoded))
        shown = (codecs.decode_frames(encoded)
                 if codec in codecs.FRAME_CODECS else
                 codecs.decode_video(encoded[0], np.arange(len(clip))))
        errors[codec].append(
            np.square(shown.astype(np.float32) - clip).mean((1, 2, 3)))
  rows = {}
  for codec, parts in errors.items():
    mse = np.concatenate(parts)
    psnr = 10 * np.log10(255**2 / mse)
    rows[codec] = dict(
        size=size, quality=settings.quality, frames=len(mse),
        bytes_per_frame=round(stored[codec] / len(mse)),
        psnr_mean=round(float(psnr.mean()), 2),
        psnr_quartiles=np.quantile(psnr, (0.25, 0.75)).round(2).tolist(),
        psnr_of_mean_error=round(
            float(10 * np.log10(255**2 / mse.mean())), 2))
  return rows


def main() -> None:
  """Measures each folder."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--input', required=True, nargs='+', metavar='DIR')
  parser.add_argument('--size', type=int, default=128)
  args = parser.parse_args()
  rows = {}
  for folder in args.input:
    for codec, row in measure(folder, args.size).items():
      rows[f'{pathlib.Path(folder).name}, {codec}'] = row
  for name, row in rows.items():
    print(f'{name}: {row}')
  harness.write('stored_codecs', rows)


if __name__ == '__main__':
  main()
