"""Pixels of files, against FFmpeg's own filters and formulas by hand."""
import fractions
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import av
from av.stream import Disposition
import numpy as np

from walt_jax.media import decode

_FULL = 'bicubic+full_chroma_int+full_chroma_inp+accurate_rnd'
# The filter must be told where H.264 and MPEG-4 have their colours; the files
# themselves tell the reader.
_LEFT = f'{_FULL}:in_chroma_loc=left'
_ONE = 1 << 16  # Of a display matrix's fixed point.
_NUM_FRAMES = 3


def picture(height: int, width: int, k: int = 0) -> np.ndarray:
  """Fine coloured waves, unlike in all directions: uint8 [H, W, 3]."""
  y, x = np.mgrid[:height, :width]
  waves = [np.sin(x / 5 + y / 11 + k), np.sin(x / 7 - y / 4), np.cos(x / 3)]
  return np.uint8(128 + 100 * np.stack(waves, -1))


def write(path, frames, codec='ffv1', pix_fmt='yuv444p', *, rate=25,
          aspect=None, matrix=None, options=None, **context):
  """Writes frames, with what a stream says of how they are to be shown."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=rate, options=options or {})
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = pix_fmt
    stream.codec_context.thread_count = 1  # As in `video_files`.
    if aspect is not None:
      stream.codec_context.sample_aspect_ratio = aspect
    if matrix is not None:
      stream.set_display_matrix(matrix)
    for name, value in context.items():
      setattr(stream.codec_context, name, value)
    for image in frames:
      frame = av.VideoFrame.from_ndarray(image, 'rgb24').reformat(
          format=pix_fmt, dst_colorspace=context.get('colorspace'),
          dst_color_range=context.get('color_range'))
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def filtered(path, *filters, stream=0) -> np.ndarray:
  """All frames, through FFmpeg's filters: uint8 [T, H, W, 3]."""
  with av.open(str(path)) as container:
    source = container.streams.video[stream]
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=source)]
    for text in (*filters, 'format=rgb24', 'buffersink'):
      name, _, arguments = text.partition('=')
      nodes.append(graph.add(name, arguments or None))
    graph.link_nodes(*nodes).configure()
    made = []

    def take():
      while True:
        try:
          made.append(graph.pull().to_ndarray())
        except (av.error.BlockingIOError, av.error.EOFError):
          return
    for frame in container.decode(source):
      graph.push(frame)
      take()
    graph.push(None)
    take()
    return np.stack(made)


def _psnr(a, b) -> float:
  error = np.square(a.astype(float) - b).mean()
  return float(10 * np.log10(255**2 / max(error, 1e-9)))


class RgbTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.parameters(
      ('a.mkv', 'ffv1', 'yuv420p', {}), ('a.mkv', 'ffv1', 'yuv422p', {}),
      ('a.mkv', 'ffv1', 'yuv444p', {}), ('a.mkv', 'ffv1', 'yuv411p', {}),
      ('a.mkv', 'ffv1', 'yuv420p10le', {}),
      ('a.mkv', 'ffv1', 'yuv422p10le', {}),
      ('a.mkv', 'ffv1', 'gray', {}), ('a.mkv', 'ffv1', 'gray16le', {}),
      ('a.mkv', 'ffv1', 'bgr0', {}), ('a.mkv', 'ffv1', 'gbrp10le', {}),
      ('a.mkv', 'ffv1', 'yuva420p', {}), ('a.avi', 'rawvideo', 'yuyv422', {}),
      ('a.mp4', 'libx264', 'nv12', {}), ('a.mp4', 'libx264rgb', 'rgb24', {}),
      ('a.mp4', 'libx264', 'yuv420p', dict(colorspace=1, color_range=1)),
      ('a.mp4', 'libx264', 'yuv420p', dict(colorspace=1, color_range=2)),
      ('a.mp4', 'libx264', 'yuv444p', dict(colorspace=5, color_range=2)),
      ('a.mkv', 'mjpeg', 'yuvj422p', {}), ('a.gif', 'gif', 'rgb8', {}),
      ('a.mkv', 'libvpx-vp9', 'yuv420p', dict(colorspace=9)))
  def test_formats_are_those_of_ffmpeg_with_full_chroma(
      self, name, codec, pix_fmt, context):
    path = self.root / name
    write(path, [picture(64, 96, k) for k in range(_NUM_FRAMES)], codec,
          pix_fmt, **context)
    full = _LEFT if codec == 'libx264' else _FULL
    for height, width in ((64, 96), (32, 48), (24, 36), (65, 97), (128, 192)):
      _, frames = decode.read_frames(path, size=lambda *_, s=(height, width): s)
      np.testing.assert_array_equal(
          np.stack(list(frames)),
          filtered(path, f'scale={width}:{height}:flags={full}'))

  @parameterized.parameters(
      (5, 1, 0.299, 0.114), (1, 1, 0.2126, 0.0722), (9, 1, 0.2627, 0.0593),
      (5, 2, 0.299, 0.114), (1, 2, 0.2126, 0.0722))
  def test_colours_by_hand(self, colorspace, color_range, red, blue):
    # ITU-R BT.601, BT.709 and BT.2020, limited and full range.
    path = self.root / 'a.mp4'
    levels = np.uint8([[120, 90, 180], [180, 140, 100], [60, 128, 128],
                       [200, 120, 140]])
    with av.open(str(path), 'w') as container:
      stream = container.add_stream('libx264', rate=25, options=dict(qp='0'))
      stream.height, stream.width, stream.pix_fmt = 32, 64, 'yuv444p'
      stream.codec_context.colorspace = colorspace
      stream.codec_context.color_range = color_range
      planes = np.repeat(levels.T[:, None], 32, 1).repeat(16, 2)
      frame = av.VideoFrame.from_ndarray(planes, 'yuv444p')
      frame.colorspace, frame.color_range = colorspace, color_range
      container.mux(stream.encode(frame))
      container.mux(stream.encode())
    y, cb, cr = levels.T.astype(float) - [[0], [128], [128]]
    if color_range == 1:
      y, cb, cr = (y - 16) / 219 * 255, cb / 224 * 255, cr / 224 * 255
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    shown = decode.read_clip(path)[0, 16, 8::16]
    np.testing.assert_allclose(
        shown, np.clip(np.stack([r, g, b], -1), 0, 255), atol=2)

  def test_colour_is_not_painted_in_squares(self):
    path = self.root / 'a.mkv'
    y, x = np.mgrid[:64, :96]
    smooth = np.uint8(128 + 100 * np.stack([
        np.sin(x / 9 + y / 12), np.sin(x / 10 - y / 8), np.cos(x / 7)], -1))
    write(path, [smooth], pix_fmt='yuv420p')
    self.assertGreater(
        _psnr(decode.read_clip(path)[0], smooth),
        _psnr(filtered(path, 'scale=96:64:flags=bicubic')[0], smooth) + 4)

  @parameterized.parameters(
      ((1, 0, 0, 1), ()), ((-1, 0, 0, 1), ('hflip',)),
      ((-1, 0, 0, -1), ('hflip', 'vflip')), ((1, 0, 0, -1), ('vflip',)),
      ((0, 1, 1, 0), ('transpose=cclock_flip',)),
      ((0, 1, -1, 0), ('transpose=clock',)),
      ((0, -1, -1, 0), ('transpose=clock_flip',)),
      ((0, -1, 1, 0), ('transpose=cclock',)))
  def test_display_matrices(self, matrix, filters):
    a, b, c, d = (_ONE * number for number in matrix)
    path = self.root / 'a.mp4'
    write(path, [picture(32, 48, k) for k in range(_NUM_FRAMES)],
          'libx264rgb', 'rgb24', matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    shown = decode.read_clip(path)
    np.testing.assert_array_equal(shown, filtered(path, *filters))
    info = decode.probe(path)
    self.assertEqual((info.height, info.width), shown.shape[1:3])
    half, _ = decode.read_frames(path, size=lambda h, w: (h // 2, w // 2))
    self.assertEqual((half.height, half.width),
                     (shown.shape[1] // 2, shown.shape[2] // 2))

  def test_slanted_frames_are_refused(self):
    path = self.root / 'a.mp4'
    cos, sin = (round(_ONE * share) for share in (0.5, 0.866))
    write(path, [picture(32, 48)], 'libx264rgb', 'rgb24',
          matrix=(cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30))
    with self.assertRaisesRegex(decode.ClipError, 'turned by -?(59|60) deg'):
      decode.read_frames(path)

  @parameterized.parameters(
      ('a.mp4', 90, 72, 64, 45, 128), ('a.mkv', 90, 72, 16, 15, 96),
      ('a.mkv', 90, 60, 8, 9, 80), ('a.mp4', 90, 60, 1, 1, 90),
      ('a.mp4', 320, 16, 4319, 4320, 320), ('a.mp4', 48, 32, 100, 1, 48))
  def test_pixels_come_out_square(self, name, width, height, x, y, shown):
    path = self.root / name
    write(path, [picture(height, width)], 'libx264', 'yuv420p',
          aspect=fractions.Fraction(x, y))
    info = decode.probe(path)
    self.assertEqual((info.height, info.width), (height, shown))
    np.testing.assert_array_equal(
        decode.read_clip(path),
        filtered(path, f'scale={shown}:{height}:flags={_LEFT}'))
    # Once, from the stored size: no detour over the square one.
    half, frames = decode.read_frames(path, size=lambda h, w: (h // 2, w // 2))
    np.testing.assert_array_equal(
        np.stack(list(frames)),
        filtered(path, f'scale={shown // 2}:{height // 2}:flags={_LEFT}'))
    self.assertEqual((half.height, half.width), (height // 2, shown // 2))

  @parameterized.parameters(
      ('libx264', 'a.mp4', 0.0), ('mpeg4', 'a.mkv', 0.0),
      ('ffv1', 'a.mkv', 0.5))
  def test_colours_stay_where_they_are(self, codec, name, offset):
    # Cr rises by 4 a sample of colour. In H.264 and MPEG-4 those lie on every
    # second pixel; where nothing is said, between two.
    path = self.root / name
    with av.open(str(path), 'w') as container:
      stream = container.add_stream(codec, rate=25)
      stream.height, stream.width, stream.pix_fmt = 32, 64, 'yuv420p'
      stream.codec_context.thread_count = 1
      stream.codec_context.qmin, stream.codec_context.qmax = 1, 2
      planes = np.full((48, 64), 128, np.uint8)
      planes[:32] = 120
      planes[40:] = np.tile(64 + 4 * np.arange(32), 2)
      frame = av.VideoFrame.from_ndarray(planes, 'yuv420p')
      container.mux(stream.encode(frame))
      container.mux(stream.encode())
    red = decode.read_clip(path)[0, 16, 16:48, 0]
    cr = 64 + 4 * (np.arange(16, 48) - offset) / 2
    expected = (120 - 16) / 219 * 255 + (cr - 128) / 224 * 255 * 1.402
    self.assertLess(abs((red - expected).mean()), 0.4)  # A pixel is 3.2.

  @parameterized.parameters((16, 'PQ'), (18, 'HLG'))
  def test_high_dynamic_range_is_refused(self, transfer, name):
    path = self.root / 'a.mkv'
    write(path, [picture(32, 48)], 'ffv1', 'yuv420p10le', color_trc=transfer)
    for read in (decode.read_frames, decode.probe):
      with self.assertRaisesRegex(decode.ClipError,
                                  rf'HDR \({name}\).*ffmpeg -i .*tonemap'):
        read(path)

  @parameterized.parameters(
      ('a.mkv', ('small', 'large'), 1), ('a.mkv', ('large', 'small'), 0),
      ('a.mkv', ('large', 'small', 'default'), 2),
      ('a.mp4', ('large', 'cover'), 0), ('a.mp4', ('cover', 'small'), 1),
      ('a.mp4', ('cover', 'cover'), None))
  def test_the_stream_that_players_take(self, name, kinds, chosen):
    path = self.root / name
    sizes = dict(cover=(64, 64), small=(16, 32), large=(32, 48),
                 default=(8, 16))
    flags = dict(cover=Disposition.attached_pic, default=Disposition.default)
    with av.open(str(path), 'w') as container:
      streams = []
      for kind in kinds:
        stream = container.add_stream(
            'mjpeg' if kind == 'cover' else 'libx264rgb', rate=25)
        stream.height, stream.width = sizes[kind]
        stream.pix_fmt = 'yuvj444p' if kind == 'cover' else 'rgb24'
        stream.disposition = flags.get(kind, Disposition(0))
        streams.append(stream)
      for kind, stream in zip(kinds, streams, strict=True):
        frame = av.VideoFrame.from_ndarray(picture(*sizes[kind]), 'rgb24')
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if chosen is None:
      with self.assertRaisesRegex(decode.ClipError, 'only a cover picture'):
        decode.read_frames(path)
    else:
      self.assertEqual(decode.read_clip(path).shape[1:3], sizes[kinds[chosen]])


if __name__ == '__main__':
  absltest.main()
