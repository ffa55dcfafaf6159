"""The commands that configs print measure what the configs claim.

Each `walt` command of a config's docstring is parsed as it stands. The
scores are run with the flags as printed, on a model of the config's `smoke`
variant whose sampler is stood for by noise, a protocol of few samples, and
networks that are stood for by the colours.
"""
import ast
import contextlib
import dataclasses
import json
import pathlib
import shlex
import tempfile
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from tests.data import video_files
from tests.e2e import tiny
from tests.sampling import cascade_test
from walt_jax.builders import config as config_lib
from walt_jax.builders import objectives
from walt_jax.builders import schema
from walt_jax.commands import cli
from walt_jax.data.prepare import prepare
from walt_jax.data.storage import manifest
from walt_jax.evaluation import clip_sets
from walt_jax.evaluation import drawer as drawer_lib
from walt_jax.metrics import feature_network
from walt_jax.metrics import image_features
from walt_jax.metrics import protocols
from walt_jax.metrics import video_features
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.pretrained import i3d
from walt_jax.pretrained import inception
from walt_jax.pretrained import networks
from walt_jax.sampling import pipeline as pipeline_lib

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
_SAMPLES = 8
_SIZE = 32  # Rows and columns of what the smoke variants draw.
_RATE = 10  # Frames a second of the real clips.


def commands(config: str) -> list[list[str]]:
  """The `walt` commands in the docstring of a config, without 'walt'."""
  text = ast.get_docstring(ast.parse((CONFIGS / f'{config}.py').read_text()))
  lines = text.replace('\\\n', ' ').splitlines()
  return [shlex.split(line)[1:] for line in lines
          if line.strip().startswith('walt ')]


def _network(name, widths, **form):
  """Features of a clip's colours, under the name of another network."""

  def apply(params, clips):
    pixels = clips.astype(jnp.float32) / 255
    found = params * jnp.concatenate(
        [pixels.mean((1, 2, 3)), pixels.std((1, 2, 3))], -1)
    return {output: found[:, :width] for output, width in widths.items()}

  return feature_network.FeatureNetwork(
      np.float32(1), networks.NetworkInfo(name, 'test', 'c' * 64),
      form['preprocessing'], apply, widths, devices=form['devices'])


@dataclasses.dataclass(frozen=True, eq=False)
class _Noise:
  """Draws noise after the frames that are given."""
  shape: tuple[int, ...]
  num_classes: int
  self_condition = False
  schedule = types.SimpleNamespace(path=lambda num_steps: None)

  @property
  def denoiser(self):
    return types.SimpleNamespace(
        num_classes=self.num_classes, low_res_factor=0, conditions=(),
        self_condition=self.self_condition)

  def make(self, options, guidance):
    del options, guidance

    def draw(params, keys, conditioning, level):
      del params, level
      noise = 255 * jax.vmap(
          lambda key: jax.random.uniform(key, self.shape))(keys)
      if conditioning.frame_mask is None:
        return noise
      given = conditioning.frame_mask[..., None, None, None] > 0
      return jnp.where(given, conditioning.frame_cond, noise)

    return draw


def _pipeline(config: schema.DenoiserExperiment,
              rate: float) -> pipeline_lib.Pipeline:
  """What a model of a config draws: frames that it learnt to continue from."""
  classes = tuple(f'class{i}' for i in range(config.model.num_classes))
  size = config.data.height
  stage = pipeline_lib.TrainedStage(
      name='base', workdir='runs/base', step=0, weights='params',
      sampler=_Noise((config.latents.frames, size, size, cascade_test.F_T),
                     len(classes)),
      params=pipeline_lib.StageParams(lambda: jnp.float32(0), str),
      classes=classes, uses_text=False,
      frame_lengths=objectives.frame_lengths(config), can_factorize=False,
      defaults=cascade_test.SETTINGS)
  pipeline = pipeline_lib.Pipeline(
      types.SimpleNamespace(sha256=''), (stage,), None, rate)
  pipeline.__dict__['codec'] = cascade_test.ExactCodec()
  return pipeline


def _make_clips(folder: pathlib.Path) -> pathlib.Path:
  """Prepares clips of two classes that brighten, of which half are held out."""
  for i in range(2 * _SAMPLES):
    frames = (np.full((32, 32, 3), 10 * k + 3 * i, np.uint8)
              for k in range(20))
    video_files.write_frames(
        folder / 'videos' / f'class{i % 2}' / f'{i}.mp4', frames, (32, 32),
        rate=_RATE)
  prepare.prepare(folder / 'videos', folder / 'data',
                  prepare.Settings(size=32, min_frames=17, heldout=0.5))
  return folder / 'data'


def _make_statistics(folder: pathlib.Path) -> None:
  """Guidance's file of reference statistics, with images."""
  rng = np.random.default_rng(0)
  (folder / 'classify_image_graph_def.pb').touch()
  np.savez(folder / 'VIRTUAL_imagenet256_labeled.npz', mu=np.zeros(6),
           sigma=np.eye(6), mu_s=np.zeros(2), sigma_s=np.eye(2),
           arr_0=rng.integers(0, 256, (_SAMPLES, 32, 32, 3), np.uint8))


class PrintedCommandsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data = _make_clips(pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())))

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()))
    (self.folder / 'data').mkdir()
    for name in ('k600', 'ucf101'):
      (self.folder / 'data' / name).symlink_to(self.data)
    self.enterContext(contextlib.chdir(self.folder))
    small = {
        name: dataclasses.replace(
            protocol, num_generated=_SAMPLES, size=protocol.size and _SIZE,
            num_real=min(protocol.num_real or 0, 2) or None,
            split_size=protocol.split_size and _SAMPLES // 2)
        for name, protocol in protocols.PROTOCOLS.items()
        if protocol.num_generated}
    for where, name, value in (
        (config_lib, 'check_workdirs', lambda *_, **__: None),
        (video_features, 'load_network', lambda path, **form: _network(
            i3d.NAME, dict(features=6), **form)),
        (image_features, 'load_inception', lambda path, **form: _network(
            inception.NAME, dict(features=6, spatial=2, logits=6), **form))):
      self.enterContext(mock.patch.object(where, name, value))
    self.enterContext(mock.patch.dict(protocols.PROTOCOLS, small))

  @parameterized.parameters(sorted(
      path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__'))
  def test_they_are_parsed(self, config):
    found = commands(config)
    self.assertNotEmpty(found)
    for argv in found:
      with self.subTest(argv=argv):
        cli.parse(argv)

  def score(self, config, *more, code=0, rate=_RATE, **changed):
    """Runs a config's command of `walt evaluate` at the size of `smoke`.

    Args:
      config: Its name.
      *more: Flags beside those printed.
      code: Exit code expected.
      rate: Frames a second of the clips that the model was trained on.
      **changed: Config values of the smoke variant, `__` for dots.

    Returns:
      The result, or the error of a refusal.
    """
    argv, = (argv for argv in commands(config) if argv[0] == 'evaluate')
    argv = [a.replace('VARIANT', config) for a in argv]
    full = config_lib.load(config)
    loaded = schema.of(config_lib.load(f'{config}:smoke', [
        (key.replace('__', '.'), value) for key, value in changed.items()]))
    size = f'{loaded.data.height}x{loaded.data.height}'
    argv = [a.replace(f'{full.data.height}x{full.data.width}', size)
            for a in argv]
    opened = (_pipeline(loaded, rate),
              mesh_lib.make_mesh(devices=jax.devices()[:1]))
    with mock.patch.object(drawer_lib, 'open_pipeline', lambda _: opened):
      result = tiny.walt(*argv, *more)
    self.assertEqual(result.code, code, result.err)
    if code:
      return result.err.splitlines()[-1]
    return json.loads((self.folder / argv[-1]).read_text())

  def test_k600_predicts_frames(self):
    found = self.score('k600', '--save_samples', 'drawn.npz')
    self.assertEqual(
        {name: found[name] for name in (
            'metric', 'protocol', 'given_frames', 'given_frames_known_by',
            'frames', 'real_split', 'num_generated')},
        dict(metric='fvd', protocol='k600-magvit', given_frames=5,
             given_frames_known_by='--given_frames', frames=16,
             real_split='heldout', num_generated=_SAMPLES))
    self.assertIn('W.A.L.T', ' '.join(found['comparable_to']))
    self.assertEqual(found['sets']['generated']['count'], _SAMPLES)
    self.assertEqual(found['samples']['given_of'], 'data/k600:heldout:32x32')
    # The first frames are those of the clips that are scored.
    drawn = clip_sets.open_clips('drawn.npz')
    real = clip_sets.open_clips('data/k600:heldout:32x32', frames=16)
    for i in range(_SAMPLES):
      np.testing.assert_array_equal(drawn[i][:5], real[i % len(real)][:5])
    self.assertIn('10 and 8 frames/s', self.score('k600', code=2, rate=8))
    # What was never trained cannot be claimed.
    for changed in (dict(diffusion__frame_condition_probability='0.0'),
                    dict(diffusion__frame_condition_lengths='(1,)'),
                    dict(model__frame_condition='False',
                         diffusion__frame_condition_probability='0.0')):
      self.assertRegex(self.score('k600', code=2, **changed),
                       '--given_frames 5: that takes a base that continues')

  def test_ucf101_is_compared_as_magvit_does(self):
    protocol = protocols.PROTOCOLS['ucf101-magvit']
    train = manifest.read_manifest(self.data)['splits']['train']
    whole = dataclasses.replace(
        protocol.draw, num_videos=train['num_examples'])
    with mock.patch.dict(protocols.PROTOCOLS, {
        protocol.name: dataclasses.replace(protocol, draw=whole)}):
      found = self.score('ucf101')
    self.assertEqual(
        {name: found[name] for name in (
            'metric', 'protocol', 'given_frames', 'frames', 'real_split',
            'num_real', 'num_generated')},
        dict(metric='fvd', protocol='ucf101-magvit', given_frames=0,
             frames=16, real_split='train', num_real=_SAMPLES,
             num_generated=_SAMPLES))
    self.assertLen(found['values'], 4)
    self.assertIn('W.A.L.T', ' '.join(found['comparable_to']))

  def test_imagenet_compares_with_the_reference_file(self):
    _make_statistics(self.folder)
    found = self.score('imagenet256')
    self.assertEqual(
        {name: found[name] for name in (
            'metric', 'protocol', 'frames', 'num_generated', 'given_frames',
            'given_frames_known_by', 'preprocessing')},
        dict(metric='fid', protocol='imagenet-adm', frames=1,
             num_generated=_SAMPLES, given_frames=0,
             given_frames_known_by='drawn',
             preprocessing='tf1-bilinear-299'))
    self.assertEqual(found['network']['name'], inception.NAME)
    self.assertIn('W.A.L.T', ' '.join(found['comparable_to']))
    for beside in ('sfid', 'inception_score', 'precision', 'recall'):
      self.assertIn(beside, found)


if __name__ == '__main__':
  absltest.main()
