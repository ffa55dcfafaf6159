"""Networks from their config sections."""
from typing import Any

import jax.numpy as jnp
from ml_collections import config_dict

from walt_jax.builders import config as config_lib
from walt_jax.core import errors
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.tokenizer import feature_discriminator

_DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}

# The faster form by measurement (docs/measurements/tokenizer.md); 'native'
# elsewhere.
_CONV_FORMS = {'cpu': 'stacked', 'gpu': 'stacked', 'tpu': 'native'}
_ATTENTION_FORMS = {'cpu': 'xla', 'gpu': 'cudnn', 'tpu': 'xla'}


def autoencoder(section: config_dict.ConfigDict,
                platform: str) -> autoencoder_lib.Autoencoder:
  """Builds the tokenizer's network.

  Args:
    section: Fields of `Autoencoder`, with `dtype` by name.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.

  Raises:
    UserError: On an unknown key or value.
  """
  return module(section, autoencoder_lib.Autoencoder, 'model',
                dict(conv_form=_CONV_FORMS[platform]))


def discriminator(
    section: config_dict.ConfigDict, kind: str, platform: str
) -> (discriminator_lib.Discriminator |
      feature_discriminator.FeatureDiscriminator):
  """Builds the tokenizer's opponent for rows of one kind.

  Args:
    section: Fields of `FeatureDiscriminator` where `feature_maps` is among
      them, else of `Discriminator`.
    kind: 'video' or 'image'.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.

  Raises:
    UserError: On an unknown key or value.
  """
  chosen: type = discriminator_lib.Discriminator
  if 'feature_maps' in section:
    chosen = feature_discriminator.FeatureDiscriminator
  return module(section, chosen, 'discriminator',
                dict(kind=kind, conv_form=_CONV_FORMS[platform]))


def denoiser(config: config_dict.ConfigDict,
             platform: str) -> denoiser_lib.Denoiser:
  """Builds the denoiser of a whole config (it needs model and text).

  Raises:
    UserError: On an unknown key or value.
  """
  attention_form = _ATTENTION_FORMS[platform]
  if config.model.dtype == 'float32':
    attention_form = 'xla'  # cuDNN's kernels take half precision only.
  return module(config.model, denoiser_lib.Denoiser, 'model',
                dict(text_width=config.text.width,
                     attention_form=attention_form))


def module(section: config_dict.ConfigDict, cls: type, where: str,
           extra: dict[str, Any]):
  """Builds a Flax module from a section whose `dtype` is a name."""
  values = dict(section.items())
  values['dtype'] = dtype(section, where)
  try:
    return config_lib.typed(values, cls, where, extra)
  except ValueError as e:
    raise errors.UserError(f'config section {where!r}: {e}') from e


def dtype(section: config_dict.ConfigDict, where: str) -> Any:
  """The type that a section's `dtype` names; float32 where it names none."""
  name = section.get('dtype', 'float32')
  if name not in _DTYPES:
    raise errors.UserError(
        f'config key {where}.dtype is {name!r}; choose one of '
        f'{", ".join(_DTYPES)}')
  return _DTYPES[name]
