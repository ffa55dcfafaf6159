"""`walt plan --topology`: slices, memory, estimates, and real compilations."""
import importlib.util
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from walt_jax.builders import absent_drawing
from walt_jax.builders import absent_encoders
from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import meshes
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.core import errors
from walt_jax.parallel import compiler_options
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot
from walt_jax.planning import collectives
from walt_jax.planning import drawing
from walt_jax.planning import gpu
from walt_jax.planning import hlo
from walt_jax.planning import page as page_lib
from walt_jax.planning import places
from walt_jax.planning import roofline
from walt_jax.planning import summary
from walt_jax.planning import sweeps
from walt_jax.planning import topology
from walt_jax.planning import topology_plan
from walt_jax.planning import tpu_programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f'{ROOT}/configs/quickstart.py:smoke'
TOKENIZER = f'{ROOT}/configs/tokenizer_video.py:smoke'
# XLA's own words.
_TOO_LARGE = (
    'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 40.3G of '
    '15.75G hbm. Exceeded hbm capacity by 24.5G.',
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (26.23G) exceeds available HBM (15.75G).')


def load(spec=SMOKE, **overrides):
  return schema.of(config_lib.load(spec, [
      (key.replace('__', '.'), str(value))
      for key, value in overrides.items()]))


class NamesTest(parameterized.TestCase):

  def test_slices(self):
    slices, chip, shape = topology.parse('v5p:4x4x4')
    self.assertEqual((slices, chip.name, shape), (1, 'v5p', (4, 4, 4)))
    self.assertEqual(topology.parse('v7x:2x2x1')[1].name, 'tpu7x')
    slices, chip, shape = topology.parse('3*v5e:2x4')
    self.assertEqual((slices, chip.name, shape), (3, 'v5e', (2, 4)))

  @parameterized.parameters(
      '', 'v5p', '0*v5e:2x2', '*v5e:2x2', '2*', '2*2*v5e:2x2', '2*h100:8',
      'v9:2x2', 'v5p:4x4', 'v6e:0x8', 'v6e:8x8x8', 'gpu', 'gpu:0', 'gpu:x')
  def test_wrong_names_are_user_errors(self, name):
    self.assertEqual(cli.main(
        ['plan', '--config', SMOKE, '--topology', name]), 2)

  @parameterized.parameters(
      ('v5e:3x5', 'first two sides are even; give v5e:4x6, or v5e:1x1'),
      ('v5p:2x3x4', 'give v5p:2x4x4, or v5p:1x1x1'),
      ('2*h100:8', 'GPUs of several hosts are h100:2x8'),
      ('2*h100:4x8', 'are h100:8x8'))
  def test_what_is_no_slice_is_told_with_what_is(self, name, words):
    with self.assertRaisesRegex(errors.UserError, words):
      topology.parse(name)

  def test_one_chip(self):
    self.assertEqual(topology.parse('v5e:1x1')[2], (1, 1))

  def test_what_compiles_needs_a_tpu_topology(self):
    for flags in (['--sweep'], ['--sweep', '--topology', 'gpu:2'],
                  ['--largest_batch', '--topology', 'gpu:2'],
                  ['--no_train_step'],
                  ['--no_train_step', '--topology', 'gpu:2']):
      self.assertEqual(cli.main(['plan', '--config', SMOKE, *flags]), 2)

  @parameterized.parameters('--no_sampler', '--sweep', '--largest_batch')
  def test_a_plan_of_nothing_is_refused(self, flag):
    self.assertEqual(cli.main(
        ['plan', '--config', SMOKE, '--topology', 'v5e:2x2', '--no_train_step',
         flag]), 2)

  def test_libtpu_that_is_missing_is_asked_for(self):
    with mock.patch.object(importlib.util, 'find_spec', return_value=None):
      with self.assertRaisesRegex(errors.UserError, 'needs libtpu.*tpu_plan'):
        topology.get_slice('v5e:2x2')


class EstimateTest(parameterized.TestCase):

  def test_gpus(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'plan.json'
      page = path.with_suffix('.html')
      self.assertEqual(cli.main([
          'plan', '--config', SMOKE, '--topology', 'gpu:4', '--json',
          str(path), '--html', str(page)]), 0)
      plan = json.loads(path.read_text())
      self.assertIn('an estimate', page.read_text())
    self.assertIsNone(plan['fits'])
    self.assertEqual(plan['num_chips'], 4)
    self.assertEqual(sum(plan['memory_by_part'].values()),
                     plan['hbm_needed_bytes'])
    self.assertEqual(plan['memory_by_part']['parameters'],
                     4 * plan['parameters'])

  @pytest.mark.slow
  def test_cutting_weights_and_rows_saves_memory(self):
    whole = gpu.gpu_plan(load(), 'gpu:1')['memory_by_part']
    cut = gpu.gpu_plan(
        load(mesh__data=1, mesh__fsdp=4), 'gpu:4')['memory_by_part']
    self.assertLess(cut['optimizer'], 0.5 * whole['optimizer'])
    self.assertBetween(cut['activations'], 0.2 * whole['activations'],
                       0.5 * whole['activations'])

  @pytest.mark.slow
  def test_rematerialisation_saves_memory(self):
    parts = {policy: gpu.gpu_plan(
        load(model__remat_policy=policy, model__depth=8),
        'gpu:1')['memory_by_part'] for policy in ('none', 'minimal', 'full')}
    activations = [parts[policy]['activations']
                   for policy in ('full', 'minimal', 'none')]
    self.assertEqual(activations, sorted(activations))
    self.assertLess(activations[0], 0.7 * activations[2])

  def test_a_batch_that_does_not_divide_is_named(self):
    with self.assertRaisesRegex(errors.UserError, 'data.batch_size is 8'):
      gpu.gpu_plan(load(), 'gpu:3')

  def test_batches_keep_their_share_of_images(self):
    config = load(data__batch_size=8, data__image_rows=2)
    changed = topology_plan.with_batch(config, 32)
    self.assertEqual((changed.data.batch_size, changed.data.image_rows),
                     (32, 8))


class CompilerTest(parameterized.TestCase):

  @parameterized.parameters((_TOO_LARGE[0], 40.3), (_TOO_LARGE[1], 26.23))
  def test_what_does_not_fit_is_a_result(self, message, gib):
    self.assertEqual(aot.needed_bytes(message), int(gib * 2**30))

    class Lowered:
      def compile(self, compiler_options):
        del compiler_options
        raise jax.errors.JaxRuntimeError(message)

    result = aot.compile_program(Lowered())
    self.assertEqual(result.needed_bytes, int(gib * 2**30))
    self.assertIn('RESOURCE_EXHAUSTED', result.error)

  def test_effort_reaches_the_compiler(self):
    lowered = mock.Mock()
    lowered.compile.side_effect = jax.errors.JaxRuntimeError(_TOO_LARGE[0])
    aot.compile_program(lowered, aot.LOWEST_EFFORT)
    lowered.compile.assert_called_once_with(
        compiler_options={'exec_time_optimization_effort': -1.0})

  def test_only_tokenizers_are_compiled_at_the_lowest_effort(self):
    tokenizer = load(TOKENIZER)
    self.assertEqual(topology_plan.compiler_effort(tokenizer),
                     aot.LOWEST_EFFORT)
    self.assertEqual(topology_plan.compiler_effort(load()),
                     aot.DEFAULT_EFFORT)

  def test_only_large_clips_are_encoded_at_the_lowest_effort(self):
    for name, effort in (('t2v_base', aot.DEFAULT_EFFORT),
                         ('t2v_sr2', aot.LOWEST_EFFORT)):
      config = schema.of(config_lib.load(f'configs/{name}.py', []))
      self.assertEqual(topology_plan.encoder_effort(config), effort)

  def test_other_faults_stay_faults(self):
    self.assertIsNone(aot.needed_bytes('INTERNAL: a fault'))
    self.assertIsNone(aot.needed_bytes(
        'RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem.'))

  def test_bytes_of_a_device(self):
    mesh = mesh_lib.make_mesh(2, 4, 1, jax.devices()[:8])
    tree = {'x': jax.ShapeDtypeStruct((16, 3), jnp.bfloat16)}
    rows = {'x': mesh_lib.batch_sharding(mesh)}
    self.assertEqual(aot.device_bytes(tree, rows), 2 * 3 * 2)


class RooflineTest(absltest.TestCase):

  def test_by_hand(self):
    chip = topology.CHIPS['v5p']
    gather = collectives.Collective(
        'all-gather', 'bf16[1000]', 2000, int(1e9), group_size=4, count=3,
        op_name='')
    result = roofline.roofline(
        chip, 4, model_flops=10**15, executed_flops=2 * 10**15,
        moved=[gather])
    self.assertAlmostEqual(result.compute_seconds, 2e15 / (4 * 459e12))
    # All chips: both links of three axes; three quarters come from others.
    self.assertAlmostEqual(
        result.communication_seconds, 3 * 0.75e9 / (6 * 90e9))
    self.assertAlmostEqual(result.mfu, 0.5)
    self.assertLess(result.slow_mfu, result.mfu)
    one_axis = roofline.collective_bandwidth(chip, 64, gather)
    self.assertEqual(one_axis, 2 * 90e9)


@absltest.skipIf(importlib.util.find_spec('libtpu') is None,
                 'libtpu is not installed (extra tpu_plan)')
class AbsentSliceTest(parameterized.TestCase):

  def test_a_train_step_compiles_for_four_chips(self):
    """Weights move and rows stay: no all-to-all, no ring of activations."""
    config = load(mesh__data=2, mesh__fsdp=2)
    found = topology_plan.topology_plan(
        config, 'v5e:2x2', summary.plan(config))
    self.assertTrue(found['fits'])
    self.assertEqual(found['compiler_effort'], aot.DEFAULT_EFFORT)
    self.assertNotIn('compiler_note', found)
    self.assertEqual(found['num_chips'], 4)
    self.assertGreater(found['hbm_headroom_bytes'], 0)
    self.assertNotIn('all-to-all', found['collectives'])
    # No product is a loop over shards of its weight.
    self.assertNotIn('collective-permute', found['collectives'])
    self.assertNotIn(
        'collective-permute', found['sampler_program']['collectives'])
    self.assertEqual(found['compiler_options'], compiler_options.of('tpu'))
    self.assertEqual([one['name'] for one in found['programs']],
                     ['train step', 'encoder', 'encoder, from a latent cache',
                      'sampler'])
    clips, cache = found['steps'].values()
    self.assertEqual(found['hbm_needed_bytes'], max(
        clips['hbm_needed_bytes'], cache['hbm_needed_bytes']))
    self.assertGreater(clips['predicted_encoder_seconds'],
                       cache['predicted_encoder_seconds'])
    for one in found['programs']:
      self.assertEqual(one['weight_rings'], 0)
    step = found['programs'][0]
    self.assertEmpty(step['ledger']['refusals'])
    self.assertEqual(found['predicted_step_seconds'],
                     step['ledger']['seconds'])
    self.assertGreater(step['predicted_seconds'], step['roofline_seconds'])
    self.assertGreater(found['collectives']['all-gather']['count'], 0)
    for one in found['largest_others']:  # Gradients of bias tables, metrics.
      self.assertEqual(one['kind'], 'all-reduce', one)
    self.assertLessEqual(found['roofline']['mfu'], 1)
    self.assertTrue(found['sampler_program']['fits'])
    self.assertIn('Collectives', page_lib.page(
        dict(config='c') | summary.plan(config) | found))

  @parameterized.parameters(1, 2)
  @pytest.mark.slow
  def test_between_slices_go_shards_of_gradients_alone(self, parts):
    """Once a step, added up, also of a batch in parts: no weight is gathered,
    and no activation."""
    config = load(mesh__data=1, mesh__fsdp=-1, data__batch_size=16 * parts,
                  data__image_rows=8 * parts, model__width=512,
                  model__mlp_width=2048, model__num_heads=8,
                  optimizer__accumulation_steps=parts)
    place = topology.get_slice('2*v5e:2x2')
    mesh = meshes.mesh_of(config, place.devices)
    self.assertEqual(dict(mesh.shape), dict(data=2, fsdp=4, tensor=1))
    self.assertEqual([device.slice_index for device in mesh.devices.flat],
                     [0] * 4 + [1] * 4)
    run = absent_runs.absent_run(config, mesh)
    text = run.lower_train_step().compile().as_text()
    between = [one for one in collectives.collectives(text)
               if one.between_slices]
    self.assertEqual({(one.kind, one.count) for one in between},
                     {('all-reduce', 1)})
    # Narrow leaves are padded to tiles of 128.
    ideal = aot.device_bytes(run.state.params, run.shardings.params)
    self.assertBetween(sum(one.bytes for one in between), 0.8 * ideal,
                       1.2 * ideal)
    for name, computation in hlo.parse(text).computations.items():
      for one in computation.instructions:
        if one.opcode != 'send' and collectives.collective(one):
          for group in collectives.device_groups(one):
            self.assertLen({device // 4 for device in group}, 1, name)

  @parameterized.parameters(8, 1)
  def test_a_program_of_two_slices_is_charged_whole(self, devices):
    place = topology.get_slice('2*v5e:2x2')
    mesh = jax.sharding.Mesh(np.array(place.devices[:devices]), 'd')
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('d'))
    traced = jax.jit(lambda x, w: x @ w).trace(
        jax.ShapeDtypeStruct((1024, 512), jnp.bfloat16, sharding=rows),
        jax.ShapeDtypeStruct((512, 512), jnp.bfloat16))
    self.assertEqual(tpu_programs.num_devices(traced.lower()), devices)
    _, charged = tpu_programs.compile_program(place, traced)
    self.assertEqual(charged.refusals, ())
    self.assertEqual(charged.flops, 2 * 1024 * 512 * 512 // devices)

  def test_the_sampler_alone(self):
    config = load(mesh__fsdp=4)
    found = topology_plan.topology_plan(
        config, 'v5e:2x2', summary.plan(config), with_train_step=False)
    self.assertNotIn('hbm_needed_bytes', found)
    program = found['sampler_program']
    self.assertTrue(program['fits'])
    self.assertEqual(program['num_samples'], 8)  # As `walt sample` draws.
    self.assertGreater(program['slow_seconds'], program['seconds'])
    # The config has no text, so that there is nothing to guide.
    figures = summary.plan(config)
    one = figures['model_flops_per_sample']
    self.assertBetween(program['flops'], 8 * one, 8.2 * one)
    self.assertEqual([one['name'] for one in found['programs']],
                     ['sampler', 'tokenizer, decode'])
    drawn = found['drawing']
    self.assertTrue(drawn['fits'])
    self.assertEqual((drawn['num_samples'], drawn['decoding']),
                     (8, '2 clips a device'))
    self.assertEqual(drawn['hbm_needed_bytes'], max(
        one['hbm_needed_bytes'] for one in found['programs']))
    self.assertIn('decoding 2 clips a device', drawing.table(drawn)[0])
    self.assertIn('Sampling', page_lib.page(
        dict(config='c') | figures | found))

  @pytest.mark.slow
  def test_little_memory_has_clips_decoded_by_latent_frame(self):
    """In the first form that fits, as `walt sample` would."""
    config = load(mesh__fsdp=4, data__num_frames=17, latents__frames=5)
    place = places.get('v5e:2x2')
    run = absent_runs.absent_run(
        config, meshes.mesh_of(config, place.devices), num_samples=16)
    encoders = absent_encoders.absent_encoders(config, 'tpu')
    forms = {}
    for free in (1 << 40, 1):
      decoder = next(absent_drawing.decoders(encoders, run.mesh, 16, free))
      forms[decoder.choice.form.words] = {
          name: times for name, (_, times) in decoder.programs.items()}
    self.assertEqual(forms, {
        '4 clips a device': {'tokenizer, decode': 1},
        # Its norm is of positions, so that tiles are exact.
        '1 clip a device, by latent frame, in tiles of 16': {
            'tokenizer, decode, first latent frame': 4,
            'tokenizer, decode, later latent frame': 16}})

  def test_a_tokenizer_decodes(self):
    config = load(TOKENIZER, data__batch_size=4)
    figures = summary.plan(config)
    found = topology_plan.topology_plan(
        config, 'v5e:2x2', figures, with_train_step=False)
    self.assertEqual(found['sampler_program']['flops'],
                     4 * figures['decode_flops_per_clip'])
    self.assertEqual(found['compiler_effort'], aot.LOWEST_EFFORT)
    page = page_lib.page(dict(config='c') | figures | found)
    self.assertIn('lowest effort', page)

  def test_what_does_not_fit(self):
    config = load(data__batch_size=2**20)
    found = topology_plan.topology_plan(
        config, 'v5e:2x2', summary.plan(config), with_sampler=False)
    self.assertFalse(found['fits'])
    self.assertGreater(found['hbm_needed_bytes'], found['hbm_capacity_bytes'])

  def test_sweep_recommends_what_fits(self):
    config = load()
    found = sweeps.sweep(config, 'v5e:2x2', summary.plan(config),
                         num_compiled=1)
    self.assertGreater(len(found['sweep']), 10)
    self.assertEqual(sum(row['compiled'] for row in found['sweep']), 1)
    self.assertEqual(found['recommended']['mesh'], found['sweep'][0]['mesh'])


if __name__ == '__main__':
  absltest.main()
