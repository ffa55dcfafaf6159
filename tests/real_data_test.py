"""Tests of real data are skipped with a reason, or run; never by accident."""
import os
import pathlib
import tempfile
import unittest
from unittest import mock

from absl.testing import absltest

from tests import real_data


class RealDataTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(
        tempfile.TemporaryDirectory()))

  def given(self, value):
    return mock.patch.dict(os.environ, {real_data.VARIABLE: str(value)})

  def test_without_the_variable_the_reason_names_it(self):
    for value in ('', None):
      with self.subTest(value), self.given(value or ''):
        if value is None:
          del os.environ[real_data.VARIABLE]
        with self.assertRaisesRegex(unittest.SkipTest, 'WALT_TEST_DATA is not'):
          real_data.path('ucf101')

  def test_a_part_that_is_absent_is_named(self):
    with self.given(self.folder):
      with self.assertRaisesRegex(unittest.SkipTest, 'no ucf101'):
        real_data.path('ucf101')

  def test_a_part_that_is_there_is_found(self):
    (self.folder / 'text').mkdir()
    (self.folder / 'text' / 'words').touch()
    with self.given(self.folder):
      self.assertEqual(real_data.path('text/words'),
                       self.folder / 'text' / 'words')

  def test_a_mistyped_folder_is_an_error_not_a_skip(self):
    with self.given(self.folder / 'typo'):
      with self.assertRaisesRegex(NotADirectoryError, 'typo'):
        real_data.path('ucf101')


if __name__ == '__main__':
  absltest.main()
