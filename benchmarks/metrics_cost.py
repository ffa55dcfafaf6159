"""Time of a Frechet distance, and memory of the statistics of many clips.

  python -m benchmarks.metrics_cost

The features are random: only their number and width matter.
"""
import argparse
import json
import time
import tracemalloc

import numpy as np

from walt_jax.core import moments as moments_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import feature_sets
from walt_jax.metrics import frechet
from walt_jax.pretrained import networks


def frechet_seconds(width: int, count: int) -> dict[str, float]:
  """Seconds of one distance, statistics given, by either root."""
  rng = np.random.default_rng(0)
  a, b = (moments_lib.Moments.of(rng.normal(size=(count, width)))
          for _ in range(2))
  found = {}
  for root in ('eigh', 'sqrtm'):
    start = time.perf_counter()
    frechet.frechet_distance(a, b, root=root)
    found[root] = time.perf_counter() - start
  return found


def statistics_mebibytes(width: int, count: int, batch: int) -> float:
  """Most memory that statistics of `count` features took."""
  network = feature_network.FeatureNetwork(
      None, networks.NetworkInfo('random', '', ''), 'none', lambda p, c: {},
      dict(features=width))
  rng = np.random.default_rng(0)
  tracemalloc.start()
  collector = feature_sets.Collector(network)
  for _ in range(count // batch):
    collector.add(dict(features=rng.standard_normal(
        (batch, width), np.float32)), content=0)
  collector.finish()
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return peak / 2 ** 20


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=50_000)
  args = parser.parse_args()
  print(json.dumps(dict(
      frechet_2048_seconds=frechet_seconds(2048, 5000),
      frechet_400_seconds=frechet_seconds(400, 5000),
      statistics_of=args.count,
      i3d_mebibytes=statistics_mebibytes(400, args.count, 16),
      inception_mebibytes=statistics_mebibytes(2048, args.count, 16)),
                   indent=1))


if __name__ == '__main__':
  main()
