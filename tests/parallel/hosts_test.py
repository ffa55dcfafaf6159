"""Where a run's processes are read from."""
import http.server
import threading

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.core import errors
from walt_jax.parallel import hosts


class HostsTest(parameterized.TestCase):

  def test_one_process_is_none(self):
    self.assertIsNone(hosts.find({}))
    self.assertIsNone(hosts.find({'TPU_WORKER_HOSTNAMES': 'localhost',
                                  'TPU_WORKER_ID': '0'}))
    self.assertIsNone(hosts.find({}, coordinator='a:1', process=(0, 1)))

  def test_flags_come_before_the_environment(self):
    found = hosts.find(
        {'WALT_COORDINATOR': 'b:2', 'WALT_NUM_PROCESSES': '3',
         'WALT_PROCESS_ID': '2'}, coordinator='a:1', process=(1, 2))
    self.assertEqual((found.coordinator, found.process_id,
                      found.num_processes), ('a:1', 1, 2))

  def test_own_variables_with_a_kubernetes_index(self):
    found = hosts.find(
        {'WALT_COORDINATOR': 'run-hosts-0-0.run:8476',
         'WALT_NUM_PROCESSES': '16', 'JOB_COMPLETION_INDEX': '7'})
    self.assertEqual((found.process_id, found.num_processes), (7, 16))

  def test_tpu_worker_variables(self):
    found = hosts.find({'TPU_WORKER_HOSTNAMES': 'a,b,c',
                        'TPU_WORKER_ID': '2', 'SLURM_PROCID': '0'})
    self.assertEqual(found.coordinator, 'a:8476')
    self.assertEqual((found.process_id, found.num_processes), (2, 3))
    self.assertEqual(found.name_of(1), 'process 1 (b)')

  def test_several_slices(self):
    found = hosts.find({
        'TPU_WORKER_HOSTNAMES': 'a,b', 'TPU_WORKER_ID': '1',
        'MEGASCALE_NUM_SLICES': '3', 'MEGASCALE_SLICE_ID': '2',
        'MEGASCALE_COORDINATOR_ADDRESS': 'first:8080'})
    self.assertEqual(found.coordinator, 'first:8476')
    self.assertEqual((found.process_id, found.num_processes), (5, 6))

  def test_slurm(self):
    found = hosts.find({
        'SLURM_JOB_ID': '12345', 'SLURM_NTASKS': '3', 'SLURM_PROCID': '1',
        'SLURM_STEP_NODELIST': 'gpu[09-10],login'})
    self.assertEqual(found.names, ('gpu09', 'gpu10', 'login'))
    self.assertEqual((found.process_id, found.num_processes), (1, 3))
    host, port = found.coordinator.split(':')
    self.assertEqual(host, 'gpu09')
    self.assertBetween(int(port), 20_000, 60_000)

  @parameterized.parameters(
      ('a', ('a',)), ('a,b-1', ('a', 'b-1')),
      ('n[1-3]', ('n1', 'n2', 'n3')),
      ('n[08-11,20]x,m', ('n08x', 'n09x', 'n10x', 'n11x', 'n20x', 'm')))
  def test_node_lists(self, text, expected):
    self.assertEqual(hosts.expand_nodes(text), expected)

  @parameterized.parameters(
      ({'WALT_COORDINATOR': 'a:1'}, 'WALT_NUM_PROCESSES'),
      ({'WALT_COORDINATOR': 'a', 'WALT_NUM_PROCESSES': '2',
        'WALT_PROCESS_ID': '0'}, 'HOST:PORT'),
      ({'WALT_COORDINATOR': 'a:1', 'WALT_NUM_PROCESSES': '2',
        'WALT_PROCESS_ID': '2'}, 'process 2 of 2'),
      ({'WALT_COORDINATOR': 'a:1', 'WALT_NUM_PROCESSES': 'x',
        'WALT_PROCESS_ID': '0'}, "'x'"),
      ({'WALT_COORDINATOR': 'a:65535', 'WALT_NUM_PROCESSES': '2',
        'WALT_PROCESS_ID': '0'}, 'a port of 1 to 65534'),
      ({'WALT_COORDINATOR': 'a:0', 'WALT_NUM_PROCESSES': '2',
        'WALT_PROCESS_ID': '0'}, 'a port of 1 to 65534'),
      ({'TPU_WORKER_HOSTNAMES': 'a,b'}, '2 hosts; set TPU_WORKER_ID'),
      ({'TPU_WORKER_HOSTNAMES': 'a,b', 'TPU_WORKER_ID': '0',
        'MEGASCALE_NUM_SLICES': '2',
        'MEGASCALE_COORDINATOR_ADDRESS': 'a:1'}, 'set .*MEGASCALE_SLICE_ID'),
      ({'WALT_HOSTS': 'gpu'}, "'gpu'"))
  def test_what_does_not_fit_is_refused(self, environment, message):
    with self.assertRaisesRegex(errors.UserError, message):
      hosts.find(environment)

  def test_flags_go_together(self):
    with self.assertRaisesRegex(errors.UserError, '--process'):
      hosts.find({}, coordinator='a:1')

  def test_metadata_server(self):
    """A server on this machine stands for a TPU VM's."""
    values = {'worker-network-endpoints':
              'unknown:unknown:10.0.0.5,unknown:unknown:10.0.0.6',
              'agent-worker-number': '1'}

    class Handler(http.server.BaseHTTPRequestHandler):

      def do_GET(self):  # pylint: disable=invalid-name
        name = self.path.rsplit('/', 1)[1]
        known = self.headers['Metadata-Flavor'] == 'Google' and name in values
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(values.get(name, '').encode())

      def log_message(self, *args):
        pass

    server = http.server.ThreadingHTTPServer(('localhost', 0), Handler)
    self.addCleanup(server.server_close)
    self.addCleanup(server.shutdown)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {'WALT_HOSTS': 'tpu', 'GCE_METADATA_HOST':
                   f'localhost:{server.server_address[1]}'}
    found = hosts.find(environment)
    self.assertEqual(found.coordinator, '10.0.0.5:8476')
    self.assertEqual((found.process_id, found.num_processes), (1, 2))
    del values['agent-worker-number']
    with self.assertRaisesRegex(errors.UserError, 'agent-worker-number'):
      hosts.find(environment)


if __name__ == '__main__':
  absltest.main()
