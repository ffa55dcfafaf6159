"""The accelerator benchmark: what it builds, how it takes turns, what it fits.

The programs must be those of the configs, which need a package that a lent
machine may lack.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import cases
from benchmarks.accelerator import profiles
from benchmarks.accelerator import programs
from benchmarks.accelerator import tokenizer
from benchmarks.accelerator import turns
from walt_jax.builders import config as config_lib
from walt_jax.builders import networks
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.builders import tokenizer_runs

_CHILD = '''
import json, sys
print('a library speaks')
print(json.dumps(dict(ready=True)), flush=True)
for line in sys.stdin:
  print(json.dumps(dict(ms=[{ms}] * int(line))), flush=True)
'''
# Packages that a machine with an accelerator may lack.
_WITHOUT = '''
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {absent!r}:
      raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import {modules}
'''


class ProgramsTest(parameterized.TestCase):

  @parameterized.parameters('l', 'xl')
  def test_is_the_config(self, variant):
    config = schema.of(config_lib.load(f'ucf101:{variant}'))
    for platform in ('gpu', 'tpu'):
      attention, passes, unroll = cases.DEFAULT_FORMS[platform]
      wanted = objectives.objective(config, platform)
      form = programs.Form(
          attention, passes, config.model.remat_policy, unroll,
          config.diffusion.self_condition_probability)
      found = programs.objective(programs.SIZES[variant], form)
      for name in ('denoiser', 'prediction', 'options', 'has_images'):
        self.assertEqual(getattr(found, name), getattr(wanted, name))
      times = np.linspace(0.0, 1.0, 5)
      for ours, theirs in zip(found.schedule.alpha_sigma(times),
                              wanted.schedule.alpha_sigma(times), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    latents = config.latents
    self.assertEqual(
        programs.SIZES[variant].latents, (
            latents.frames, latents.height, latents.width, latents.channels))
    self.assertEqual(config.ema, (0.9999,))

  def test_optimizer_is_the_config(self):
    options = []
    with mock.patch('walt_jax.training.optimizers.make_optimizer',
                    lambda found, rules: options.append(found)):
      programs.optimizer()
    self.assertEqual(
        options, [schema.of(config_lib.load('ucf101:l')).optimizer])

  def test_tokenizer_is_the_config(self):
    config = schema.of(config_lib.load('tokenizer_video:ucf101'))
    found = tokenizer.networks('stacked')
    self.assertEqual(found[0].clone(remat=config.model.remat),
                     networks.autoencoder(config.model, 'gpu'))
    self.assertEqual(
        dict(videos=found[1]),
        tokenizer_runs.make_discriminators(config, 'gpu'))

  def test_the_twin_has_the_same_sizes(self):
    for smoke, name in ((False, 'l'), (True, 'smoke')):
      flags = cases._twin_sizes(smoke)
      size = programs.SIZES[name]
      self.assertEqual(
          dict(zip(flags[::2], map(int, flags[1::2]), strict=True)),
          {'--depth': size.depth, '--width': size.width,
           '--heads': size.heads, '--side': size.side, '--batch': size.rows})

  def test_needs_little_more_than_jax(self):
    modules = ['child', 'kernels', 'network', 'block_sizes', 'tokenizer',
               '__main__']
    subprocess.run(
        [sys.executable, '-c', _WITHOUT.format(
            absent=('clu', 'tensorflow', 'grain', 'ml_collections', 'av',
                    'tensorflow_datasets', 'sklearn', 'orbax'),
            modules=', '.join(
                f'benchmarks.accelerator.{name}' for name in modules))],
        check=True)


class TurnsTest(absltest.TestCase):

  def child(self, code, seconds=20.0):
    child = turns.Child([sys.executable, '-c', code],
                        time.monotonic() + seconds)
    self.addCleanup(child.close)
    return child

  def test_times_each_in_turn(self):
    children = {str(ms): self.child(_CHILD.format(ms=ms)) for ms in (2, 3)}
    for child in children.values():
      self.assertEqual(child.ask(), dict(ready=True))
    times = turns.in_turns(children, rounds=2, steps=3)
    for ms in (2, 3):
      self.assertEqual(times[str(ms)], dict(
          ms=ms, ms_quartiles=[ms, ms], measurements=6))

  def test_a_child_that_ends_says_why(self):
    child = self.child('import sys; sys.exit("no such device")')
    with self.assertRaisesRegex(turns.ChildError, 'no such device'):
      child.ask()

  def test_a_child_that_hangs_is_not_waited_for(self):
    child = self.child('import time; time.sleep(60)', seconds=0.2)
    with self.assertRaisesRegex(turns.ChildError, 'in time'):
      child.ask()


class MainTest(absltest.TestCase):

  def run_cases(self, found, minutes):
    path = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory())) / 'out.json'
    with mock.patch.object(cases, 'cases', lambda place: found):
      code = accelerator.main(
          ['--minutes', str(minutes), '--output', str(path)])
    return code, json.loads(path.read_text())['rows'] if path.exists() else {}

  def test_runs_what_fits_and_keeps_failures(self):
    def fail():
      raise turns.ChildError('out of memory')

    code, rows = self.run_cases([
        cases.Case('first', 1, lambda: dict(ms=1.0)),
        cases.Case('too long', 1000, lambda: dict(ms=2.0)),
        cases.Case('fails', 1, fail),
        cases.Case('last', 1, lambda: dict(ms=3.0))], minutes=1)
    self.assertEqual(code, 1)
    self.assertEqual(list(rows), ['device', 'first', 'fails', 'last'])
    self.assertEqual(rows['device']['platform'], 'cpu')
    self.assertEqual(rows['fails']['error'], 'out of memory')
    self.assertEqual(rows['last']['ms'], 3.0)

  def test_every_platform_has_its_cases_in_order(self):
    for platform in ('cpu', 'gpu', 'tpu'):
      place = cases.Place(platform, False, 0.0)
      names = [case.name for case in cases.cases(place)]
      self.assertLen(set(names), len(names))
      wanted = ['train_l_and_twin', 'profile_l', 'train_l_self_conditioning',
                'sample_l_guidance_1.5', 'tokenizer_stacked', 'train_xl']
      self.assertEqual([name for name in names if name in wanted], wanted)


class ProfilesTest(absltest.TestCase):

  def test_sums_by_part_and_leaves_callers_out(self):
    text = '''HloModule m

ENTRY %main (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  %a = f32[2]{0} add(%p, %p), metadata={op_name="jit(f)/mlp/add"}
  %c = f32[2]{0} call(%a), to_apply=%main
  ROOT %b = f32[2]{0} add(%a, %c), metadata={op_name="jit(f)/mlp/mul"}
}
'''
    found = profiles.beside_ledger(
        dict(a=1e-3, b=2e-3, c=5e-3), text, None)
    self.assertEqual(found['ms'], 3.0)
    self.assertEqual(found['by_part'], {'MLP passes': dict(ms=3.0)})
    self.assertEqual([gap['name'] for gap in found['largest_gaps']],
                     ['b', 'a'])


if __name__ == '__main__':
  absltest.main()
