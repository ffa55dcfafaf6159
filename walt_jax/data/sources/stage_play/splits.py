"""Which combinations a split shows: some are never trained on.

A combination is (actor, action, light). Those in `HELD_OUT` are in no clip of
`train` and `heldout`, and are what the main actor does in every clip of
`unseen`; each actor, each action and each light of theirs is trained on in
other combinations, so that composing is tested and not memory. `reader` shows
all of them: for what reads clips, not for what draws them.
"""
import functools

from walt_jax.data.sources.stage_play import cast

SPLITS = ('train', 'heldout', 'unseen', 'reader')
HELD_OUT = frozenset({
    ('explorer', 'climb', 'day'), ('explorer', 'stand', 'night'),
    ('girl', 'fall', 'night'), ('girl', 'walk', 'day'),
    ('boy', 'walk', 'night'), ('boy', 'fall', 'day'),
    ('man', 'jump', 'day'), ('man', 'climb', 'night'),
    ('robot', 'stand', 'day'), ('robot', 'jump', 'night'),
    ('zombie', 'climb', 'night'), ('zombie', 'jump', 'day'),
    ('bee', 'fly', 'night'), ('spaceship', 'fly', 'day'),
    ('frog', 'hop', 'day'), ('purple slime', 'hop', 'night'),
    ('ladybug', 'crawl', 'night'), ('mouse', 'crawl', 'day'),
    ('coin', 'roll', 'day'), ('saw', 'roll', 'night'),
})
Combination = tuple[str, str, str]


@functools.cache
def combinations(split: str, names: tuple[str, ...]
                 ) -> tuple[Combination, ...]:
  """What the main actor of a split may do, for a cast of these names."""
  everything = [(name, action, light) for name, action in cast.PAIRS
                if name in names for light in cast.LIGHTS]
  return tuple(one for one in everything if allows_main(split, one))


def allows_main(split: str, combination: Combination) -> bool:
  """Whether the main actor may do that."""
  if split == 'unseen':
    return combination in HELD_OUT
  return allows(split, combination)


def allows(split: str, combination: Combination) -> bool:
  """Whether any other actor may do that."""
  return split == 'reader' or combination not in HELD_OUT
