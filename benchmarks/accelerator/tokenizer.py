"""The tokenizer of `configs/tokenizer_video.py:ucf101` on this device.

  python -m benchmarks.accelerator.tokenizer --form stacked

Encoding, decoding and the training step of both players (L2 and
non-saturating loss without a perceptual one, AdamW) for four clips of
17x128x128, in one form of the convolutions. A test holds the networks equal to
the config's. Prints one row; a program that fails says why.
"""
import argparse
from collections.abc import Callable
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.accelerator import turns
from walt_jax.core import types
from walt_jax.tokenizer import autoencoder as autoencoder_lib
from walt_jax.tokenizer import discriminator as discriminator_lib
from walt_jax.training import state as train_state
from walt_jax.training import tokenizer_step

_REPEATS = 8
_SMOKE = dict(base_channels=8, num_groups=8, blocks_per_level=1,
              middle_blocks=1)


def networks(form: str) -> tuple[autoencoder_lib.Autoencoder,
                                 discriminator_lib.Discriminator]:
  """The config's networks, which keep everything for the backward pass."""
  return autoencoder_lib.Autoencoder(
      base_channels=128, channel_multipliers=(1, 2, 2, 4),
      time_downsample=(False, True, True), blocks_per_level=4, middle_blocks=4,
      latent_channels=8, norm='group', num_groups=32, adaptive_decoder=True,
      conv_form=form, remat=False, dtype=jnp.bfloat16
  ), discriminator_lib.Discriminator(
      kind='video', base_channels=128, channel_multipliers=(2, 4, 4, 4, 4),
      time_downsample=(False, True, True, True, False), conv_form=form,
      dtype=jnp.bfloat16)


def measure(form: str, smoke: bool) -> dict[str, Any]:
  """Milliseconds of the three programs, and the bytes that they plan."""
  autoencoder, discriminator = networks(form)
  shape = (4, 17, 128, 128, 3)
  if smoke:
    autoencoder = autoencoder.clone(**_SMOKE)
    discriminator = discriminator.clone(base_channels=8)
    shape = (1, 5, 16, 16, 3)
  clips = jax.random.uniform(jax.random.key(0), shape, minval=-1, maxval=1)
  init = lambda module: jax.jit(module.init)(
      jax.random.key(1), clips[:1])['params']
  params = dict(autoencoder=init(autoencoder),
                discriminator=dict(videos=init(discriminator)))
  decode = jax.jit(lambda p, x: autoencoder.apply(
      {'params': p}, x, method='decode'))
  weights = params['autoencoder']
  encode = jax.jit(lambda p, x: autoencoder.apply(
      {'params': p}, x, method='encode').mean)
  latents = encode(weights, clips)
  return dict(
      device=jax.devices()[0].device_kind, jax=jax.__version__,
      form=form, clips=list(shape),
      encode=_timed(encode, weights, clips),
      decode=_timed(decode, weights, latents),
      train=_train(autoencoder, discriminator, params, clips))


def _train(autoencoder, discriminator, params, clips) -> dict[str, Any]:
  optimizer = optax.adamw(1e-4, b1=0.0, b2=0.99)
  zero = jnp.zeros(())
  state = train_state.TrainState(
      step=jnp.zeros((), jnp.int32), params=params,
      opt_state={name: optimizer.init(tree) for name, tree in params.items()},
      extra={'lecam': {'videos': {'real': zero, 'fake': zero}}})
  step = jax.jit(tokenizer_step.make_tokenizer_step(
      autoencoder, tokenizer_step.TokenizerLosses(
          reconstruction='l2', adversarial_weight=0.1, lecam_weight=0.001),
      optimizer, discriminators=dict(videos=discriminator),
      discriminator_optimizer=optimizer))
  return _timed(step, state, types.Batch(videos=types.Rows(pixels=clips)),
                jax.random.key(2))


def _timed(program: Callable[..., Any], *inputs: Any) -> dict[str, Any]:
  began = time.perf_counter()
  try:
    compiled = program.lower(*inputs).compile()
    seconds = time.perf_counter() - began
    jax.block_until_ready(compiled(*inputs))
    times = []
    for _ in range(_REPEATS):
      began = time.perf_counter()
      jax.block_until_ready(compiled(*inputs))
      times.append(1e3 * (time.perf_counter() - began))
  except jax.errors.JaxRuntimeError as e:  # Such as too little memory.
    return dict(error=str(e)[:300])
  memory = compiled.memory_analysis()
  return turns.summary(times) | dict(
      compile_seconds=round(seconds, 1),
      temporary_bytes=int(memory.temp_size_in_bytes))


def main() -> None:
  """Prints one row."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--form', required=True)
  parser.add_argument('--smoke', action='store_true')
  args = parser.parse_args()
  print(json.dumps(measure(args.form, args.smoke)), flush=True)


if __name__ == '__main__':
  main()
