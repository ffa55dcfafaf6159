"""Cases, results and plot of the cost of a token."""
import json
from xml.etree import ElementTree

from absl.testing import absltest
import jax

from benchmarks import harness
from benchmarks import token_cost
from benchmarks import token_cost_plot
from walt_jax.builders import absent_runs
from walt_jax.builders import config as config_lib
from walt_jax.parallel import mesh as mesh_lib


class TokenCostTest(absltest.TestCase):

  def test_cases(self):
    cases = {case.name: case for case in token_cost.CASES}
    largest = cases['137x512x896 windows']
    self.assertEqual(largest.grid, (35, 64, 112))
    self.assertEqual((largest.tokens, largest.rows), (250_880, 1))
    self.assertEqual(cases['17x128x128 windows'].rows, 196)
    self.assertNotIn('37x512x896 full', cases)
    for case in cases.values():
      if case.form == 'windows':
        self.assertBetween(case.rows * case.tokens, 140_000, 251_000)

  def test_a_config_is_of_the_cases_size(self):
    case = next(case for case in token_cost.CASES
                if case.name == '37x128x128 full')
    config = config_lib.load('configs/ucf101.py:l', [
        (key, str(value)) for key, value in case.overrides.items()])
    mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    run = absent_runs.absent_run(config, mesh)
    self.assertEqual(run.batch.latents.shape, (32, 10, 16, 16, 8))
    layers = run.state.params['layers']
    for layer in ('spatial', 'spacetime'):  # A bias for every offset.
      self.assertEqual(layers[layer]['attention']['relative_bias'].shape,
                       (1, 19, 31, 31, 16))

  def test_with_windows_a_token_costs_as_much_in_every_clip(self):
    """The largest clip at most 1.1 of the smallest."""
    rows = json.loads((harness.RESULTS / 'token_cost.json').read_text())[
        'rows']
    self.assertEqual(list(rows), [case.name for case in token_cost.CASES])
    cost = {name: row['seconds_a_token'] for name, row in rows.items()}
    smallest = cost['17x128x128 windows']
    for name in cost:
      if name.endswith('windows'):
        self.assertLess(cost[name], 1.1 * smallest, name)
    self.assertGreater(cost['37x256x256 full'], 2 * cost['17x128x128 full'])

  def test_plot(self):
    rows = [dict(form=form, clip_tokens=tokens, seconds_a_token=time,
                 topology='h100:1', seconds=1.)
            for form, tokens, time in (
                ('windows', 1280, 1e-6), ('windows', 250_880, 1.1e-6),
                ('full', 1280, 2e-6), ('full', 20_480, 2e-5))]
    picture = ElementTree.fromstring(token_cost_plot.svg(rows))
    name = '{http://www.w3.org/2000/svg}'
    points = picture.findall(f'{name}circle')
    self.assertLen(points, 4 + 2)  # And the legend's.
    x, y = ([float(point.get(key)) for point in points] for key in
            ('cx', 'cy'))
    self.assertAlmostEqual(x[0], x[3])  # 1,280 tokens.
    self.assertLess(y[3], y[0])  # Twice the time is higher.
    self.assertLess(y[4], y[1])


if __name__ == '__main__':
  absltest.main()
