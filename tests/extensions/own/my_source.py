"""A data source: a white bar that moves left or right over black."""
import numpy as np


class MovingBars:
  """Example i is a function of i; `path` is not used."""
  classes = ('left', 'right')

  def __init__(self, path: str, split: str):
    del path
    self._seed = dict(train=0, heldout=1)[split]

  def __len__(self) -> int:
    return 32

  def __getitem__(self, index: int) -> dict:
    rng = np.random.default_rng([self._seed, index])
    label, speed = int(rng.integers(2)), int(rng.integers(1, 4))
    video = np.zeros((9, 16, 16, 3), np.uint8)
    for number, frame in enumerate(video):
      frame[:, (8 + (2 * label - 1) * speed * number) % 16] = 255
    return dict(video=video, label=label, caption=f'{speed} pixels a frame',
                fps=8.0, key=f'{index:05d}', speed=np.float32(speed))
