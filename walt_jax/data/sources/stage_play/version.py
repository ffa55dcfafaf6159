"""What version 1 of the world is, by hashes of its parts.

A change of any of them is version 2: figures of models that were trained on
one version say nothing about another.
"""
import hashlib

from walt_jax.data.sources.stage_play import art
from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import render
from walt_jax.data.sources.stage_play import scenes
from walt_jax.data.sources.stage_play import source
from walt_jax.data.sources.stage_play import splits

VERSION = scenes.VERSION
SHA256 = {
    'art': (
        '2f3a334b0028517a763647614e54a294'
        '05762c6fd63603054d6de95db886f959'),
    'captions': (
        '3cdfd91058158925d51991e385f6dbf9'
        '85f9184cb8f34e3a57e692e2735646a3'),
    'splits': (
        '3b7e17d52c6bab2ca141d42621431675'
        'f2170d4155cb9fd664e6ed69f89a1dde'),
    'clips': (
        'fe641ad3a1c4bdbdc4289a82b48c306f'
        '2739fa9e5cbcf854e61977597a14e11c'),
}
_CAPTIONED = 200  # Clips of each difficulty and split.
# Heights, widths, frames, and the number of a clip of each difficulty.
_DRAWN = ((32, 32, 17, 3), (128, 128, 5, 40), (48, 80, 4, 71), (144, 96, 3, 90))


def fingerprint() -> dict[str, str]:
  """The hashes of what is installed, to be compared with `SHA256`."""
  return dict(art=_hash(sorted(art.digests().items())),
              captions=_hash(_captions()), splits=_hash(_splits()),
              clips=_hash(_clips()))


def _hash(value: object) -> str:
  return hashlib.sha256(repr(value).encode()).hexdigest()


def _splits() -> list[object]:
  return [(split, name, splits.combinations(split, setting.names))
          for split in splits.SPLITS
          for name, setting in scenes.DIFFICULTIES.items()]


def _captions() -> list[object]:
  found: list[object] = [cast.CLASSES]
  for name in scenes.DIFFICULTIES:
    for split in splits.SPLITS:
      play = source.StagePlay(split, _CAPTIONED, difficulty=name)
      found += [play.captions(index) for index in range(_CAPTIONED)]
  return found


def _clips() -> list[str]:
  found = []
  for name in scenes.DIFFICULTIES:
    for height, width, frames, index in _DRAWN:
      scene = scenes.draw(name, 'train', 0, index,
                          render.view_of(height, width))
      video = render.render(scene, height, width, frames)
      found.append(hashlib.sha256(video.tobytes()).hexdigest())
  return found
