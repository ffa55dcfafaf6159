"""What an earlier `walt` left is resumed, sampled and scored, equally.

tests/golden/make.py says what the files are and what is done with them.
"""
import copy
import functools
import json
import operator
from typing import Any

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from tests.e2e import golden_worker
from tests.golden import make

_EXPECTED = json.loads(make.EXPECTED.read_text())
# What was changed on purpose since, with the reason: use, keys -> value.
_CHANGED: dict[tuple[Any, ...], Any] = {}
# Where jaxlib and the processor are those of expected.json, every number is
# equal to its last bit: on one core and on two, with one device or with eight
# (measured; the shapes are too small to be divided among cores), with XLA's own
# options. Elsewhere sums round otherwise: programs for SSE 4.2 instead of
# AVX-512 were off by 2e-6, and one clip by 1 of 255.
_EXACT = make.machine() == _EXPECTED['machine']
_RTOL = 1e-6 if _EXACT else 1e-5
_PIXEL = 1  # Of 255.
# Trainings whose last bits the forms for CPUs changed: flat products with
# weights, group norms spread over channels, and layers that are traced once,
# which leaves what is equal for all of them inside of the loop (largest gap
# seen: 3e-6, the norm of a second step's gradient).
_OTHER_FORMS = ('begin_base', 'begin_sr', 'begin_tokenizer', 'resume_base',
                'resume_sr', 'resume_tokenizer')
_OTHER_RTOL = 1e-5
# Apart from these: LAPACK shares out the root of a covariance, and eight
# samples leave it close to singular (5e-9 was seen).
_NEVER_EXACT = ('evaluate_fid',)
# The options of other tests, quicker to compile by far, leave the last bits of
# all but these as they are (one pixel by 1 of 255, and a score by 2e-6).
_OWN_OPTIONS = ('sample_cascade', 'evaluate_reconstruction')


def expected_of(name: str) -> Any:
  """What came of a use, with what was changed since."""
  expected = copy.deepcopy(_EXPECTED['uses'][name])
  for (use, *path, last), value in _CHANGED.items():
    if use == name:
      functools.reduce(operator.getitem, path, expected)[last] = value
  return expected


def known(found: Any, expected: Any) -> Any:
  """What was found, without keys that had no counterpart yet."""
  if isinstance(found, dict) and isinstance(expected, dict):
    return {key: known(value, expected[key])
            for key, value in found.items() if key in expected}
  if isinstance(found, list) and isinstance(expected, list) and (
      len(found) == len(expected)):
    return [known(*pair) for pair in zip(found, expected, strict=True)]
  return found


class GoldenTest(parameterized.TestCase):

  @classmethod
  @functools.cache
  def worker(cls) -> golden_worker.Worker:
    """A process with XLA's own options, from the first test that wants it."""
    started = golden_worker.Worker()
    cls.addClassCleanup(started.close)
    return started

  @pytest.mark.slow
  @parameterized.named_parameters((name, name) for name in make.USES)
  def test_as_before(self, name):
    expected = expected_of(name)
    use = self.worker().use if _EXACT and name in _OWN_OPTIONS else (
        lambda name: make.use_copy(name, golden_worker.walt))
    found = known(use(name), expected)
    if _EXACT and name not in (*_NEVER_EXACT, *_OTHER_FORMS):
      self.assertEqual(found, expected)
    else:
      self.assert_near(found, expected, name,
                       _OTHER_RTOL if name in _OTHER_FORMS else _RTOL)

  def test_a_run_begun_anew_is_the_golden_one(self):
    """The numbers themselves agree with the files."""
    uses = _EXPECTED['uses']
    for stage in ('tokenizer', 'base', 'sr'):
      lines = (make.FILES / stage / 'metrics.jsonl').read_text().splitlines()
      golden = [json.loads(line) for line in lines]
      self.assertEqual(uses[f'begin_{stage}'], golden)
      self.assertEqual(uses[f'resume_{stage}'][:len(golden)], golden)
      self.assertEqual(uses[f'resume_{stage}'][-1]['step'], 4)

  def assert_near(self, found: Any, expected: Any, where: str,
                  rtol: float) -> None:
    """Equal but for roundings."""
    self.assertIs(type(found), type(expected), where)
    if isinstance(found, dict):
      self.assertEqual(found.keys(), expected.keys(), where)
      for key in expected.keys() - {'sha256'}:
        self.assert_near(
            found[key], expected[key], f'{where}/{key}', rtol)
    elif isinstance(found, list):
      self.assertLen(found, len(expected), where)
      for index, pair in enumerate(zip(found, expected, strict=True)):
        self.assert_near(*pair, f'{where}/{index}', rtol)
    elif where.endswith('/largest_difference'):
      self.assertLessEqual(found, _PIXEL, where)
    elif isinstance(found, float):
      self.assertAlmostEqual(
          found, expected, delta=rtol * max(abs(expected), 1), msg=where)
    else:
      self.assertEqual(found, expected, where)


if __name__ == '__main__':
  absltest.main()
