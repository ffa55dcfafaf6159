"""Flags of several hosts: which commands take them, and what is each one's."""
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.commands import supervise
from walt_jax.commands.flags import hosts
from walt_jax.parallel import supervisor

_HOSTS = ['--coordinator', 'host:1', '--process', '1/2']


class HostsFlagsTest(parameterized.TestCase):

  @parameterized.parameters(
      (['a', *_HOSTS, 'b'], ['a', 'b']),
      (['--process=1/2', '--seed', '3', '--host_timeout', '9', '--start_timeout'
        '=3'], ['--seed', '3']),
      # What follows a flag is its value, whatever it looks like.
      (['--coordinator', '--process', '--seed'], ['--seed']),
      (['--out=--process', '--prompt', 'a b'],
       ['--out=--process', '--prompt', 'a b']))
  def test_what_hosts_share(self, argv, expected):
    self.assertEqual(hosts.shared(argv), expected)

  @parameterized.parameters(
      ('train --config c --workdir w', 'to resume from the last checkpoint'),
      ('sample --workdir w --out o', 'again'))
  def test_commands_of_several_hosts_are_supervised(self, line, again):
    args = cli.parse([*line.split(), *_HOSTS])
    with mock.patch.object(
        supervisor, 'run', return_value=76) as run, mock.patch.dict(
            'os.environ', clear=True):
      with self.assertRaises(SystemExit) as caught:
        supervise.run(args)
    self.assertEqual(caught.exception.code, 76)
    found, command = run.call_args.args
    self.assertEqual((found.coordinator, found.process_id,
                      found.num_processes), ('host:1', 1, 2))
    self.assertEqual(command[1:], ['-m', 'walt_jax', *line.split(), *_HOSTS])
    self.assertEqual(run.call_args.kwargs['again'], again)
    self.assertEqual(run.call_args.kwargs['alike'][1:], tuple(line.split()))


if __name__ == '__main__':
  absltest.main()
