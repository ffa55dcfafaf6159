"""Steps from clips and from a latent cache."""
import dataclasses
from unittest import mock

from absl.testing import absltest
import jax

from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.planning import aot
from walt_jax.planning import encoding
from walt_jax.planning import ledger
from walt_jax.planning import page
from walt_jax.planning import places
from walt_jax.planning import programs
from walt_jax.planning import summary
from walt_jax.planning import topology
from walt_jax.planning import topology_plan

GIB = 1 << 30
CHIP = dataclasses.replace(topology.CHIPS['v5p'], hbm_bytes=10 * GIB)


def load(spec='quickstart:smoke', *overrides):
  return schema.of(config_lib.load(spec, overrides))


class CostsTest(absltest.TestCase):

  def test_rows_cost_what_the_tokenizer_says(self):
    """A plan of the tokenizer itself counts encoding of a clip."""
    config = load('quickstart:smoke', ('data.batch_size', '6'),
                  ('data.image_rows', '2'))
    section = config.tokenizer.random.model
    tokenizer = load('tokenizer_video:smoke', ('data.num_frames', '17'))
    of = lambda frames: summary.plan(dataclasses.replace(
        tokenizer, model=section, data=dataclasses.replace(
            tokenizer.data, num_frames=frames)))['encode_flops_per_clip']
    found = encoding.costs(config, model_flops=10**9)['encoder']
    flops = 4 * of(17) + 2 * config.latents.frames * of(1)
    self.assertEqual(found['flops_per_step'], flops)
    self.assertAlmostEqual(found['share_of_model_flops'], flops / 1e9)

  def test_what_costs_a_tenth_is_worth_a_cache(self):
    config = load()
    flops = encoding.costs(config, 1)['encoder']['flops_per_step']
    for share, wanted in ((.11, 'latent cache'), (.09, 'clips')):
      self.assertEqual(encoding.costs(config, int(flops / share))[
          'encoder']['train_from'], wanted)

  def test_a_tokenizer_has_no_encoders(self):
    self.assertEqual(encoding.costs(load('tokenizer_video:smoke'), 1), {})


def found(name, gib, seconds, hidden=0.):
  """A compiled program of as many GiB that takes as long."""
  charge = ledger.Charge('a', 'all-gather', 'rest', '', '', 1, seconds, 0, 0,
                         '', hidden)
  place = places.Place('v5p:2x2x1', CHIP, 4, (), None, ())
  return programs.Found(
      name, place, aot.Compiled(1., int(gib * GIB), GIB, []),
      ledger.Ledger((charge,)), 10, 10)


class StepsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.config = load('t2v_sr1:smoke', ('data.batch_size', '8'),
                       ('data.image_rows', '4'))
    self.run_ = absent_runs.absent_run(
        self.config, mesh_lib.make_mesh(1, 4, devices=jax.devices()[:4]))

  def steps(self, train_gib=6., clips_gib=3.):
    compiler = encoding.Steps(
        self.config, self.run_, found('train step', train_gib, .5, .1), 0.)
    return {name: compiler.step(encoder, cached=name == encoding.CACHE)
            for name, encoder in (
                (encoding.CLIPS, found('encoder', clips_gib, .25)),
                (encoding.CACHE, found('cached', .5, .01)))}

  def test_times_add_up(self):
    steps = self.steps()
    clips = steps[encoding.CLIPS]
    self.assertAlmostEqual(clips.seconds, .75)
    self.assertAlmostEqual(clips.overlapped_seconds, .65)
    result = encoding.as_json(self.config, steps, 1)
    self.assertEqual(result['train_from'], 'latent cache')
    lines = encoding.table(result['steps'])
    self.assertRegex(lines[1], r'clips +6\...+ GiB, fits; 0.65 - 0.75 s')
    self.assertIn('0.75', page.page(dict(
        config='c', parameters_by_part={}) | result))

  def test_weights_and_the_next_batch_lie_beside_the_train_step(self):
    clips, cache = self.steps().values()
    # MiniLM's 22.6 million float32 weights, a quarter of its matrices each.
    self.assertBetween(clips.parts['frozen'], 22.6e6, 30e6)
    # Two rows of pixels: one clip and five images, of three bytes a pixel.
    pixels = 3 * 64 * 112 * (17 + 5)
    self.assertBetween(clips.parts['waiting_batch'], pixels, pixels + 1000)
    self.assertEqual(
        clips.needed_bytes, 6 * GIB + clips.parts['frozen'] +
        clips.parts['waiting_batch'])
    self.assertLess(cache.parts['waiting_batch'],
                    clips.parts['waiting_batch'])

  def test_the_larger_of_two_programs_decides(self):
    self.assertTrue(self.steps(clips_gib=9.5)[encoding.CLIPS].fits)
    clips, cache = self.steps(clips_gib=10.5).values()
    self.assertFalse(clips.fits)
    self.assertGreater(clips.needed_bytes, 10.5 * GIB)
    self.assertGreater(clips.parts['encoding'], 0)
    self.assertTrue(cache.fits)
    clips, cache = self.steps(train_gib=9.995).values()  # And what is beside.
    self.assertFalse(clips.fits or cache.fits)

  def test_the_larger_step_decides_a_plan(self):
    result = dict(programs=[], prediction_notes=[],
                  hbm_capacity_bytes=10 * GIB,
                  memory_by_part=dict(activations=6 * GIB), fits=True)
    with mock.patch.object(
        encoding.Steps, 'encoder', lambda self, cached: found(
            'encoder', .5 if cached else 10.5, .25)):
      topology_plan.add_encoders(
          result, self.config, self.run_, found('train step', 6., .5))
    self.assertFalse(result['fits'])
    self.assertFalse(result['steps'][encoding.CLIPS]['fits'])
    self.assertTrue(result['steps'][encoding.CACHE]['fits'])
    self.assertGreater(result['hbm_needed_bytes'], 10.5 * GIB)
    self.assertEqual(sum(result['memory_by_part'].values()),
                     result['hbm_needed_bytes'])
    self.assertLen(result['programs'], 2)
    self.assertIn('lowest effort', result['prediction_notes'][0])

  def test_data_that_are_cached_have_one_step(self):
    cached = dataclasses.replace(self.config, data=dataclasses.replace(
        self.config.data, name='latents'))
    result = dict(programs=[], prediction_notes=[],
                  hbm_capacity_bytes=10 * GIB, memory_by_part={})
    with mock.patch.object(encoding.Steps, 'encoder',
                           lambda self, cached: found('encoder', .5, .25)):
      topology_plan.add_encoders(
          result, cached, self.run_, found('train step', 6., .5))
    self.assertEqual(list(result['steps']), [encoding.CACHE])


if __name__ == '__main__':
  absltest.main()
