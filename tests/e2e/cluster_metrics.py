"""A metric that several processes compute in moments, of a class of one's own.

  walt evaluate tests.e2e.cluster_metrics:Colours ..
"""
from tests.e2e import evaluate_test
from walt_jax.evaluation import fid


class Colours(fid.FID):
  """FID, with a network that compiles seconds sooner."""

  def load_network(self, plan, *, is_video, devices):
    """Means and spreads of colours."""
    del plan, is_video
    return evaluate_test._network(batch_size=2, devices=devices)
