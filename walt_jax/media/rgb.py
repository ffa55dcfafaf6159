"""Decoded frames to RGB: upright, of the size wanted."""
import av
import numpy as np


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
  """Height and width of a frame as it is shown."""
  if int(frame.rotation) % 180:
    return frame.width, frame.height
  return frame.height, frame.width


def convert(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
  """Turns a decoded frame into uint8 [height, width, 3]."""
  turns = int(frame.rotation) // 90 % 4
  if turns % 2:
    height, width = width, height
  image = frame.reformat(width=width, height=height, format='rgb24',
                         interpolation='BICUBIC').to_ndarray()
  return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
