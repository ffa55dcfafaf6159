"""Says what `make parity` will fetch before it is fetched.

  python tests/parity/fetched.py REPORT.json

The report is that of `pip install --dry-run --report`. Sizes are those of
PyTorch 2.13 on Linux, measured once: a report holds none.
"""
import json
import sys
from typing import Any

# (to fetch, installed) in GB: torch, torchvision, and CUDA's packages.
_CPU_SIZES, _CUDA_SIZES = (0.2, 0.8), (3.0, 5.5)
_CUDA = ('nvidia-', 'cuda-', 'triton')


def describe(report: dict[str, Any]) -> str:
  """One line of a report: how many packages, and which build of PyTorch."""
  versions = {item['metadata']['name'].lower(): item['metadata']['version']
              for item in report['install']}
  if 'torch' not in versions:
    return f'{len(versions)} packages to install; PyTorch is there already'
  cuda = [name for name in versions if name.startswith(_CUDA)]
  fetch, installed = _CUDA_SIZES if cuda else _CPU_SIZES
  build = f'CUDA build with {len(cuda)} packages' if cuda else 'CPU build'
  advice = ('; PARITY_INDEX=URL of an index of CPU builds makes it '
            f'{_CPU_SIZES[0]} GB') if cuda else ''
  return (f'{len(versions)} packages to install; PyTorch {versions["torch"]}, '
          f'{build}: about {fetch} GB to fetch, {installed} GB installed'
          f'{advice}')


def main(path: str) -> None:
  """Prints what the report at `path` will fetch."""
  with open(path, encoding='utf-8') as file:
    print(describe(json.load(file)), flush=True)


if __name__ == '__main__':
  main(sys.argv[1])
