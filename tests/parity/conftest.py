"""Lets peers import torchvision where torch is a CPU build.

The default index's torchvision is compiled for CUDA: beside a CPU build of
torch its operators do not load, and its import stops at the first one that is
missing. No test calls them; they are declared, so that the import goes through.
"""
import importlib.metadata
import importlib.util


def _declare_operators() -> None:
  if not all(map(importlib.util.find_spec, ('torch', 'torchvision'))):
    return
  cpu_builds = ['+cpu' in importlib.metadata.version(name)
                for name in ('torch', 'torchvision')]
  if cpu_builds != [True, False]:
    return
  import torch
  for name in ('nms', 'qnms'):
    torch.library.define(
        f'torchvision::{name}',
        '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')


_declare_operators()
