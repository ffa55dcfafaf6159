"""The text encoder of a config."""
import pathlib
from unittest import mock

from absl.testing import absltest
import jax.numpy as jnp

from walt_jax.builders import config as config_lib
from walt_jax.builders import schema
from walt_jax.builders import text_encoders
from walt_jax.core import errors
from walt_jax.text import encoder as text_encoder

_CONFIG = str(
    pathlib.Path(__file__).parents[2] / 'configs' / 'quickstart.py')


def config_of(**text):
  config = config_lib.to_dict(config_lib.load(_CONFIG))
  config['text'] = dict(
      name='t5', path='weights', max_tokens=7, width=16) | text
  return schema.of(config)


class TextEncoderTest(absltest.TestCase):

  def load(self, config):
    """What the encoder would be loaded with."""
    with mock.patch.object(
        text_encoder, 'load_text_encoder',
        return_value=mock.Mock(width=16)) as loaded:
      text_encoders.text_encoder_of(config)
    return loaded.call_args

  def test_all_keys_are_passed_on(self):
    (name, path), options = self.load(config_of(dtype='bfloat16'))
    self.assertEqual((name, path), ('t5', 'weights'))
    self.assertEqual(options, dict(max_tokens=7, dtype=jnp.bfloat16))
    self.assertEqual(self.load(config_of())[1]['dtype'], jnp.float32)
    self.assertIsNone(self.load(config_of(path=''))[0][1])
    self.assertIsNone(text_encoders.text_encoder_of(config_of(name='')))

  def test_refusals(self):
    for changed, said in ((dict(dtype='float8'), 'text.dtype.*float8'),
                          (dict(widht=3), 'text.widht'),
                          (dict(width=8), 'text.width is 8.*16')):
      with self.assertRaisesRegex(errors.UserError, said):
        self.load(config_of(**changed))


if __name__ == '__main__':
  absltest.main()
