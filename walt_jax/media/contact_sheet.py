"""Clips as one labelled picture: a row a clip, a column a frame."""
from collections.abc import Sequence

import numpy as np

from walt_jax.core import pixels
from walt_jax.media import video

_GAP = 4
_FONT_SIZE = 13
_BACKGROUND = (250, 250, 248)
_INK = (40, 40, 48)
_FAINT = (120, 120, 130)
_MAX_CAPTION_WIDTH = 260


def contact_sheet(clips: np.ndarray | Sequence[np.ndarray],
                  captions: Sequence[str], *, title: str = '',
                  max_frames: int = 9, min_side: int = 64,
                  numbers: Sequence[Sequence[int]] | None = None
                  ) -> np.ndarray:
  """Lays clips out on one sheet.

  Args:
    clips: uint8 [N, T, H, W, 3], or clips of one frame size but unlike T.
    captions: One a clip; long ones are wrapped.
    title: Printed on top.
    max_frames: Columns at most; of longer clips, evenly spaced frames with
      the first and the last are shown, numbered by the longest clip's.
    min_side: Smaller frames are enlarged by a whole factor.
    numbers: Number of each frame of each clip in the longer clip that it was
      picked from; None counts the frames given. They head the columns where
      all clips agree, else every row has its own.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: No clips, wrong clips, not one caption a clip, or not one
      number a frame.
  """
  from PIL import Image
  from PIL import ImageDraw
  from PIL import ImageFont
  if len(clips) != len(captions):
    raise ValueError(f'{len(clips)} clips but {len(captions)} captions.')
  if not len(clips):
    raise ValueError('A contact sheet needs at least one clip.')
  if max_frames < 1:
    raise ValueError(f'max_frames must be at least 1, got {max_frames}.')
  clips = [video.enlarge(pixels.check_clip(clip), min_side) for clip in clips]
  sizes = sorted({clip.shape[1:3] for clip in clips})
  if len(sizes) > 1:
    raise ValueError(f'Frames of one sheet must be of one size, got {sizes}.')
  height, width = sizes[0]
  longest = max(len(clip) for clip in clips)
  frames = pick_frames(longest, max_frames)
  if numbers is None:
    numbers = [range(longest)]
  elif list(map(len, numbers)) != list(map(len, clips)):
    raise ValueError('Each clip needs a number for each of its frames.')
  shared = max(numbers, key=len)
  per_row = any(list(own) != list(shared[:len(own)]) for own in numbers)

  font = ImageFont.load_default(_FONT_SIZE)
  texts = [_wrap(caption, font, max(1, height // (_FONT_SIZE + 4)))
           for caption in captions]
  widths = [font.getlength(words) for text in texts for words in text]
  left = 3 * _GAP + round(max(widths, default=0))
  top = (2 * _FONT_SIZE if title else 0) + _FONT_SIZE + 3 * _GAP
  line = _FONT_SIZE + _GAP
  pitch = height + _GAP + (line if per_row else 0)
  sheet = Image.new('RGB', (left + len(frames) * (width + _GAP) + _GAP,
                            top + len(clips) * pitch + _GAP), _BACKGROUND)
  draw = ImageDraw.Draw(sheet)

  def write_numbers(of: Sequence[int], bottom: int) -> None:
    for column, frame in enumerate(frames):
      if frame < len(of):
        draw.text((left + column * (width + _GAP) + 1, bottom - line),
                  str(of[frame]), _FAINT, font)

  if title:
    draw.text((2 * _GAP, 2 * _GAP), title, _INK, font)
  if not per_row:
    write_numbers(shared, top)
  for row, (clip, text) in enumerate(zip(clips, texts, strict=True)):
    y = top + row * pitch
    if per_row:
      y += line
      write_numbers(numbers[row], y)
    for number, words in enumerate(text):
      draw.text((2 * _GAP, y + number * (_FONT_SIZE + 4)), words, _INK, font)
    for column, frame in enumerate(frames):
      if frame < len(clip):
        sheet.paste(Image.fromarray(clip[frame]),
                    (left + column * (width + _GAP), y))
  return np.asarray(sheet)


def pick_frames(num_frames: int, max_frames: int) -> list[int]:
  """Evenly spaced frame numbers, with the first and the last."""
  if num_frames <= max_frames:
    return list(range(num_frames))
  if max_frames == 1:
    return [0]
  return np.linspace(0, num_frames - 1, max_frames).round().astype(int).tolist()


def _wrap(caption: str, font, max_lines: int) -> list[str]:
  """Breaks a caption into lines; what does not fit ends in '..'."""
  lines = ['']
  for word in caption.split():
    joined = f'{lines[-1]} {word}'.strip()
    if lines[-1] and font.getlength(joined) > _MAX_CAPTION_WIDTH:
      lines.append(word)
    else:
      lines[-1] = joined
  if len(lines) > max_lines:
    lines = [*lines[:max_lines - 1], f'{lines[max_lines - 1]} ..']
  return [_shorten(line, font) for line in lines]


def _shorten(line: str, font) -> str:
  """Cuts a line that is one overlong word."""
  if font.getlength(line) <= _MAX_CAPTION_WIDTH:
    return line
  while line and font.getlength(f'{line}..') > _MAX_CAPTION_WIDTH:
    line = line[:-1]
  return f'{line}..'
