"""Configs of earlier versions mean what they meant.

  python -m tests.builders.versions_test --record

writes the defaults of a new version down, once `versions.BEFORE` tells what
runs of the version before did.
"""
import json
import pathlib
import sys
from typing import Any
from unittest import mock

from absl.testing import absltest

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.builders.schema import versions
from walt_jax.training import resuming

_RECORDED = pathlib.Path(__file__).parents[1] / 'golden/config_defaults.json'


def defaults(section: type, prefix: str = '') -> dict[str, Any]:
  """The default of every key of a section that has one, by dotted name."""
  found = {}
  for name, field in sections.fields(section).items():
    kinds = sections.subsections(sections.annotations(section)[name])
    for kind in kinds:
      found |= {key: value for key, value in defaults(
          kind, f'{prefix}{name}.').items() if key not in found}
    if not kinds and not sections.is_required(field):
      found[f'{prefix}{name}'] = field.default
  return found


def all_defaults() -> dict[str, Any]:
  return json.loads(json.dumps(dict(version=schema.VERSION, stages={
      stage: defaults(kind) for stage, kind in schema.STAGES.items()})))


class VersionsTest(absltest.TestCase):

  def test_no_default_changes_without_a_version(self):
    recorded, now = json.loads(_RECORDED.read_text()), all_defaults()
    self.assertEqual(
        recorded['version'], now['version'],
        'write down what earlier runs did in versions.BEFORE, then run: '
        'python -m tests.builders.versions_test --record')
    for stage, values in recorded['stages'].items():
      for key, value in values.items():
        self.assertEqual(
            now['stages'][stage].get(key, 'no such key'), value,
            f'{stage}: the default of {key} is another than in version '
            f'{recorded["version"]}, so old runs would change: raise '
            'versions.VERSION, and see versions.BEFORE')

  def test_a_later_key_counts_as_what_runs_did_before_it(self):
    new = schema.with_defaults(config_lib.to_dict(
        config_lib.load('configs/quickstart.py:smoke')))
    self.assertEqual(schema.completed(new, schema.VERSION), new)
    old = json.loads(json.dumps(new))
    del old['model']['activation'], old['train']['keep_newest']
    want = new['model']['activation']
    default = schema.default('denoiser', ['model', 'activation'])
    resuming.check_resume(schema.completed(old, 0), new | dict(
        model=new['model'] | dict(activation=default)))
    (other,) = {'gelu', 'relu2'} - {default}
    before = {schema.VERSION + 1: {'model.activation': other, 'model.no': 1,
                                   'no.key': 1}}
    with mock.patch.object(versions, 'BEFORE', before), mock.patch.object(
        versions, 'VERSION', schema.VERSION + 1):
      for version in (0, schema.VERSION):
        found = schema.completed(old, version)
        self.assertEqual(found['model']['activation'], other)
        self.assertNotIn('no', found['model'])
        self.assertNotIn('no', found)
      # What a run has said for itself stays.
      self.assertEqual(schema.completed(new, 0)['model']['activation'], want)
      self.assertNotEqual(schema.completed(
          old, schema.VERSION + 1)['model'].get('activation'), 'no')


if __name__ == '__main__':
  if sys.argv[1:] == ['--record']:
    _RECORDED.write_text(json.dumps(all_defaults(), indent=1) + '\n')
  else:
    absltest.main()
