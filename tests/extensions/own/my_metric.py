"""A metric: how much brighter generated clips are than real ones."""
import numpy as np


class Brightness:
  """Difference of the mean pixel, in grey levels."""
  takes = ('real', 'generated')

  def evaluate(self, inputs):
    real, generated = inputs.real(), inputs.generated()
    difference = (np.mean([clip.mean() for clip in generated])
                  - np.mean([clip.mean() for clip in real]))
    return dict(value=float(difference), num_generated=len(generated))
