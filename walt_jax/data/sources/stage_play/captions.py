"""Captions of facts in their variants, and facts of captions.

The plain form is 'a robot walks left in a meadow at night'. Others put the
light first, use other words for it, join two with 'while', or leave out place
and light.
"""
import re

from walt_jax.data.sources.stage_play import cast
from walt_jax.data.sources.stage_play import facts as facts_lib
from walt_jax.data.sources.stage_play import places

# Tokens that every caption fits in, of both text encoders, by difficulty.
MAX_TOKENS = {'solo': 16, 'duo': 28, 'stage': 48}

_LIGHTS = {'day': ('by day', 'under a bright sky', 'in daylight'),
           'night': ('at night', 'under a night sky', 'after dark')}
_NUMBERS = ('', '', 'two', 'three')
_CAMERA = ', the camera pans {}'


def plain(facts: facts_lib.Facts) -> str:
  """The first form."""
  return _sentence(facts, ' and ', 0)


def variants(facts: facts_lib.Facts) -> tuple[str, ...]:
  """All forms, the plain one first."""
  found = []
  for light in range(len(_LIGHTS['day'])):
    for joint in (' and ', ' while ') if len(facts.groups) > 1 else (' and ',):
      found.append(_sentence(facts, joint, light))
      found.append(_sentence(facts, joint, light, is_first=True))
  found.append(_joined(facts, ' and '))
  return tuple(found)


def _sentence(facts: facts_lib.Facts, joint: str, light: int, *,
              is_first: bool = False) -> str:
  assert facts.light is not None and facts.place is not None
  when = _LIGHTS[facts.light][light]
  what = f'{_joined(facts, joint)} {places.BY_NAME[facts.place].words}'
  text = f'{when}, {what}' if is_first else f'{what} {when}'
  if facts.camera in ('left', 'right'):
    text += _CAMERA.format(facts.camera)
  return text


def _joined(facts: facts_lib.Facts, joint: str) -> str:
  """'a robot walks left and two bees fly right'."""
  *others, last = (_clause(group) for group in facts.groups)
  if not others:
    return last
  return f'{(", " if joint == " and " else " and ").join(others)}{joint}{last}'


def _clause(group: facts_lib.Group) -> str:
  if group.count > 1:
    words = [_NUMBERS[group.count], _plural(group.actor), group.action]
  else:
    article = 'an' if group.actor[0] in 'aeiou' else 'a'
    words = [article, group.actor, _third_person(group.action)]
  return ' '.join(filter(None, [*words, group.direction]))


def _plural(name: str) -> str:
  irregular = dict(man='men', mouse='mice', housefly='houseflies')
  return irregular.get(name, f'{name}s')


def _third_person(verb: str) -> str:
  return 'flies' if verb == 'fly' else f'{verb}s'


def _forms() -> dict[str, tuple[str, str, int]]:
  """'a robot walks' -> ('robot', 'walk', 1), of all clauses."""
  found = {}
  for actor, action in cast.PAIRS:
    for count in (1, 2, 3):
      clause = _clause(facts_lib.Group(actor, action, '', count))
      found[clause] = (actor, action, count)
  return found


_KNOWN = _forms()
_CLAUSE = re.compile(r'\b({})(?: (left|right|up|down))?\b'.format(
    '|'.join(sorted(map(re.escape, _KNOWN), key=len, reverse=True))))


def parse(text: str) -> facts_lib.Facts:
  """The facts that a caption, or the name of a class, says.

  Raises:
    ValueError: It names nobody who does anything.
  """
  text = ' '.join(text.lower().replace('_', ' ').split())
  if text in cast.CLASSES:
    actor, action = cast.PAIRS[cast.CLASSES.index(text)]
    return facts_lib.Facts((facts_lib.Group(actor, action, ''),))
  groups = []
  for clause, direction in _CLAUSE.findall(text):
    actor, action, count = _KNOWN[clause]
    groups.append(facts_lib.Group(actor, action, direction, count))
  if not groups:
    raise ValueError(f'Names nobody of the cast who does anything: {text!r}.')
  place = next((place.name for place in places.PLACES
                if place.words in text), None)
  light = next((light for light, forms in _LIGHTS.items()
                if any(form in text for form in forms)), None)
  pans = re.search(_CAMERA.format('(left|right)'), text)
  camera = pans[1] if pans else None
  return facts_lib.Facts(tuple(groups), place, light, camera)
