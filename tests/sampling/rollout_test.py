"""Windows of long clips: how many, what each adds, how they join."""
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from walt_jax.sampling import rollout


def window(values) -> np.ndarray:
  """A clip of 1 x 1 frames of these grey values."""
  values = np.asarray(values, np.uint8)
  return np.broadcast_to(values[:, None, None, None], (len(values), 1, 1, 3))


class RolloutTest(parameterized.TestCase):

  @parameterized.parameters(
      (1, 1), (17, 1), (18, 2), (29, 2), (30, 3), (41, 3), (42, 4))
  def test_the_papers_windows(self, num_frames, num_windows):
    """17 frames a window, 5 of them given: N = 17 + 12 k."""
    plan = rollout.plan(num_frames, window_latents=5, f_t=4)
    self.assertEqual((plan.context_frames, plan.new_frames), (5, 12))
    self.assertEqual(plan.num_windows, num_windows)

  @parameterized.parameters((3, 4), (4, 2), (5, 4), (3, 1))
  def test_windows_add_all_frames_in_turn(self, latents, f_t):
    plan = rollout.plan(50, latents, f_t)
    if plan.new_frames < plan.context_frames:
      self.assertGreater(plan.num_windows, 5)
    firsts = [plan.first_new(w) for w in range(plan.num_windows + 1)]
    self.assertEqual(firsts[:2], [0, plan.window_frames])
    self.assertEqual(set(np.diff(firsts[1:])), {plan.new_frames})
    self.assertBetween(50, firsts[-2] + 1, firsts[-1])
    # Windows cut out of a longer clip join to that clip again.
    truth = np.arange(200)
    windows = [window(truth[max(first - plan.context_frames, 0):][
        :plan.window_frames]) for first in firsts[:-1]]
    for blend in (False, True):
      joined = rollout.join(windows, plan, blend=blend)
      np.testing.assert_array_equal(joined, window(truth[:50]))

  def test_windows_that_disagree(self):
    plan = rollout.plan(29, 5, 4)
    windows = [window([60] * 17), window([120] * 17)]
    hard = rollout.join(windows, plan, blend=False)[:, 0, 0, 0]
    np.testing.assert_array_equal(hard, [60] * 17 + [120] * 12)
    soft = rollout.join(windows, plan, blend=True)[:, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(soft, [60] * 12 + [70, 80, 90, 100, 110]
                                  + [120] * 12)
    self.assertEqual(np.abs(np.diff(soft)).max(), 10)

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, 'at least 1: 0'):
      rollout.plan(0, 5, 4)

  def test_images_cannot_go_on(self):
    self.assertEqual(rollout.plan(None, 1, 4).num_windows, 1)
    with self.assertRaisesRegex(ValueError, 'no new ones'):
      rollout.plan(2, 1, 4)
    with self.assertRaisesRegex(ValueError, 'no new ones'):
      rollout.plan(6, 2, 4)


if __name__ == '__main__':
  absltest.main()
