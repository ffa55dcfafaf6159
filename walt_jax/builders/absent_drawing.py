"""What `walt sample` runs beside a denoiser, for devices that are not there."""
from collections.abc import Iterator
import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from walt_jax.builders import absent_encoders
from walt_jax.builders import networks
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.sampling import tokenizer_forms
from walt_jax.sampling import tokenizer_programs
from walt_jax.text import encoder as text_encoder

_NO_CHUNKS = tokenizer_forms.Chunks()  # None is asked for.
_struct = jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A form of decoding, traced.

  Attributes:
    choice: The form, and what it needs by an estimate.
    programs: For each program its trace, and how often it runs for all clips.
  """
  choice: tokenizer_forms.Choice
  programs: dict[str, tuple[jax.stages.Traced, int]]


def decoders(encoders: absent_encoders.AbsentEncoders,
             mesh: jax.sharding.Mesh, num_samples: int,
             free_bytes: int) -> Iterator[Decoder]:
  """Yields the forms that `walt sample` would decode in, the first first.

  Args:
    encoders: Describes the tokenizer.
    mesh: Absent devices.
    num_samples: Clips of a batch.
    free_bytes: Memory of a device that may be used.
  """
  latents = encoders.config.latents
  shape = (num_samples, latents.frames, latents.height, latents.width,
           latents.channels)
  programs = tokenizer_programs.TokenizerPrograms(encoders.tokenizer)
  devices = list(mesh.devices.flat)
  for choice in programs.fitting(
      'decode', _NO_CHUNKS, encoders.shapes['tokenizer'], shape, free_bytes,
      len(devices),
      prefer_height=mesh_lib.num_context_parts(mesh) > 1):
    form = choice.form
    rows = tokenizer_programs.layout(form, devices[:choice.num_devices])
    frozen = _placed(encoders.shapes['tokenizer'],
                     NamedSharding(rows.mesh, P()))
    at_once = form.at_once(len(devices))
    traced = programs.trace('decode', form, frozen, _struct(
        (at_once, *shape[1:]), jnp.float32, sharding=rows), rows)
    yield Decoder(choice, {
        name: (program, times * -(-num_samples // at_once))
        for name, (program, times) in traced.items()})


def text_program(encoders: absent_encoders.AbsentEncoders,
                 mesh: jax.sharding.Mesh) -> jax.stages.Traced | None:
  """Traces the encoding of one prompt, on one device; None without text."""
  text = encoders.config.text
  if not text.name:
    return None
  one = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])
  tokens = lambda dtype: _struct((1, text.max_tokens), dtype, sharding=one)
  network = text_encoder.network(
      text.name, text.width, text.path or None,
      dtype=networks.DTYPES[text.dtype])
  return text_encoder.trace(
      network, _placed(encoders.shapes['text'], one),
      tokens(jnp.int32), tokens(bool))


def _placed(shapes, sharding: jax.sharding.Sharding):
  return jax.tree.map(
      lambda x: _struct(x.shape, x.dtype, sharding=sharding), shapes)
