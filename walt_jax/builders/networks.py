"""Networks from their config sections."""
from collections.abc import Sequence
import dataclasses
import logging
from typing import Any

import jax.numpy as jnp

from walt_jax.builders import schema
from walt_jax.core import conditions
from walt_jax.core import errors
from walt_jax.core import extensions
from walt_jax.models import denoiser as denoiser_lib
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.tokenizer import feature_discriminator
from walt_jax.tokenizer import network

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}

# The faster form by measurement (docs/measurements/tokenizer.md); 'native'
# elsewhere.
_CONV_FORMS = {'cpu': 'stacked', 'gpu': 'stacked', 'tpu': 'native'}
# What 'auto' is. By ledger: on a GPU fused kernels take 5 ms where XLA's
# attention takes 28 (four layers of L on an absent H100). cuDNN's cannot be
# traced, so not planned, without a GPU.
_ATTENTION_FORMS = {'cpu': 'mapped', 'gpu': 'fused_gpu', 'tpu': 'fused_tpu'}
_KERNELS_OF = {'fused_tpu': 'tpu', 'fused_gpu': 'gpu'}
# By ledger: kernels and an unrolled loop take 24 ms where XLA's own take 32
# (four layers of L without attention on an absent H100).
_PASSES_FORMS = {'cpu': 'plain', 'gpu': 'triton', 'tpu': 'plain'}
_SCAN_UNROLLS = {'cpu': 1, 'gpu': 1_000, 'tpu': 1}


def autoencoder(section: schema.Autoencoder | schema.OwnTokenizer,
                platform: str) -> autoencoder_lib.Autoencoder:
  """Builds the tokenizer's network, which may be a class of the user's own.

  Args:
    section: Its config section.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.

  Raises:
    UserError: If a class of the user's own cannot be used.
  """
  if isinstance(section, schema.OwnTokenizer):
    return extensions.load(
        section.name, network.Network, 'config key model.name')()
  return _network(section, dict(
      conv_form=_CONV_FORMS[platform], flat_norms=platform == 'cpu'))


def encoding(module: autoencoder_lib.Autoencoder, platform: str
             ) -> autoencoder_lib.Autoencoder:
  """The network in the form in which train steps encode clips with it.

  They encode a few clips at once. Of a 3D convolution over so few XLA:TPU
  cuts frames into batches, which costs more than the convolution: copies and
  padding around each. Frames as rows of a 2D convolution are enough as they
  are: two clips of 17x128x128 take 37 ms on a v5e instead of 62, by the ledger
  of a network with a block a level. Decoding is as fast either way.

  Args:
    module: What `autoencoder` built; a network of the user's own stays.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.
  """
  if platform != 'tpu' or not isinstance(module, autoencoder_lib.Autoencoder):
    return module
  return module.clone(conv_form='stacked')


def discriminator(
    section: schema.Discriminator | schema.FeatureDiscriminator, kind: str,
    platform: str
) -> (discriminator_lib.Discriminator |
      feature_discriminator.FeatureDiscriminator):
  """Builds the tokenizer's opponent for rows of one kind.

  Args:
    section: Its config section.
    kind: 'video' or 'image'.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.
  """
  return _network(section, dict(kind=kind, conv_form=_CONV_FORMS[platform]))


def denoiser(config: schema.DenoiserExperiment,
             platform: str) -> denoiser_lib.Denoiser:
  """Builds the denoiser of a whole config (it needs model and text).

  Raises:
    UserError: If a condition of the user's own cannot be used, or the form of
      attention or passes is not one of the platform.
  """
  form = attention_form(config, platform)
  for kind, reason in attention_refusals(config, form).items():
    if reason is not None:
      logging.getLogger('walt_jax').warning(
          '%s attention takes the form %s: %s does not serve %s.', kind,
          fused_attention.PLAIN_FORM, form, reason)
  unroll = config.model.scan_unroll or _SCAN_UNROLLS[platform]
  remat_policy: str = config.model.remat_policy
  if (platform == 'cpu' and remat_policy == 'none' and
      config.model.depth // 2 > unroll):
    # The loop over layers copies what is kept, which takes a CPU longer than
    # to compute all but products and attention again.
    remat_policy = 'matmuls'
  return _network(config.model, dict(
      text_width=config.text.width, attention_form=form,
      passes_form=_passes_form(config.model, platform),
      scan_unroll=unroll, remat_policy=remat_policy,
      flat_products=platform == 'cpu',
      conditions=own_conditions(config.model.conditions)))


def _passes_form(model: schema.Denoiser, platform: str) -> str:
  if model.passes_form == 'triton' and platform != 'gpu':
    raise errors.UserError(
        "config key model.passes_form is 'triton', whose kernels run on GPUs, "
        f'not on a {platform}; set model.passes_form=auto')
  if model.passes_form == 'auto':
    return _PASSES_FORMS[platform]
  return model.passes_form


def attention_form(config: schema.DenoiserExperiment, platform: str) -> str:
  """The form of attention that a config asks for, or 'auto' has there.

  Raises:
    UserError: If it is not one of the platform.
  """
  form: str = config.model.attention_form
  if form == 'auto':
    # In float32 the kernels' products are exact where XLA's are quick.
    form = (
        _ATTENTION_FORMS[platform]
        if config.model.dtype == 'bfloat16' or platform == 'cpu' else 'xla')
  if form == 'cudnn' and (
      platform != 'gpu' or config.model.dtype != 'bfloat16'):
    raise errors.UserError(
        "config key model.attention_form is 'cudnn', whose kernels take "
        f"bfloat16 on a GPU, not {config.model.dtype} on a {platform}; set "
        "model.dtype=bfloat16 for a GPU, or model.attention_form=auto")
  own = _KERNELS_OF.get(form, platform)
  if own != platform:
    raise errors.UserError(
        f'config key model.attention_form is {form!r}, whose kernels run on '
        f'{own.upper()}s, not on a {platform}; set model.attention_form=auto')
  return form


def attention_refusals(config: schema.DenoiserExperiment, form: str
                       ) -> dict[str, str | None]:
  """Why `form` does not serve each kind of attention; None where it does.

  Kinds are 'spatial', 'spacetime' and, in a model with text, 'text'.
  """
  model = config.model
  grid = (config.latents.frames, config.latents.height // model.patch,
          config.latents.width // model.patch)
  heads = max(model.num_heads // max(config.mesh.tensor, 1), 1)
  kinds = {'spatial': (model.spatial_window, 0),
           'spacetime': (model.spacetime_window, 0)}
  if config.text.name:
    kinds['text'] = (model.spatial_window, config.text.max_tokens)
  return {
      kind: fused_attention.refusal(form, operands.Sizes(
          grid, window, heads, model.width // model.num_heads, text_length,
          model.dtype))
      for kind, (window, text_length) in kinds.items()}


def own_conditions(names: Sequence[str]
                   ) -> tuple[type[conditions.Condition], ...]:
  """The conditions of the user's own that `model.conditions` names.

  Raises:
    UserError: If one cannot be used, or two have the same name.
  """
  key = 'config key model.conditions'
  found = tuple(extensions.load(name, conditions.Condition, key)
                for name in names)
  taken = list(conditions.CONDITIONS)
  for own, name in zip(found, names, strict=True):
    if not own.column.isidentifier() or own.column in taken:
      raise errors.UserError(
          f'{key} is {name!r}, whose column is {own.column!r}; give it a name '
          f'other than {", ".join(taken)}')
    taken.append(own.column)
  return found


def _network(section: Any, extra: dict[str, Any]) -> Any:
  """What a section configures, with what is not the user's to say."""
  values = {field.name: getattr(section, field.name)
            for field in dataclasses.fields(section)}
  values['dtype'] = DTYPES[section.dtype]
  return section.configures(**values | extra)
