"""Peak memory of streaming a long clip through the tokenizer.

  python -m benchmarks.streaming_memory [--frames 33,257] [--size 128]

For each length a process of its own encodes and decodes a clip chunk by
chunk, as a reader of files does: frames are made when they are asked for and
decoded ones are dropped. Tells the process's peak resident memory, and the
same for the whole clip at once with --whole.
"""
import argparse
import json
import subprocess
import sys

from walt_jax.core import host_memory


def _measure(frames: int, size: int, whole: bool) -> dict[str, float]:
  import jax
  import numpy as np

  from walt_jax.tokenizer import autoencoder
  from walt_jax.tokenizer import streaming
  module = autoencoder.Autoencoder(
      base_channels=8, blocks_per_level=1, middle_blocks=1, num_groups=8,
      conv_form='stacked')
  shapes = jax.eval_shape(module.init, jax.random.key(0),
                          np.zeros((1, 5, 16, 16, 3), np.float32))['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.normal(
      x.ndim == 1, 0.05, x.shape).astype(np.float32), shapes)
  compiled = lambda: host_memory.peak_bytes() / 2**20
  base = compiled()

  def chunks():
    yield rng.integers(0, 256, (1, 1, size, size, 3), np.uint8)
    for _ in range((frames - 1) // module.f_t):
      yield rng.integers(0, 256, (1, module.f_t, size, size, 3), np.uint8)

  if whole:
    pixels = np.concatenate(list(chunks()), axis=1)
    run = jax.jit(lambda p, x: module.apply({'params': p}, x)[0])
    total = float(np.abs(run(params, pixels / 127.5 - 1.0)).sum())
  else:
    encode = streaming.make_step(module, 'encode')
    decode = streaming.make_step(module, 'decode')
    latents = (posterior.mean
               for posterior in streaming.run(encode, params, chunks()))
    total = sum(float(np.abs(pixels).sum())
                for pixels in streaming.run(decode, params, latents))
  return dict(frames=frames, start_mib=base, peak_mib=compiled(),
              checksum=total)


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--frames', default='33,257')
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--whole', action='store_true')
  parser.add_argument('--one', type=int)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_measure(args.one, args.size, args.whole)))
    return
  flags = ['--size', str(args.size)] + (['--whole'] if args.whole else [])
  runs = []
  for frames in args.frames.split(','):
    output = subprocess.run(
        [sys.executable, '-m', 'benchmarks.streaming_memory', '--one', frames,
         *flags], check=True, stdout=subprocess.PIPE, text=True)
    runs.append(json.loads(output.stdout.splitlines()[-1]))
  print(json.dumps(dict(
      runs=runs, ratio=runs[-1]['peak_mib'] / runs[0]['peak_mib'],
      ratio_above_start=(runs[-1]['peak_mib'] - runs[-1]['start_mib']) / (
          runs[0]['peak_mib'] - runs[0]['start_mib'])), indent=1))


if __name__ == '__main__':
  main()
