"""The frozen encoders of a work directory, for caching what they make."""
from collections.abc import Callable
import dataclasses
import functools

import jax
import numpy as np

from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.builders import tokenizers
from walt_jax.core import errors
from walt_jax.core import types
from walt_jax.data import latent_cache
from walt_jax.data.storage import caption_counts
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.text import encoder as text_encoder
from walt_jax.text import limits
from walt_jax.text import tokenization
from walt_jax.tokenizer import inference


def text_encoder_of(config: schema.DenoiserExperiment
                    ) -> text_encoder.TextEncoder | None:
  """The text encoder of a config's `text` section, or None without text.

  Raises:
    UserError: On weights that are missing, or of another width.
  """
  section = config.text
  if not section.name:
    return None
  encoder = text_encoder.load_text_encoder(
      section.name, section.path or None, max_tokens=section.max_tokens,
      dtype=networks.DTYPES[section.dtype])
  if encoder.width != section.width:
    raise errors.UserError(
        f'config key text.width is {section.width}, but {section.name} has '
        f'token states of width {encoder.width}; set it to that')
  return encoder


def caption_limit(name: str, tokenizer: tokenization.Tokenizer
                  ) -> caption_counts.CaptionLimit:
  """What the text encoder of a tokenizer reads, for counting captions."""
  return caption_counts.CaptionLimit(
      name, tokenizer.max_tokens, functools.partial(limits.is_cut, tokenizer))


def default_caption_limit(name: str | None, path: str | None,
                          max_tokens: int
                          ) -> caption_counts.CaptionLimit | None:
  """The limit by which prepared captions are counted.

  Args:
    name: 'minilm', 't5', or 'none'; None is 'minilm' if it is installed.
    path: Folder of the text encoder's weights, if not packaged.
    max_tokens: L.

  Raises:
    UserError: The encoder that is named is not there.
  """
  if name == 'none' or (name is None and path is None
                        and not text_encoder.has_minilm()):
    return None
  name = name or 'minilm'
  return caption_limit(name, text_encoder.load_tokenizer(
      name, path, max_tokens=max_tokens))


@dataclasses.dataclass(frozen=True)
class FrozenEncoders:
  """A tokenizer's encoder and, if asked for, a text encoder.

  Attributes:
    num_devices: Local devices that share a call of `encode`; its clips must
      be a multiple of that.
    encode: Clips uint8 [B, T, H, W, 3] to their posterior, on the host.
    sha256: The tokenizer's hash.
    text: The text encoder, or None.
    text_sha256: The text encoder's hash, or None.
  """
  num_devices: int
  encode: Callable[[np.ndarray], types.Posterior]
  sha256: str
  text: latent_cache.TextStates | None
  text_sha256: str | None


def load(workdir: str, text_name: str = '', text_path: str | None = None,
         max_tokens: int = 64, *, allow_code: bool = False) -> FrozenEncoders:
  """Loads the encoders.

  Args:
    workdir: A tokenizer's or denoiser's run, or a tokenizer's export.
    text_name: 'minilm', 't5', or '' for no text.
    text_path: Folder of the text encoder's weights, if not packaged.
    max_tokens: L; longer captions are cut.
    allow_code: Whether the tokenizer's config may name a class to import.

  Raises:
    UserError: On weights that are missing.
  """
  tokenizer = tokenizers.load_tokenizer(
      workdir, mesh_lib.platform(mesh_lib.make_mesh()), allow_code=allow_code)
  devices = jax.sharding.Mesh(np.array(jax.local_devices()), ('data',))
  spread = jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec(
      'data'))
  everywhere = jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec())
  program = inference.jit_encode(
      tokenizer.module, params=everywhere, rows=spread)
  params = jax.device_put(tokenizer.params, everywhere)
  text = None
  if text_name:
    text = text_encoder.load_text_encoder(
        text_name, text_path, max_tokens=max_tokens)
  return FrozenEncoders(
      num_devices=devices.size,
      encode=lambda pixels: jax.device_get(program(params, pixels)),
      sha256=tokenizer.sha256,
      text=latent_cache.TextStates(
          text.embed, caption_limit(text.name, text.tokenizer)
      ) if text else None,
      text_sha256=text.sha256 if text else None)
