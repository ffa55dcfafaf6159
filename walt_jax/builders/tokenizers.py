"""Where a denoiser's frozen tokenizer comes from."""
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.core import errors
from walt_jax.core import exports
from walt_jax.core import extensions
from walt_jax.core import files
from walt_jax.core import paths
from walt_jax.core import run_files
from walt_jax.diffusion import noise
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import inference
from walt_jax.tokenizer import statistics
from walt_jax.training import workdir as workdir_lib


def load_tokenizer(workdir: str, platform: str = 'cpu', *,
                   allow_code: bool = False) -> inference.Tokenizer:
  """Loads the tokenizer of any work directory.

  Args:
    workdir: A tokenizer run (its export), a denoiser (its copy), or an
      export itself.
    platform: 'cpu', 'gpu' or 'tpu', which decides the convolution's form.
    allow_code: Whether its config may name a class to import.

  Raises:
    UserError: If it names one and may not, or there is none; a tokenizer run
      that has not finished has no export yet.
  """
  found = workdir_lib.WorkDir(workdir)
  folder = found.tokenizer()
  tokenizer = inference.load_tokenizer(folder, functools.partial(
      _network, '' if allow_code else str(folder / exports.CONFIG_FILE),
      platform))
  _check_copy(found, folder, tokenizer.sha256)
  return tokenizer


def _check_copy(found: workdir_lib.WorkDir, folder: pathlib.Path,
                sha256: str) -> None:
  """Refuses a denoiser's copy of its tokenizer that has changed since.

  Args:
    found: The denoiser's work directory or export.
    folder: Where its tokenizer was found.
    sha256: Hash of the tokenizer's weights.
  """
  if folder != found.path / run_files.TOKENIZER or (
      not found.config_file.is_file() or found.begins_anew()):
    return
  said = found.config().get('derived', {}).get('tokenizer_sha256', sha256)
  if said != sha256:
    raise errors.UserError(
        f'{str(folder)!r} is not the tokenizer that the denoiser was trained '
        f'with: its {exports.MODEL_FILE} has sha256 {sha256[:12]}.., that one '
        f'{said[:12]}..; copy the two files of that export there again')


def load_network(workdir: str, platform: str) -> autoencoder_lib.Autoencoder:
  """The network of the tokenizer of any work directory, without weights.

  Args:
    workdir: See `load_tokenizer`.
    platform: See `load_tokenizer`.

  Raises:
    UserError: If there is none, or its config names a class to import.
  """
  file = workdir_lib.WorkDir(workdir).tokenizer() / exports.CONFIG_FILE
  return _network(str(file), platform, files.read_json(file))


def _network(untrusted: str, platform: str,
             config: dict[str, Any]) -> autoencoder_lib.Autoencoder:
  """Builds the network that an export's config describes.

  Args:
    untrusted: The config's file, if it may name no class to import.
    platform: See `networks.autoencoder`.
    config: What the file holds.
  """
  if untrusted:
    extensions.refuse(config, untrusted)
  return networks.autoencoder(
      sections.build(schema.TokenizerExport, config).model, platform)


def as_configured(tokenizer: inference.Tokenizer, section: schema.Tokenizer
                  ) -> inference.Tokenizer:
  """The tokenizer with the statistics that a denoiser sees latents by."""
  if section.normalise:
    return tokenizer
  return dataclasses.replace(
      tokenizer, statistics=statistics.identity_statistics(
          tokenizer.module.latent_channels))


def copy_tokenizer(source: str, workdir: str) -> None:
  """Makes a work directory self-contained: copies the tokenizer's export.

  Raises:
    UserError: If `workdir` already holds another tokenizer.
  """
  target = paths.path(workdir) / run_files.TOKENIZER
  found = workdir_lib.WorkDir(source).tokenizer()
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


def save_random_tokenizer(section: schema.RandomTokenizer, directory: str,
                          pixels: np.ndarray) -> None:
  """Writes a fixed random tokenizer, for runs that only try the machinery.

  Args:
    section: `tokenizer.random` of a config.
    directory: Gets the export.
    pixels: uint8 [B, T, H, W, 3], for the latent statistics.

  Raises:
    UserError: If the clips do not fit the network.
  """
  module = networks.autoencoder(section.model, 'cpu')
  try:
    module.latent_shape(pixels.shape)
  except ValueError as e:
    raise errors.UserError(f'config section data: {e}') from e
  clip = np.zeros((1, 1, module.f_s, module.f_s, 3), np.float32)
  params = jax.jit(module.init)(
      noise.key_of_seed(section.seed), clip)['params']
  moments = statistics.moments_of(
      inference.jit_encode(module)(params, pixels))
  inference.save_tokenizer(
      directory, params, statistics.finalise(moments),
      dict(model=sections.plain(section.model), random_seed=section.seed))


def tokenizer_in_training(config: schema.TokenizerExperiment,
                          platform: str) -> inference.Tokenizer:
  """The network of a run, without weights; its latents are left as they are.
  """
  module = networks.autoencoder(config.model, platform)
  return inference.Tokenizer(
      module, {}, statistics.identity_statistics(module.latent_channels), {},
      '')
