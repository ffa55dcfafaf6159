"""Compiling for absent GPUs: memory, collectives and a ledger."""
import time

import jax

from walt_jax.planning import aot
from walt_jax.planning import collectives as collectives_lib
from walt_jax.planning import counting
from walt_jax.planning import distinct
from walt_jax.planning import gpu_charges
from walt_jax.planning import gpu_registers
from walt_jax.planning import gpu_topology
from walt_jax.planning import ledger
from walt_jax.planning import pallas_kernels


def compile_program(traced: jax.stages.Traced, gpus: gpu_topology.Gpus
                    ) -> tuple[aot.Compiled, ledger.Ledger]:
  """Compiles a program and charges its kernels.

  XLA compiles for a GPU whatever the program needs: one that does not fit has
  a ledger too, whose totals are refused.

  Args:
    traced: The program, traced for a mesh of `gpus.devices`.
    gpus: What it is compiled for.

  Raises:
    UncountedError: On an instruction without a charge, or a loop without a
      known number of steps.
  """
  kernels = pallas_kernels.kernels_of(traced)
  names = {kernel.name for kernel in kernels.values()}
  began = time.perf_counter()
  with gpu_registers.dumped() as (dump, folder):
    options = gpus.compiler_options | (dump if names else {})
    compiled = traced.lower().compile(compiler_options=options)
    registers = gpu_registers.report(folder, gpus.compiler_options, names)
  seconds = time.perf_counter() - began
  text = compiled.as_text()
  memory = compiled.memory_analysis()
  needed = (memory.argument_size_in_bytes + memory.output_size_in_bytes -
            memory.alias_size_in_bytes + memory.temp_size_in_bytes)
  charged = gpu_charges.gpu_ledger(
      text, gpus.chip, kernels, registers, gpus.host_size)
  charged = ledger.checked(
      charged, executed_flops=counting.flops_of(traced) // len(gpus.devices),
      distinct_flops=distinct.distinct_flops(traced) // len(gpus.devices),
      needed_bytes=needed, capacity_bytes=gpus.chip.hbm_bytes)
  error = (None if needed <= gpus.chip.hbm_bytes else
           f'it needs {needed} of {gpus.chip.hbm_bytes} bytes')
  return aot.Compiled(
      seconds, needed, memory.temp_size_in_bytes,
      collectives_lib.collectives(text, gpus.host_size), error, text), charged
