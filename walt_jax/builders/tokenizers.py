"""Where a denoiser's frozen tokenizer comes from."""
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from walt_jax.builders import config as config_lib
from walt_jax.builders import networks
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import files
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics

# Where a tokenizer's work directory keeps its export, and a denoiser's its
# copy of it.
EXPORT_DIR = 'export'
COPY_DIR = 'tokenizer'


def load_tokenizer(workdir: str, platform: str = 'cpu') -> inference.Tokenizer:
  """Loads the tokenizer of any work directory.

  Args:
    workdir: Of a tokenizer run (its export), of a denoiser (its copy), or an
      export itself.
    platform: 'cpu', 'gpu' or 'tpu', which decides the convolution's form.

  Raises:
    UserError: If there is none; a tokenizer run that has not finished has no
      export yet.
  """
  root = pathlib.Path(workdir)
  for directory in (root / EXPORT_DIR, root / COPY_DIR, root):
    if (directory / exports.MODEL_FILE).is_file():
      return inference.load_tokenizer(directory, functools.partial(
          _network, str(directory / exports.CONFIG_FILE), platform))
  raise errors.UserError(
      f'{workdir!r} holds no trained tokenizer (no {EXPORT_DIR}/'
      f'{exports.MODEL_FILE}); train one with: walt train --config '
      'configs/tokenizer_video.py --workdir DIR')


def _network(file: str, platform: str,
             config: dict[str, Any]) -> autoencoder_lib.Autoencoder:
  """Builds the network that an export's config file describes."""
  return networks.autoencoder(
      config_lib.from_dict(config['model'], file), platform)


def copy_tokenizer(source: str, workdir: str) -> None:
  """Makes a work directory self-contained: copies the tokenizer's export.

  Raises:
    UserError: If `workdir` already holds another tokenizer.
  """
  target = pathlib.Path(workdir) / COPY_DIR
  root = pathlib.Path(source)
  found = next((d for d in (root / EXPORT_DIR, root / COPY_DIR, root)
                if (d / exports.MODEL_FILE).is_file()), None)
  if found is None:
    load_tokenizer(source)  # Raises, with the fix.
  if (target / exports.MODEL_FILE).is_file():
    old = files.file_sha256(target / exports.MODEL_FILE)
    new = files.file_sha256(found / exports.MODEL_FILE)
    if old != new:
      raise errors.UserError(
          f'{workdir!r} was trained with another tokenizer ({old[:12]}) than '
          f'tokenizer.workdir={source!r} holds ({new[:12]}); use a new '
          '--workdir, or the old tokenizer')
    return
  exports.copy_export(found, target)


def save_random_tokenizer(section, directory: str,
                          pixels: np.ndarray) -> None:
  """Writes a fixed random tokenizer, for runs that only try the machinery.

  Args:
    section: `tokenizer.random`: `seed` and `model` (fields of `Autoencoder`).
    directory: Gets the export.
    pixels: uint8 [B, T, H, W, 3], for the latent statistics.
  """
  module = networks.autoencoder(section.model, 'cpu')
  clip = np.zeros((1, 1, module.f_s, module.f_s, 3), np.float32)
  params = jax.jit(module.init)(jax.random.key(section.seed), clip)['params']
  encode = jax.jit(
      lambda p, x: inference.encode_posterior(module, p, x))
  moments = statistics.moments_of(encode(params, pixels))
  inference.save_tokenizer(
      directory, params, statistics.finalise(moments),
      dict(model=config_lib.to_dict(section.model), random_seed=section.seed))
