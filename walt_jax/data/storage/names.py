"""Names of splits, and of classes as captions read them."""
import re

TRAIN, HELD_OUT = 'train', 'heldout'
SPLITS = (TRAIN, HELD_OUT)


def spaced(name: str) -> str:
  """Reads a class name as words: 'ApplyEyeMakeup' -> 'apply eye makeup'."""
  words = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', name)
  return re.sub(r'[_\-\s]+', ' ', words).strip().lower()
