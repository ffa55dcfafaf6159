"""Joining processes: nothing to do for one, and a barrier that names itself."""
from unittest import mock

from absl.testing import absltest
import jax

from walt_jax.parallel import distributed


class DistributedTest(absltest.TestCase):

  def test_one_process_joins_nothing_and_waits_for_nobody(self):
    with mock.patch.object(jax.distributed, 'initialize') as initialize:
      with distributed.joined(None):
        distributed.barrier('here', seconds=0.0)
    initialize.assert_not_called()

  def test_a_barrier_that_others_do_not_reach_names_place_and_process(self):
    client = mock.Mock()
    client.wait_at_barrier.side_effect = jax.errors.JaxRuntimeError('late')
    state = mock.Mock(client=client)
    with mock.patch.object(jax, 'process_count', lambda: 4), \
        mock.patch.object(jax, 'process_index', lambda: 2), \
        mock.patch.object(distributed.jax_distributed, 'global_state', state):
      with self.assertRaisesRegex(
          TimeoutError, "process 2 of 4 waited 3 s at 'save'"):
        distributed.barrier('save', seconds=3.0)
    client.wait_at_barrier.assert_called_once_with('walt_save', 3000)

  def test_who_is_missing_at_a_barrier_is_named(self):
    said = ('DEADLINE_EXCEEDED: Barrier timed out. Id: walt_x::0. # of tasks '
            'that reached the barrier: 2/4. The first task at the barrier: '
            '/job:jax_worker/replica:0/task:0. Some timed out task names: '
            '/job:jax_worker/replica:0/task:3, /job:jax_worker/replica:0/'
            'task:1')
    client = mock.Mock()
    client.wait_at_barrier.side_effect = jax.errors.JaxRuntimeError(said)
    with mock.patch.object(jax, 'process_count', lambda: 4), \
        mock.patch.object(distributed.jax_distributed, 'global_state',
                          mock.Mock(client=client)):
      with self.assertRaises(distributed.LateError) as caught:
        distributed.meet('a gathering')
    self.assertRegex(str(caught.exception), (
        r"^process 0 of 4 waited 7200 s at 'a gathering \(\d+\)' for "
        'process 1, process 3$'))


if __name__ == '__main__':
  absltest.main()
