"""What `make parity` says before it fetches gigabytes."""
from absl.testing import absltest

from tests.parity import fetched


def _report(**versions: str) -> dict:
  return dict(install=[dict(metadata=dict(name=name, version=version))
                       for name, version in versions.items()])


class FetchedTest(absltest.TestCase):

  def test_says_which_build_and_how_large(self):
    for versions, wanted, unwanted in (
        ({'torch': '2.13.0+cpu', 'jax': '0.10.2'},
         '2 packages.*CPU build: about 0.2 GB', 'PARITY_INDEX'),
        ({'torch': '2.13.0', 'nvidia-cublas': '1', 'triton': '3'},
         'CUDA build with 2 packages: about 3.0 GB.*PARITY_INDEX', '2 GB to'),
        ({'jax': '0.10.2'}, 'PyTorch is there already', 'PARITY_INDEX')):
      with self.subTest(versions=versions):
        line = fetched.describe(_report(**versions))
        self.assertRegex(line, wanted)
        self.assertNotRegex(line, unwanted)
        self.assertNotIn('\n', line)


if __name__ == '__main__':
  absltest.main()
