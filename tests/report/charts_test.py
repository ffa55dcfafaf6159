"""Curves are drawn where their values are."""
import html
import json
import math
import re

from absl.testing import absltest
from absl.testing import parameterized

from walt_jax.report import charts


def drawn_points(figure: str):
  """The (step, value, x, y) of each series, as the page's script reads them."""
  data = re.search(r'data-series="([^"]*)"', figure)[1]
  return [line['points'] for line in json.loads(html.unescape(data))]


class LineChartTest(parameterized.TestCase):

  def test_axes_are_monotone_and_inside(self):
    steps = list(range(0, 100, 5))
    values = [math.exp(-step / 20) for step in steps]
    figure = charts.line_chart([charts.Series('a', steps, values)], label='L')
    (points,) = drawn_points(figure)
    self.assertEqual([point[0] for point in points], steps)
    self.assertSequenceAlmostEqual([point[1] for point in points], values)
    xs, ys = [p[2] for p in points], [p[3] for p in points]
    self.assertEqual(xs, sorted(xs))
    self.assertEqual(ys, sorted(ys))  # Falling values: y grows downwards.
    self.assertGreaterEqual(min(xs), 0)
    self.assertLessEqual(max(xs), 640)
    self.assertGreaterEqual(min(ys), 0)
    self.assertLessEqual(max(ys), 280)

  def test_a_log_axis_makes_decay_straight(self):
    steps = list(range(21))
    values = [10.0 ** (-step / 10) for step in steps]
    (points,) = drawn_points(charts.line_chart(
        [charts.Series('a', steps, values)], label='L'))
    middle = (points[0][3] + points[20][3]) / 2
    self.assertAlmostEqual(points[10][3], middle, delta=0.2)

  @parameterized.parameters(
      ([], []), ([1, 2], [math.nan, math.inf]))
  def test_nothing_to_draw(self, steps, values):
    self.assertEqual(charts.line_chart(
        [charts.Series('a', steps, values)], label='L'), '')

  @parameterized.parameters(([5], [1.0]), ([1, 2], [0.0, 0.0]),
                            ([1, 2], [-3.0, -3.0]), ([1, 2], [1e-30, 1e30]),
                            ([1, 2, 3], [0.0, 5.0, math.nan]))
  def test_odd_values(self, steps, values):
    figure = charts.line_chart([charts.Series('a', steps, values)], label='L')
    self.assertNotIn('nan', figure)
    self.assertNotIn('inf', figure)

  def test_repeated_steps_count_once_and_long_series_are_thinned(self):
    (points,) = drawn_points(charts.line_chart(
        [charts.Series('a', [1, 2, 1], [5.0, 6.0, 7.0])], label='L'))
    self.assertEqual([p[:2] for p in points], [[1, 7], [2, 6]])
    many = list(range(100_000))
    (points,) = drawn_points(charts.line_chart(
        [charts.Series('a', many, many, noisy=True)], label='L'))
    self.assertLess(len(points), 600)
    self.assertEqual(points[-1][0], 99_999)

  def test_names_are_escaped(self):
    figure = charts.line_chart(
        [charts.Series('<b>', [1, 2], [1, 2])], label='"<i>')
    self.assertNotIn('<b>"', figure.replace('<b>2</b>', ''))
    self.assertNotIn('<i>"', figure)
    bars = charts.bar_chart([charts.Bar('<x>', 1.0, '<y>')])
    self.assertNotIn('<x>', bars)
    self.assertNotIn('<y>', bars)

  def test_bars_are_shares_of_the_scale(self):
    bars = charts.bar_chart(
        [charts.Bar('a', 0.25, '25%', (0.2, 0.3), main=True),
         charts.Bar('b', math.nan, 'nan')], target=0.5, maximum=1.0)
    self.assertIn('width:25.00%', bars)
    self.assertIn('left:20.00%;width:10.00%', bars)
    self.assertIn('left:50.00%', bars)
    self.assertNotIn('nan%', bars)

  @parameterized.parameters((0, '0'), (412.34, '412.3'), (0.04567, '0.04567'),
                            (1234567.8, '1.23e+06'), (12.0, '12'),
                            (28.714, '28.71'), (5e-5, '5e-05'), (None, '–'))
  def test_numbers(self, value, text):
    self.assertEqual(charts.number(value), text)


if __name__ == '__main__':
  absltest.main()
