"""Error and cost of encoding and decoding frames in tiles.

  python -m benchmarks.tiling --workdir TOKENIZER --real CLIPS [--tile 8]

Takes a few frames of each clip at their own size and compares tiles with the
whole frame: exact tiles (only with norm 'position') and blended ones, by
overlap. Errors are those of latents as shares of their deviation, and of
pixels in dB against the whole frame's decoding (not against the real clip).
"""
import argparse
import json
from typing import Any

import jax
import numpy as np

from walt_jax.builders import tokenizers
from walt_jax.core import pixels as pixels_lib
from walt_jax.evaluation import clip_sets
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import tiling


def _frames(path: str, clips: int, f_s: int, frames: int) -> np.ndarray:
  """Clips [N, frames, H, W, 3], cut to whole latent cells."""
  found = clip_sets.open_clips(path, frames=frames)
  chosen = [found[i] for i in range(min(clips, len(found)))]
  rows, columns = (extent // f_s * f_s for extent in chosen[0].shape[1:3])
  return np.stack([clip[:, :rows, :columns] for clip in chosen])


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
  error = np.square(np.clip(a, -1, 1) - np.clip(b, -1, 1)).mean()
  return float(-10 * np.log10(max(error / 4, 1e-10)))


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--real', required=True)
  parser.add_argument('--clips', type=int, default=4)
  parser.add_argument('--frames', type=int, default=5)
  parser.add_argument('--tile', type=int, default=8)
  parser.add_argument('--overlaps', default='1,2,4')
  args = parser.parse_args()
  tokenizer = tokenizers.load_tokenizer(args.workdir)
  module, params = tokenizer.module, tokenizer.params
  pixels = np.asarray(pixels_lib.to_unit_range(
      _frames(args.real, args.clips, module.f_s, args.frames)))
  encode = jax.jit(lambda x: inference.encode_posterior(module, params, x).mean)
  decode = jax.jit(lambda z: module.apply({'params': params}, z,
                                          method='decode'))
  latents = np.asarray(encode(pixels))
  decoded = np.asarray(decode(latents))
  tile = (args.tile, args.tile)
  result: dict[str, Any] = dict(
      frames=list(pixels.shape), cells=list(latents.shape), norm=module.norm,
      tile=args.tile)

  def add(name, cut, halo):
    parts = cut(encode, 'encode', pixels)
    made = cut(decode, 'decode', latents)
    side = args.tile + 2 * halo
    result[name] = dict(
        cells_beyond_the_tile=halo,
        # Cells computed for each that is kept.
        work=round(side**2 / args.tile**2, 2),
        latent_error=float(np.abs(parts - latents).max() / latents.std()),
        pixel_psnr=_psnr(made, decoded),
        pixel_max=float(np.abs(made - decoded).max()))

  if module.norm == 'position':
    halo = max(tiling.halo(module, method) for method in ('encode', 'decode'))
    add('exact', lambda apply, method, x: tiling.exact(
        apply, module, method, x, tile), halo)
  for overlap in map(int, args.overlaps.split(',')):
    add(f'blend_{overlap}', lambda apply, method, x, overlap=overlap: (
        tiling.blend(apply, module, method, x, tile, overlap)), overlap)
  print(json.dumps(result, indent=1))


if __name__ == '__main__':
  main()
