"""Launch scripts against stub clouds that record calls and fail."""
import os
import pathlib
import re
import subprocess
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized

_LAUNCH = pathlib.Path(__file__).resolve().parent.parent / 'launch'
# Each call is a line of `calls`; answers are taken from files, a line each.
_STUB = r'''#!/usr/bin/env bash
cd "$STUB"
printf '%s ' "${0##*/}" "${@//$'\n'/;}" >> calls
echo >> calls
next() {
  [[ -s "$1" ]] || { echo "$2"; return; }
  head -n 1 "$1"
  sed -i 1d "$1"
}
'''
_GCLOUD = _STUB + r'''
case "$*" in
  *describe*)
    state=$(next states ACTIVE)
    [[ $state == NONE ]] && exit 1
    echo "$state"
    ;;
  *'cat walt/code'*)
    code=$(next codes '')
    [[ $code == - || -z $code ]] && exit 1
    echo "$(grep -o 'run-[0-9]*-[0-9]*' calls | tail -n 1) $code"
    ;;
  *' ssh '*'cat > run.sh'*) exit "$(next ssh 0)" ;;
  *' scp '*) exit "$(next scp 0)" ;;
  *' create '*) exit "$(next creates 0)" ;;
esac
'''
_SRUN = _STUB + r'''
echo "${WALT_TOKEN:-}" > token
exit "$(next codes 0)"
'''
_KUBECTL = _STUB + r'''
case "$1" in
  get) [[ -e secret ]]; exit ;;
  create) cat > secret ;;
  apply)
    cat > manifest
    exit "$(next codes 0)"
    ;;
esac
'''


class StubTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    self.wheel = self.folder / 'walt_jax-0-py3-none-any.whl'
    self.wheel.touch()

  def stub(self, name, text, **answers):
    program = self.folder / name
    program.write_text(text)
    program.chmod(0o755)
    for file, lines in answers.items():
      (self.folder / file).write_text(''.join(f'{one}\n' for one in lines))

  def run_script(self, script, *flags, **variables):
    return subprocess.run(
        ['bash', str(_LAUNCH / script), *flags], capture_output=True,
        text=True, check=False, timeout=60, cwd=self.folder,
        env=os.environ | {
            'PATH': f'{self.folder}:{os.environ["PATH"]}',
            'STUB': str(self.folder)} | variables)

  def calls(self, pattern=''):
    lines = (self.folder / 'calls').read_text().splitlines()
    return [line for line in lines if re.search(pattern, line)]


class TpuTest(StubTest):

  def train(self, *flags, looks='6', **answers):
    self.stub('gcloud', _GCLOUD, **answers)
    return self.run_script(
        'tpu_pod.sh', '--name', 'run', '--zone', 'z', '--accelerator-type',
        'v5p-16', '--workdir', 'gs://bkt/run', '--wheel', str(self.wheel),
        *flags, '--', '--config', 'ucf101:l', WALT_POLL_SECONDS='0',
        WALT_LOOKS=looks)

  def test_asks_installs_trains_and_gives_back(self):
    result = self.train(
        '--spot', '--project', 'p', '--delete', codes=[0],
        states=['NONE', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE'])
    self.assertEqual(result.returncode, 0, result.stderr)
    order = [re.search(r'[ ;](describe|create|scp|uv venv|run\.sh|'
                       r'cat walt/code|delete)', call)[1]
             for call in self.calls()]
    self.assertEqual(order, [
        'describe', 'create', *['describe'] * 3, 'scp', 'uv venv', 'run.sh',
        'cat walt/code', 'delete'])
    (create,) = self.calls(' create ')
    for words in ('--node-id run', '--accelerator-type v5p-16', '--spot',
                  '--runtime-version v2-alpha-tpuv5', '--project p'):
      self.assertIn(words, create)
    self.assertNotIn('sudo', ' '.join(self.calls()))

  def test_a_preempted_slice_is_asked_for_again(self):
    result = self.train(
        codes=[75, 0],
        states=['ACTIVE', 'SUSPENDING', 'SUSPENDED', 'NONE', 'ACTIVE'])
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertLen(self.calls(' delete '), 1)
    self.assertLen(self.calls(' create '), 1)
    self.assertLen(self.calls(' scp '), 2)  # The new hosts hold nothing.

  def test_a_slice_that_goes_in_mid_run_is_asked_for_again(self):
    result = self.train(
        ssh=[255], codes=['-', 0],
        states=['ACTIVE', 'SUSPENDED', 'SUSPENDED', 'NONE', 'ACTIVE'])
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertLen(self.calls(' create '), 1)

  def test_a_lost_connection_comes_back_to_the_same_run(self):
    result = self.train(ssh=[255, 255, 0], codes=['-', '-', 0])
    self.assertEqual(result.returncode, 0, result.stderr)
    started = self.calls('cat > run.sh')
    self.assertLen(started, 3)
    self.assertLen({re.search(r'run-\d+-\d+', one)[0] for one in started}, 1)

  def test_what_the_user_must_fix_is_not_tried_again(self):
    result = self.train(codes=[2])
    self.assertEqual(result.returncode, 2)
    self.assertLen(self.calls('cat > run.sh'), 1)

  def test_all_is_bounded(self):
    result = self.train('--restarts', '2', codes=[76] * 9)
    self.assertEqual(result.returncode, 76)
    self.assertLen(self.calls('cat > run.sh'), 3)
    (self.folder / 'calls').unlink()
    result = self.train(states=['WAITING_FOR_RESOURCES'] * 99)
    self.assertEqual(result.returncode, 2)
    self.assertLen(self.calls(), 6)
    (self.folder / 'calls').unlink()
    result = self.train(states=['NONE'] * 99, creates=[1] * 99)
    self.assertEqual(result.returncode, 2)
    self.assertLen(self.calls(' create '), 3)
    (self.folder / 'calls').unlink()
    result = self.train('--restarts', '1', scp=[1] * 99, states=[])
    self.assertEqual(result.returncode, 76)
    self.assertLen(self.calls(' scp '), 2)

  def test_what_a_host_runs(self):
    """The remote script, run here with a stub `walt`."""
    self.train(codes=[0])
    (call,) = self.calls('cat > run.sh')
    remote = call.split(' --command ')[1].split(' --zone ')[0]
    remote = re.sub(r';(?! )', '\n', remote)
    walt = self.folder / 'walt' / 'venv' / 'bin' / 'walt'
    walt.parent.mkdir(parents=True)
    walt.write_text('#!/bin/sh\necho "$@" >> started\nsleep 1\nexit 75\n')
    walt.chmod(0o755)
    began = time.monotonic()
    for _ in range(2):  # The second time the run has ended already.
      subprocess.run(['bash', '-c', remote], cwd=self.folder, check=True,
                     capture_output=True, timeout=30)
    self.assertLess(time.monotonic() - began, 20)
    (started,) = (self.folder / 'walt' / 'started').read_text().splitlines()
    self.assertEqual(started, 'train --restarts 5 --workdir gs://bkt/run '
                     '--config ucf101:l')
    code = (self.folder / 'walt' / 'code').read_text().split()
    self.assertRegex(code[0], r'run-0-\d+')
    self.assertEqual(code[1], '75')


class SlurmTest(StubTest):

  @parameterized.parameters((75, True), (76, True), (0, False), (2, False),
                            (1, False))
  def test_requeued_where_it_helps(self, code, requeued):
    self.stub('srun', _SRUN, codes=[code])
    self.stub('scontrol', _STUB)
    result = self.run_script('slurm.sbatch', '--config', 'c', '--workdir', 'w',
                             SLURM_JOB_ID='7')
    self.assertEqual(result.returncode, code)
    self.assertEqual(self.calls('scontrol'),
                     ['scontrol requeue 7 '] * requeued)
    self.assertRegex((self.folder / 'token').read_text(), '^[0-9a-f]{64}$')

  def test_without_srun_is_one_line(self):
    result = self.run_script('slurm.sbatch', '--config', 'c', PATH='/bin')
    self.assertEqual(result.returncode, 2)
    self.assertIn('srun is not installed', result.stderr)
    self.assertLen(result.stderr.splitlines(), 1)

  def test_requeues_are_bounded(self):
    self.stub('srun', _SRUN, codes=[76])
    self.stub('scontrol', _STUB)
    result = self.run_script(
        'slurm.sbatch', '--config', 'c', SLURM_JOB_ID='7',
        SLURM_RESTART_COUNT='3', WALT_REQUEUES='3')
    self.assertEqual(result.returncode, 76)
    self.assertEmpty(self.calls('scontrol'))


class GkeTest(StubTest):

  def test_the_manifest_is_applied(self):
    self.stub('kubectl', _KUBECTL, codes=[0, 1])
    flags = ('--name', 'run', '--image', 'i', '--bucket', 'bkt', '--',
             '--config', 'c')
    dry = self.run_script('gke_jobset.sh', '--dry-run', *flags)
    for code in (0, 1):
      result = self.run_script('gke_jobset.sh', *flags)
      self.assertEqual(result.returncode, code)
    get = 'kubectl get secret run-token '
    self.assertEqual(self.calls(), [
        get, 'kubectl create secret generic run-token '
        '--from-file=token=/dev/stdin ', 'kubectl apply -f - ',
        get, 'kubectl apply -f - '])
    self.assertRegex((self.folder / 'secret').read_text(), '^[0-9a-f]{64}$')
    self.assertEqual((self.folder / 'manifest').read_text(), dry.stdout)

  def test_flags_of_the_user_are_left_as_they_are(self):
    result = self.run_script(
        'gke_jobset.sh', '--dry-run', '--name', 'run', '--image', 'i',
        '--bucket', 'bkt', '--', '--config', 'WALT_NAME')
    self.assertIn("'--config', 'WALT_NAME'", result.stdout)

  def test_cluster_toolkit_is_called_once(self):
    self.stub('gcluster', _SRUN, codes=[3])
    result = self.run_script(
        'gke_gcluster.sh', '--name', 'run', '--image', 'i', '--cluster', 'c',
        '--location', 'l', '--compute-type', 'v5p-64', '--workdir',
        'gs://bkt/run', '--slices', '2', '--topology', '4x4x2', '--',
        '--config', 'c')
    self.assertEqual(result.returncode, 3)
    (call,) = self.calls()
    for words in ('gcluster job submit --name run', '--num-slices 2',
                  '--topology 4x4x2', '--restart-on-exit-codes 75,76',
                  '--grace-period 600s'):
      self.assertIn(words, call)
    self.assertNotIn('--project', call)


if __name__ == '__main__':
  absltest.main()
