"""Who plays, and what they can do."""
import dataclasses

CHARACTER_ACTIONS = ('walk', 'jump', 'climb', 'stand', 'fall')
ACTIONS = (*CHARACTER_ACTIONS, 'fly', 'hop', 'crawl', 'roll')
MOVING = ('walk', 'fly', 'hop', 'crawl', 'roll')  # To the left or the right.
LIGHTS = ('day', 'night')
# Sprites of characters: 96 x 128 pixels, their feet at the lower edge.
FIGURE_PIXELS = 128


@dataclasses.dataclass(frozen=True)
class Actor:
  """One of the cast.

  Attributes:
    name: Its name in captions.
    actions: What it can do.
    sprites: Path of its pictures; a character's poses are appended.
    units: Height of what 128 pixels of its pictures are drawn at, in units of
      a 32nd of the frame's height, at the scale of a figure of 21 units.
    moved: A second picture for the other half of its motion, or ''.
    margin: Rows of its pictures that are empty below it.
    turn: 64ths of a turn by which its picture is turned to look to the right,
      or None where the picture looks to the left and is mirrored.
  """
  name: str
  actions: tuple[str, ...]
  sprites: str
  units: int = 21
  moved: str = ''
  margin: int = 0
  turn: int | None = None

  @property
  def is_character(self) -> bool:
    return self.actions == CHARACTER_ACTIONS


def _character(name: str, sprites: str) -> Actor:
  return Actor(name, CHARACTER_ACTIONS, f'animated_characters/{sprites}')


CAST = (
    _character('explorer', 'female_adventurer/femaleAdventurer'),
    _character('girl', 'female_person/femalePerson'),
    _character('boy', 'male_adventurer/maleAdventurer'),
    _character('man', 'male_person/malePerson'),
    _character('robot', 'robot/robot'),
    _character('zombie', 'zombie/zombie'),
    Actor('bee', ('fly',), 'enemies/bee', 13),
    Actor('housefly', ('fly',), 'enemies/fly', 13),
    Actor('spaceship', ('fly',), 'space_shooter/playerShip1_orange', 18,
          turn=16),
    Actor('frog', ('hop',), 'enemies/frog', 14, moved='enemies/frog_move'),
    Actor('blue slime', ('hop',), 'enemies/slimeBlue', 15),
    Actor('purple slime', ('hop',), 'enemies/slimePurple', 15),
    Actor('worm', ('crawl',), 'enemies/wormGreen', 14,
          moved='enemies/wormGreen_move'),
    Actor('ladybug', ('crawl',), 'enemies/ladybug', 13),
    Actor('mouse', ('crawl',), 'enemies/mouse', 14),
    Actor('saw', ('roll',), 'enemies/saw', 12, margin=7),
    Actor('coin', ('roll',), 'items/coinGold', 18, margin=32),
    Actor('rock', ('roll',), 'space_shooter/meteorGrey_big4', 14),
)
BY_NAME = {actor.name: actor for actor in CAST}
# Label ids are places in this table, whatever the difficulty.
PAIRS = tuple((actor.name, action) for actor in CAST
              for action in actor.actions)
CLASSES = tuple(f'{name} {action}' for name, action in PAIRS)
