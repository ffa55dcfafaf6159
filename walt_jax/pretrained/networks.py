"""What a result says of the network that made it."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class NetworkInfo:
  """Attributes:

    name: Such as 'i3d-kinetics-400'; scores of unlike networks never mix.
    source: Package and version, or 'path' for a file the user gave.
    sha256: Sha256 of the weight file.
  """
  name: str
  source: str
  sha256: str
