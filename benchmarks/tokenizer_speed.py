"""Tokenizer here and in PyTorch (channels last): one run, the same weights.

  python -m benchmarks.tokenizer_speed --torch_python VENV/bin/python \
    [--compile] [--forms stacked,native] [--json FILE]      # 17x128x128, bf16
  python -m benchmarks.tokenizer_speed --torch_python VENV/bin/python --tiny

Encoding, decoding and a training step of generator and discriminator (L2 and
non-saturating loss, Adam) of `configs/tokenizer_video.py`, in milliseconds;
`times_torch` below 1 is faster than PyTorch. Both sides' latents, pixels,
logits and gradient norms are compared. `--decode_17x512x896` decodes one such
clip here, whole and streamed, and tells the peak memory of the device.
`--tiny` is a network of few channels in float32, for a CPU. Every measurement
has a process of its own.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

_PEER = pathlib.Path(__file__).parent / 'tokenizer_torch_peer.py'
_CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'tokenizer_video.py'
_ADVERSARIAL_WEIGHT = 0.1
_LARGE = (5, 64, 112)  # Latents of 17x512x896.


def config_of(options: dict[str, Any]):
  """The config that is measured, of so many channels and blocks."""
  from walt_jax.builders import config as config_lib
  config = config_lib.load(f'{_CONFIG}:ucf101')
  config.unlock()
  for section in (config.model, config.discriminator):
    section.update(base_channels=options['channels'], dtype=options['dtype'])
  config.model.update(
      num_groups=min(32, options['channels']),
      blocks_per_level=options['blocks'], middle_blocks=options['blocks'],
      remat=options['remat'])
  return config


def networks_of(options: dict[str, Any]):
  """Autoencoder and discriminator in a form, or in a CPU's ('auto')."""
  from walt_jax.builders import networks
  from walt_jax.builders import schema
  from walt_jax.builders import tokenizer_runs
  config = schema.of(config_of(options))
  found = (networks.autoencoder(config.model, 'cpu'),
           tokenizer_runs.make_discriminators(config, 'cpu')['videos'])
  if options['form'] == 'auto':
    return found
  return tuple(module.clone(conv_form=options['form']) for module in found)


def write_inputs(options: dict[str, Any], clips: tuple[int, ...],
                 weights_file: str, clips_file: str) -> None:
  """Writes random weights of both networks, none of them zero, and clips."""
  import jax

  from walt_jax.core import exports
  autoencoder, discriminator = networks_of(options)
  one = np.zeros((1, 5, 32, 32, 3), np.float32)
  rng = np.random.default_rng(0)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100
    return rng.normal(leaf.ndim == 1, fan_in**-0.5, leaf.shape).astype(
        np.float32)

  shapes = lambda module: jax.eval_shape(
      module.init, jax.random.key(0), one)['params']
  np.savez(weights_file, **exports.flatten(jax.tree.map(
      draw, shapes(autoencoder) | dict(discriminator=shapes(discriminator)))))
  np.save(clips_file, np.random.default_rng(1).uniform(
      -1, 1, (*clips, 3)).astype(np.float32))


def read_inputs(weights_file: str, clips_file: str):
  """What `write_inputs` wrote: parameters of both players, and clips."""
  import jax.numpy as jnp

  from walt_jax.core import exports
  flat = exports.unflatten(dict(np.load(weights_file)))
  discriminator = flat.pop('discriminator')
  return (dict(autoencoder=flat, discriminator={'videos': discriminator}),
          jnp.asarray(np.load(clips_file)))


def gan_step(autoencoder, discriminator, params, pixels):
  """The train step of both players, its first state, batch and key."""
  import jax
  import jax.numpy as jnp
  import optax

  from walt_jax.core import types
  from walt_jax.training import state as train_state
  from walt_jax.training import tokenizer_step
  optimizer = optax.adam(1e-4, b1=0.0, b2=0.99)
  losses = tokenizer_step.TokenizerLosses(
      reconstruction='l2', adversarial_weight=_ADVERSARIAL_WEIGHT,
      lecam_weight=0.0)
  step = jax.jit(tokenizer_step.make_tokenizer_step(
      autoencoder, losses, optimizer, discriminators={'videos': discriminator},
      discriminator_optimizer=optimizer), donate_argnums=0)
  zero = jnp.zeros(())
  state = train_state.TrainState(
      step=jnp.zeros((), jnp.int32), params=params,
      opt_state={name: optimizer.init(tree) for name, tree in params.items()},
      extra={'lecam': {'videos': {'real': zero, 'fake': zero}}})
  batch = types.Batch(videos=types.Rows(pixels=pixels))
  # A state is donated: no two leaves of it may be one array.
  return step, jax.tree.map(jnp.copy, state), batch, jax.random.key(0)


def _milliseconds(call, repeats: int) -> float:
  import jax
  times = []
  for index in range(repeats + 2):
    start = time.perf_counter()
    jax.block_until_ready(call())
    if index > 1:
      times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)


def _ours(weights_file: str, clips_file: str, results_file: str, text: str):
  """Measures JAX; the same arguments as the peer's."""
  import jax
  options = json.loads(text)
  autoencoder, discriminator = networks_of(options)
  params, pixels = read_inputs(weights_file, clips_file)
  apply = lambda module, method=None: jax.jit(
      lambda p, x: module.apply({'params': p}, x, method=method))
  encode = apply(autoencoder, 'encode')
  decode = apply(autoencoder, 'decode')
  on_device = jax.device_put(params)
  latents = encode(on_device['autoencoder'], pixels).mean
  decoded = decode(on_device['autoencoder'], latents)
  logits = apply(discriminator)(on_device['discriminator']['videos'], pixels)
  result = dict(
      version=jax.__version__, device=jax.devices()[0].device_kind,
      encode=_milliseconds(lambda: encode(
          on_device['autoencoder'], pixels).mean, options['repeats']),
      decode=_milliseconds(lambda: decode(
          on_device['autoencoder'], latents), options['repeats']))
  step, state, batch, key = gan_step(
      autoencoder, discriminator, on_device, pixels)
  held = [step(state, batch, key)]
  gradients = [float(held[0][1][name])
               for name in ('grad_norm', 'discriminator_grad_norm')]
  np.savez(results_file, latents=np.asarray(latents),
           pixels=np.asarray(decoded), logits=np.asarray(logits),
           gradients=gradients)

  def train():
    held[0] = step(held[0][0], batch, key)
    return held[0][1]

  result['train_step'] = _milliseconds(train, options['repeats'])
  print(json.dumps(result))


def _large(weights_file: str, text: str):
  """Decodes 17x512x896 whole or streamed; time and peak memory."""
  import jax
  import jax.numpy as jnp

  from walt_jax.core import exports
  from walt_jax.parallel import mesh as mesh_lib
  from walt_jax.tokenizer import streaming
  options = json.loads(text)
  autoencoder, _ = networks_of(options)
  params = jax.device_put({k: v for k, v in exports.unflatten(
      dict(np.load(weights_file))).items() if k != 'discriminator'})
  latents = jax.random.normal(
      jax.random.key(0), (1, *_LARGE, autoencoder.latent_channels), jnp.float32)
  if options['streamed']:
    step = streaming.make_step(autoencoder, 'decode')
    call = lambda: streaming.decode(step, params, np.asarray(latents))
  else:
    decode = jax.jit(lambda p, x: autoencoder.apply({'params': p}, x,
                                                    method='decode'))
    call = lambda: decode(params, latents)
  seconds = _milliseconds(call, 1) / 1e3
  kind, peak = mesh_lib.peak_memory(mesh_lib.make_mesh())
  print(json.dumps(dict(seconds=seconds, memory=kind,
                        peak_gib=round(peak / 2**30, 2))))


def _run(command) -> dict[str, Any]:
  output = subprocess.run(command, capture_output=True, text=True)
  if output.returncode:
    raise SystemExit(f'{command[:4]} failed:\n{output.stderr[-2000:]}')
  return json.loads(output.stdout.splitlines()[-1])


def _compare(ours: str, theirs: str) -> dict[str, float]:
  """Largest gaps, as a share of the largest value."""
  a, b = np.load(ours), np.load(theirs)
  return {name: float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max())
          for name in a.files}


def main():
  """Prints one JSON object."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--torch_python')
  parser.add_argument('--batch', type=int, default=4)
  parser.add_argument('--forms', default='stacked,native')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--tiny', action='store_true')
  parser.add_argument('--compile', action='store_true')
  parser.add_argument('--remat', action='store_true')
  parser.add_argument('--decode_17x512x896', action='store_true', dest='large')
  parser.add_argument('--json')
  parser.add_argument('--ours', nargs=4)
  parser.add_argument('--ours_large', nargs=2)
  args = parser.parse_args()
  if args.ours:
    _ours(*args.ours)
    return
  if args.ours_large:
    _large(*args.ours_large)
    return
  size = (17, 32, 32) if args.tiny else (17, 128, 128)
  options = dict(
      channels=8 if args.tiny else 128, blocks=1 if args.tiny else 4,
      dtype='float32' if args.tiny else 'bfloat16', remat=args.remat,
      repeats=args.repeats, compile=args.compile,
      adversarial_weight=_ADVERSARIAL_WEIGHT, form='native')
  from walt_jax.builders import config as config_lib
  config = config_lib.to_dict(config_of(options))
  options |= {name: config[name] for name in ('model', 'discriminator')}
  result: dict[str, Any] = dict(clips=[args.batch, *size],
                                dtype=options['dtype'],
                                channels=options['channels'])
  with tempfile.TemporaryDirectory() as folder:
    weights, clips, theirs = (
        f'{folder}/{name}' for name in ('weights.npz', 'clips.npy', 't.npz'))
    write_inputs(options, (args.batch, *size), weights, clips)
    if args.torch_python:
      result['torch'] = _run([args.torch_python, str(_PEER), weights, clips,
                              theirs, json.dumps(options)])
    for form in args.forms.split(','):
      out = f'{folder}/{form}.npz'
      ours = _run([sys.executable, '-m', 'benchmarks.tokenizer_speed', '--ours',
                   weights, clips, out, json.dumps(options | dict(form=form))])
      if args.torch_python:
        ours['times_torch'] = {
            name: ours[name] / result['torch'][name]
            for name in ('encode', 'decode', 'train_step')}
        ours['gaps'] = _compare(out, theirs)
      result[form] = ours
    for streamed in (False, True) if args.large else ():
      name = f'decode_17x512x896_{"streamed" if streamed else "whole"}'
      result[name] = _run(
          [sys.executable, '-m', 'benchmarks.tokenizer_speed', '--ours_large',
           weights, json.dumps(options | dict(form='stacked',
                                              streamed=streamed))])
  text = json.dumps(result, indent=1)
  print(text)
  if args.json:
    pathlib.Path(args.json).write_text(text + '\n')


if __name__ == '__main__':
  main()
