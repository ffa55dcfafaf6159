"""Kenney's sprites (CC0) inside of the package `arcade`, read by path and hash.

Nothing of the package is imported. `art.sha256` names every picture that the
world is drawn from, with its sha256.
"""
import functools
import hashlib
from importlib import resources

import numpy as np

from walt_jax.core import errors
from walt_jax.data.sources import stage_play
from walt_jax.pretrained import reader

REQUIREMENT = 'arcade==3.3.3'
_FOLDER = 'resources/assets/images'


@functools.cache
def digests() -> dict[str, str]:
  """The sha256 of each picture, by its path in the folder of pictures."""
  table = resources.files(stage_play) / 'art.sha256'
  lines = table.read_text(encoding='ascii').splitlines()
  return {name: digest for digest, name in map(str.split, lines)}


@functools.cache
def read(name: str) -> np.ndarray:
  """A picture of `digests`, such as 'enemies/bee': uint8 [H, W, 4], RGBA.

  Raises:
    errors.UserError: The package is missing, or holds another picture.
  """
  from PIL import Image
  path = reader.package_file('arcade', f'{_FOLDER}/{name}.png', REQUIREMENT)
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  if found != digests()[name]:
    raise errors.UserError(
        f'{path} has sha256 {found}, expected {digests()[name]}; install the '
        f"pinned version again: 'pip install --no-deps {REQUIREMENT}'")
  with Image.open(path) as image:
    pixels = np.array(image.convert('RGBA'))
  pixels.setflags(write=False)
  return pixels
