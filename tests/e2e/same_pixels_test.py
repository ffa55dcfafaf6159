"""One file, the same pixels or the same refusal: prepare, evaluate, sample."""
from collections.abc import Callable
import dataclasses
import io
import pathlib
import shutil
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import av
import numpy as np
from PIL import Image

from tests.data import video_files
from tests.media import image_files
from tests.media import rgb_test
from tests.media import timed_files
from walt_jax.core import errors
from walt_jax.data.prepare import prepare
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.data.stream import batches
from walt_jax.evaluation import clip_sets
from walt_jax.sampling import given_frames
from walt_jax.sampling import requests as requests_lib

_NUM_FRAMES = 20
_TIMES = np.cumsum([0.1, 0.1, 0.4, 0.2, 0.1] * 4)  # Seconds.
_LOSSLESS_MP4 = dict(codec='libx264rgb', pix_fmt='rgb24', options=dict(qp='0'))


def picture(k: int, height: int, width: int) -> np.ndarray:
  """Frame k, uint8 [H, W, 3]: ramps that no turn or mirror maps to itself."""
  row, column = np.mgrid[:height, :width] + 0.5
  channels = (200 * row / height, 200 * column / width,
              100 * row / height * column / width + 5 * k)
  return np.stack(channels, -1).astype(np.uint8)


def clip(height: int, width: int) -> np.ndarray:
  return np.stack([picture(k, height, width) for k in range(_NUM_FRAMES)])


@dataclasses.dataclass(frozen=True)
class Case:
  """A kind of file.

  Attributes:
    name: Of the file.
    write: Makes it.
    want: What it shows, uint8 [T, H, W, 3].
    refusal: Or what all commands say of it.
    atol: Levels that its coding may cost.
  """
  name: str
  write: Callable[[pathlib.Path], None]
  want: np.ndarray | None = None
  refusal: str = ''
  atol: int = 0


def _write_frames(path: pathlib.Path, without: int | None = None) -> None:
  """A folder of numbered frames, all or without one."""
  path.mkdir()
  for number, frame in enumerate(clip(24, 40)):
    if number != without:
      Image.fromarray(frame).save(path / f'{number}.png')


def _write_damaged_frames(path: pathlib.Path) -> None:
  _write_frames(path)
  (path / '7.png').write_bytes(b'no image')


def _several(name: str, kind: str, **options) -> Case:
  """Several pictures in one image file."""
  frames = clip(24, 40)

  def write(path):
    first, *rest = map(Image.fromarray, frames)
    path.write_bytes(image_files.encoded(
        first, kind, save_all=True, append_images=rest, **options))
  return Case(name, write, frames)


def _deep(name: str, dtype: type, white: float) -> Case:
  """A grey image of another depth."""
  grey = picture(0, 24, 40)[..., 0]
  values = (grey / np.float32(255) * np.float32(white)).astype(dtype)
  return Case(name, lambda path: Image.fromarray(values).save(path),
              grey[None, ..., None].repeat(3, -1), atol=1)


def _image(name: str, orientation: int, turns: int, atol: int = 0) -> Case:
  """An image that lies on its side, or stands on its head."""
  image = picture(0, 24, 40)

  def write(path):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(image).save(path, exif=exif, quality=100, subsampling=0)
  return Case(name, write, np.rot90(image, turns)[None], atol=atol)


def _turned(degrees: int) -> Case:
  """An MP4 with a display matrix."""
  frames = clip(24, 40)
  return Case(
      f'turned_{degrees}.mp4',
      lambda path: video_files.write_frames(
          path, frames, (40, 24), rotation=degrees, **_LOSSLESS_MP4),
      np.rot90(frames, -degrees // 90, axes=(1, 2)))


def _video(name: str, height: int = 24, width: int = 40, atol: int = 0,
           **options) -> Case:
  frames = clip(height, width)
  return Case(
      name, lambda path: video_files.write_frames(
          path, frames, (width, height), **options), frames, atol=atol)


def _write_cut(path: pathlib.Path) -> None:
  video_files.write_frames(path, clip(24, 40), (40, 24), **_LOSSLESS_MP4)
  video_files.cut_video(path, 0.6)


def _write_holes(path: pathlib.Path) -> None:
  """A broadcast that lost a packet on its way."""
  timed_files.write(path, _NUM_FRAMES, gop=4)
  whole = path.read_bytes()
  with av.open(io.BytesIO(whole)) as old, av.open(str(path), 'w') as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    packets = [packet for packet in old.demux(video=0) if packet.size]
    for packet in packets[:9] + packets[10:]:
      packet.stream = stream
      new.mux(packet)


def _write_gap(path: pathlib.Path) -> None:
  times = np.arange(_NUM_FRAMES) / 25
  times[8:] += 60 - 1 / 25
  timed_files.write(path, _NUM_FRAMES, times=times)


def _mirrored() -> Case:
  """An MP4 as phones write those of the camera that looks at its owner."""
  frames, one = clip(24, 40), 1 << 16
  return Case(
      'mirrored.mp4', lambda path: rgb_test.write(
          path, frames, 'libx264rgb', 'rgb24', options=dict(qp='0'),
          matrix=(-one, 0, 0, 0, one, 0, 0, 0, 1 << 30)),
      frames[:, :, ::-1])


def _write_concat(path: pathlib.Path) -> None:
  """A playlist, which FFmpeg would follow to a file beside it."""
  video_files.write_video(path.parent / 'other.mp4', _NUM_FRAMES)
  path.write_text('ffconcat version 1.0\nfile other.mp4\n')


CASES = (
    _image('exif_6.jpg', 6, -1, atol=3),
    _image('exif_8.jpg', 8, 1, atol=3),
    _image('exif_3.png', 3, 2),
    _image('exif_6.png', 6, -1),
    _deep('16_bits.png', np.uint16, 65535), _deep('float.tif', np.float32, 1),
    _several('animated.webp', 'WEBP', duration=100, lossless=True),
    _several('animated.png', 'PNG', duration=100),
    _several('pages.tif', 'TIFF'),
    Case('frames', _write_frames, clip(24, 40)),
    _turned(90), _turned(180), _turned(270),
    _video('ten_bits.mkv', codec='ffv1', pix_fmt='yuv444p10le', atol=2),
    _video('odd.mkv', 25, 41, codec='ffv1', pix_fmt='bgr0'),
    _video('variable_rate.mkv', codec='ffv1', pix_fmt='bgr0', times=_TIMES),
    _mirrored(),
    Case('cut.mp4', _write_cut,
         refusal=r'the file ends after 1.\d\d of 2.00 seconds'),
    Case('holes.ts', _write_holes, refusal='packets are missing'),
    Case('gap.mkv', _write_gap, refusal='nothing new is shown for 60.00 s'),
    Case('damaged_frames', _write_damaged_frames,
         refusal='7.png: UnidentifiedImageError: no image'),
    Case('frames_lack_one', lambda path: _write_frames(path, 7),
         refusal='1 frame missing between 6.png and 8.png'),
    Case('concat.mp4', _write_concat, refusal='not a format of videos'),
)


def prepare_file(path: pathlib.Path, size: int, num_frames: int,
                 fps: float | None = None) -> np.ndarray:
  """The stored frames of a file, or what the manifest says of it, raised."""
  folder, output = (path.parent.with_name(f'{path.name}{part}')
                    for part in ('.in', '.out'))
  shutil.copytree(path.parent, folder)
  # Else nothing could be used of a folder with one bad file.
  video_files.write_video(folder / 'good.mp4', num_frames)
  manifest = prepare.prepare(folder, output, prepare.Settings(
      size=size, codec='png', heldout=0.0, fps=fps, min_frames=num_frames,
      clip_frames=2 * _NUM_FRAMES))
  for entry in manifest['rejected']:
    if entry['file'] == path.name:
      raise errors.UserError(entry['reason'])
  dataset = dataset_lib.PreparedDataset(output)
  encoded, = (example['encoded'] for example in dataset
              if example['key'] == f'{path.name}#0')
  return codecs.decode_frames(encoded)


def evaluate_file(path: pathlib.Path, frames: int | None) -> np.ndarray:
  """The clip that scores are of."""
  found = clip_sets.open_clips(path.parent, frames=frames)
  return found[found.names.index(path.name)]


def sample_file(path: pathlib.Path, height: int, width: int, num_frames: int,
                frame_rate: float | None = None) -> np.ndarray | None:
  """The frames that a sample begins with."""
  kind = 'image' if num_frames == 1 else 'video'
  return given_frames.read(
      requests_lib.Request(**{kind: str(path)}),
      given_frames.Size(height, width), num_frames, frame_rate)


class SamePixelsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.root / 'files').mkdir()

  @parameterized.named_parameters((case.name, case) for case in CASES)
  def test_all_commands_read_a_file_alike(self, case):
    path = self.root / 'files' / case.name
    case.write(path)
    count, height, width = ((_NUM_FRAMES, 24, 40) if case.want is None
                            else case.want.shape[:3])
    readers = dict(
        prepare=lambda: prepare_file(path, min(height, width), count),
        # The frames of a folder are clips where several are scored.
        evaluate=lambda: evaluate_file(path, count if path.is_dir() else None),
        sample=lambda: sample_file(path, height, width, count))
    found = {}
    for name, read in readers.items():
      with self.subTest(name):
        if case.refusal:
          with self.assertRaisesRegex(errors.UserError, case.refusal
                                      ) as caught:
            read()
          self.assertLen(str(caught.exception).splitlines(), 1)
        else:
          found[name] = read()
          np.testing.assert_allclose(found[name].astype(int), case.want,
                                     atol=case.atol)
    for pixels in found.values():
      np.testing.assert_array_equal(pixels, found['prepare'])

  @parameterized.parameters('v.mkv', 'v.webp', 'v.png')
  def test_a_variable_rate_comes_out_constant(self, name):
    path = self.root / 'files' / name
    frames = clip(24, 40)
    if name == 'v.mkv':
      video_files.write_frames(path, frames, (40, 24), codec='ffv1',
                               pix_fmt='bgr0', times=_TIMES)
    else:
      milliseconds = np.diff(_TIMES, append=_TIMES[-1] + 0.1) * 1000
      _several(name, 'WEBP' if name == 'v.webp' else 'PNG', lossless=True,
               duration=milliseconds.round().astype(int).tolist()).write(path)
    stored = prepare_file(path, 24, 5, fps=10.0)
    ticks = _TIMES[0] + np.arange(len(stored)) / 10
    shown = np.searchsorted(_TIMES, ticks + 1e-6, side='right') - 1
    np.testing.assert_array_equal(stored, frames[shown])
    self.assertEqual(shown[-1], _NUM_FRAMES - 1)
    np.testing.assert_array_equal(sample_file(path, 24, 40, 7, 10.0),
                                  stored[-7:])

  @parameterized.parameters((16, 16), (16, 24), (24, 16), (16, 40))
  def test_given_frames_are_cropped_as_those_trained_on(self, height, width):
    """Noise, so that any other filter or window would tell."""
    rng = np.random.default_rng(0)
    path = self.root / 'files' / 'a.png'
    Image.fromarray(rng.integers(0, 256, (37, 61, 3), np.uint8)).save(path)
    output = self.root / 'out'
    # No smaller than trained on: then training scales, as sampling does.
    prepare.prepare(path.parent, output, prepare.Settings(
        size=37, codec='png', min_frames=1))
    options = batches.BatchOptions(
        image_rows=1, images_per_row=1, size=(height, width), shuffle=False,
        video_rows=0)
    batch = next(batches.make_batches(
        dataset_lib.PreparedDataset(output), options)(0))
    np.testing.assert_array_equal(sample_file(path, height, width, 1),
                                  batch.images.pixels[0])


if __name__ == '__main__':
  absltest.main()
