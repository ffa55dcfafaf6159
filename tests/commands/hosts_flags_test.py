"""Flags of several hosts: which commands take them, and what is each one's."""
import contextlib
import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.commands import cli
from walt_jax.commands import supervise
from walt_jax.commands.flags import hosts
from walt_jax.core import errors
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
      ('sample --workdir w --out o', 'again'),
      ('evaluate fvd --workdir w --json j', 'to continue'),
      ('evaluate control --workdir w --json j', 'to continue'),
      ('evaluate own:Metric --workdir w --json j', 'to continue'),
      ('data prepare --latents --workdir w --input i --output o',
       'to continue at the unfinished shards'))
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

  def alone(self, line):
    """Whether a command line is for this process, in a cluster of SLURM."""
    args = cli.parse(line.split())
    with mock.patch.object(supervisor, 'run', return_value=0) as run, \
        mock.patch.object(supervise.importlib, 'import_module'), \
        mock.patch.dict(os.environ, {
            'SLURM_PROCID': '1', 'SLURM_STEP_NODELIST': 'a[1-2]',
            'SLURM_NTASKS': '2'}, clear=True), contextlib.suppress(SystemExit):
      supervise.run(args)
    return not run.called

  def test_what_a_scheduler_says_is_for_what_runs_on_several(self):
    prepare = 'data prepare --input i --output o'
    latents = f'{prepare} --latents --workdir w'
    self.assertFalse(self.alone('sample --workdir w --out o'))
    self.assertFalse(self.alone(latents))
    self.assertTrue(self.alone(prepare))
    # Such processes know each other by their files.
    self.assertTrue(self.alone(f'{latents} --process 1/4'))
    self.assertTrue(self.alone('train --replay bundle'))
    for flag in ('--process 1/2', '--coordinator a:1 --process 1/2'):
      with self.assertRaisesRegex(errors.UserError, 'go with --latents'):
        self.alone(f'{prepare} {flag}')


if __name__ == '__main__':
  absltest.main()
