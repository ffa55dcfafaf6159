"""The export at the end of a tokenizer's training."""
from collections.abc import Callable, Iterator, Mapping
import dataclasses
import itertools
import pathlib
from typing import Any

import jax

from walt_jax.core import moments as moments_lib
from walt_jax.core import progress
from walt_jax.core import types
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import multihost
from walt_jax.tokenizer import autoencoder
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.training import state as train_state
from walt_jax.training import tokenizer_eval


@dataclasses.dataclass(frozen=True)
class TokenizerExport:
  """Measures the latents of training clips and writes the export.

  Attributes:
    directory: Folder that gets the export.
    module: The network.
    batches: `batches(first) -> iterator` over batches of this process's rows.
    mesh: Devices to encode on.
    num_batches: Number of batches that are measured.
    config: What `inference.load_tokenizer` rebuilds the network from.
  """
  directory: pathlib.Path
  module: autoencoder.Autoencoder
  batches: Callable[[int], Iterator[types.Batch]]
  mesh: jax.sharding.Mesh
  num_batches: int
  config: Mapping[str, Any]

  def __call__(self, state: train_state.TrainState) -> None:
    """Every process takes part; the first one writes."""
    module, mesh = self.module, self.mesh
    params = tokenizer_eval.best_params(state)
    encode = inference.jit_encode(module, rows=mesh_lib.batch_sharding(mesh))
    moments = moments_lib.Moments.empty(module.latent_channels, diagonal=True)
    with progress.bar(self.num_batches, 'latent statistics', 'batch') as bar:
      for batch in itertools.islice(self.batches(0), self.num_batches):
        for part, is_video in ((batch.videos, True), (batch.images, False)):
          if part is not None:
            pixels = part.pixels if is_video else (
                part.pixels.reshape(-1, 1, *part.pixels.shape[2:]))
            posterior = encode(params, multihost.global_batch(pixels, mesh))
            moments = moments.merge(
                statistics.moments_of(multihost.local_rows(posterior)))
        bar.update(1)
    moments = multihost.merge(moments)
    params = multihost.fetch(params)
    if multihost.is_main():
      inference.save_tokenizer(
          self.directory, params, statistics.finalise(moments),
          dict(self.config))
