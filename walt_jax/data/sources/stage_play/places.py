"""Where it plays: tiles, props and colours, by day and by night."""
import dataclasses

Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Place:
  """A place.

  Attributes:
    name: Its name in truths.
    words: Its words in captions.
    ground: Picture of the tiles that actors stand on.
    wall: Picture of the tiles that hide actors.
    props: Pictures of what stands behind the actors.
    sky: Colours of the day's sky, from its top to the horizon.
    hills: Colours of the far and the near hills by day.
  """
  name: str
  words: str
  ground: str
  wall: str
  props: tuple[str, ...]
  sky: tuple[Colour, Colour]
  hills: tuple[Colour, Colour]


PLACES = (
    Place('meadow', 'in a meadow', 'tiles/grassMid', 'tiles/brickBrown',
          ('tiles/bush', 'tiles/grass_sprout', 'tiles/mushroomRed'),
          ((96, 176, 240), (208, 238, 252)),
          ((152, 204, 170), (104, 178, 112))),
    Place('desert', 'in the desert', 'tiles/sandMid', 'tiles/boxCrate_double',
          ('tiles/cactus',),
          ((116, 196, 236), (252, 228, 176)),
          ((240, 204, 148), (222, 170, 108))),
    Place('snow', 'in the snow', 'tiles/snowMid', 'tiles/brickGrey',
          ('tiles/snow_pile',),
          ((128, 180, 220), (226, 238, 246)),
          ((206, 222, 236), (176, 200, 222))),
    Place('ruins', 'among ruins', 'tiles/stoneMid', 'tiles/brickGrey',
          ('tiles/grass_sprout', 'tiles/mushroomRed'),
          ((150, 170, 160), (224, 220, 196)),
          ((176, 180, 160), (138, 146, 126))),
    Place('planet', 'on a purple planet', 'tiles/planetMid',
          'tiles/brickBrown', ('tiles/plantPurple',),
          ((226, 120, 150), (252, 204, 176)),
          ((206, 132, 178), (168, 98, 158))),
)
BY_NAME = {place.name: place for place in PLACES}

NIGHT_SKY = ((14, 18, 52), (50, 60, 118))
STAR, MOON, SUN, CLOUD = (
    (236, 236, 255), (246, 242, 214), (255, 236, 140), (255, 255, 255))
# What night makes of the colours of all that is lit: 256ths of each.
NIGHT_SCENERY = (122, 134, 186)
NIGHT_ACTORS = (214, 220, 246)
DAY = (256, 256, 256)


def lit(colour: Colour, light: Colour) -> Colour:
  """A colour under a light, in 256ths by channel."""
  red, green, blue = (c * part >> 8 for c, part in zip(
      colour, light, strict=True))
  return red, green, blue
