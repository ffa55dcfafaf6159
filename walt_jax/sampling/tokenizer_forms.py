"""Forms in which a tokenizer goes through clips, in their order of choice.

All but tiles of a norm over whole frames give what whole batches give, up to
float32 rounding. The first one that fits into memory is taken: each needs less
than the one before, and has the devices wait more.
"""
from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

_EXACT_TILE = 16  # Of tiles that are taken unasked, in latent cells.
_GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Chunks:
  """What a user wants a tokenizer to compute at once, whatever fits.

  Attributes:
    stream: Whether it goes through a clip by one latent frame at a time, in
      memory that does not grow with the clip; equal to the whole clip up to
      float32 rounding.
    tile: Side of the square tiles of a frame in latent cells; None: whole
      frames. Equal to whole frames with norm 'position'; tiles of a tokenizer
      with norm 'group' overlap and are blended.
  """
  stream: bool = False
  tile: int | None = None


@dataclasses.dataclass(frozen=True)
class Form:
  """How a tokenizer goes through a batch.

  Attributes:
    rows: Clips that a device computes at once; those whose frames are cut
      over devices, that all compute at once.
    stream: Whether clips go through by one latent frame at a time.
    tile: Side of square tiles of a frame, in latent cells, or None.
    height_parts: Devices that each frame is cut over, along its height; 1
      where whole clips are spread over the devices.
  """
  rows: int
  stream: bool = False
  tile: int | None = None
  height_parts: int = 1

  def at_once(self, num_devices: int) -> int:
    """Rows that all devices compute at once."""
    return self.rows * (num_devices if self.height_parts == 1 else 1)

  @property
  def words(self) -> str:
    """Such as '1 clip a device, by latent frame'."""
    clips = f'{self.rows} clip{"s" if self.rows > 1 else ""}'
    parts = ([f'{clips} a device'] if self.height_parts == 1 else
             [clips, f'frames cut along their height over '
              f'{self.height_parts} devices'])
    parts += ['by latent frame'] * self.stream
    parts += [f'in tiles of {self.tile}'] * bool(self.tile)
    return ', '.join(parts)


@dataclasses.dataclass(frozen=True)
class Choice:
  """The form that was chosen, and why.

  Attributes:
    form: It.
    estimated_bytes: What a device needs by the estimate, weights included.
    free_bytes: What a device has.
    num_devices: Devices that take part.
  """
  form: Form
  estimated_bytes: int
  free_bytes: int
  num_devices: int

  @property
  def fits(self) -> bool:
    """Whether it does, by the estimate."""
    return self.estimated_bytes <= self.free_bytes

  @property
  def words(self) -> str:
    """For the log."""
    return (f'{self.form.words} ({self.num_devices} x about '
            f'{self.estimated_bytes / _GIB:.3g} of '
            f'{self.free_bytes / _GIB:.3g} GiB'
            f'{"" if self.fits else ", which may be too much"})')

  def as_json(self) -> dict[str, Any]:
    """Plain values, for `samples.json`."""
    return dict(words=self.form.words, **dataclasses.asdict(self))


def forms(chunks: Chunks, rows: int, num_devices: int,
          latents: Sequence[int], *, is_ours: bool, is_local: bool,
          prefer_height: bool = False) -> Iterator[Form]:
  """Yields the forms for a batch, the fastest first.

  Args:
    chunks: What the user wants, whatever fits.
    rows: Clips of the batch.
    num_devices: Devices to spread over.
    latents: (1+t, h, w) of a clip.
    is_ours: Whether the network is `autoencoder.Autoencoder`; one of the
      user's own goes through whole clips.
    is_local: Whether tiles are exact.
    prefer_height: Whether frames are cut over the devices at once: the least
      time for a single clip.
  """
  frames, height = latents[0], latents[1]
  each = -(-rows // num_devices)
  whole = Form(each, chunks.stream, chunks.tile)
  one = dataclasses.replace(whole, rows=1)
  cut = [dataclasses.replace(one, height_parts=parts)
         for parts in [_largest_divisor(height, num_devices)]
         if parts > 1 and is_ours and not chunks.tile]
  if prefer_height:
    yield from cut
  yield whole
  if each > 1:
    yield one
  if not is_ours:
    return
  streams = frames > 1
  if streams and not chunks.stream:
    yield dataclasses.replace(one, stream=True)
  yield from (dataclasses.replace(form, stream=streams) for form in cut)
  if is_local and not chunks.tile:
    yield dataclasses.replace(one, stream=streams, tile=_EXACT_TILE)


def _largest_divisor(number: int, limit: int) -> int:
  return max(d for d in range(1, min(number, limit) + 1) if number % d == 0)
