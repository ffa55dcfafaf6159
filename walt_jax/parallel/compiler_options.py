"""Options of XLA that programs are compiled with, in one place.

Training, sampling and tokenizers compile with them, and so does `walt plan`:
what is planned is what runs. Each platform has its own, since an option that
a platform's compiler does not know is an error. On a TPU they have the names
of the flags in `LIBTPU_INIT_ARGS`; a program's own options go before those.
"""
from collections.abc import Mapping
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
  """One option.

  Attributes:
    name: Name that the compiler knows it by.
    value: Value, as text unless it is true or false.
    reason: What it does, and what happens without it.
    effect: What was measured, and on what.
  """
  name: str
  value: str | bool
  reason: str
  effect: str


OPTIONS: Mapping[str, tuple[Option, ...]] = {
    'cpu': (),
    'gpu': (
        Option(
            'xla_gpu_enable_triton_gemm', False,
            'Leaves products to cuBLAS, which adds biases and takes GELU on '
            'the way out. With it XLA first wraps every product for Triton, '
            'and those that cuBLAS then wins have lost bias and GELU, which '
            'take passes of their own.',
            'ucf101:l on an H200 had 24 passes of 280 us without it, of '
            'which the program compiled for an absent one has none; not timed '
            'apart from other changes.'),
    ),
    'tpu': (
        Option(
            'xla_jf_spmd_threshold_for_windowed_einsum_mib', '1000000',
            'Gathers a weight before the product that uses it. Without it, '
            'large products with weights cut along the contraction become '
            'loops of partial products (windowed einsums), most of which read '
            'and write the whole output to add a sliver.',
            'ucf101 (XL) on v5e:4x4, one train step by the compiler\'s '
            'cycles: 1,265 ms instead of 5,015; 11.8 GiB of temporaries.'),
    ),
}


def of(platform: str) -> dict[str, Any]:
  """The options of a platform, as `jax.jit(compiler_options=..)` takes them.

  Args:
    platform: 'cpu', 'gpu' or 'tpu', of the devices that run the program.

  Raises:
    KeyError: On any other platform.
  """
  return {option.name: option.value for option in OPTIONS[platform]}


def words(platform: str) -> str:
  """The options in a few words, for a log line."""
  return ', '.join(
      f'{name}={value}' for name, value in of(platform).items()) or 'none'
