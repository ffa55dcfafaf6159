"""Interlaced frames to whole pictures, by libavfilter's bwdif.

An interlaced frame holds two fields, a moment apart; movement makes combs of
them. Frames that are not marked as interlaced stay as they are.
"""
from collections.abc import Iterator

import av

from walt_jax.media import stream_decoder


class Deinterlacer:
  """Passes on a stream of events; its interlaced frames are made whole.

  Attributes:
    count: Number of frames that were interlaced, so far.
  """

  def __init__(self):
    self.count = 0
    self._graph: av.filter.Graph | None = None
    self._kind: tuple | None = None
    self._skip = 0  # Frames that come out of the graph a second time.

  def __call__(self, events: Iterator[stream_decoder.Event]
               ) -> Iterator[stream_decoder.Event]:
    """Yields events; a frame may come one later, as bwdif looks ahead."""
    before: av.VideoFrame | None = None
    for event in events:
      if isinstance(event, stream_decoder.Damage):
        yield from self._finish()
        before = None
        yield event
        continue
      kind = event.width, event.height, event.format.name
      if kind != self._kind:
        yield from self._finish()
        before, self._kind = None, kind
      self.count += event.interlaced_frame
      if self._graph is None and event.interlaced_frame:
        self._graph = _graph(event)
        if before is not None:  # The filter looks back, too.
          self._graph.push(before)
          self._skip = 1
      before = event
      if self._graph is None:
        yield event
      else:
        self._graph.push(event)
        yield from self._take()
    yield from self._finish()

  def _take(self) -> Iterator[av.VideoFrame]:
    while self._graph is not None:
      try:
        frame = self._graph.pull()
      except (av.error.BlockingIOError, av.error.EOFError):
        return
      if self._skip:
        self._skip -= 1
      elif isinstance(frame, av.VideoFrame):
        yield frame

  def _finish(self) -> Iterator[av.VideoFrame]:
    if self._graph is not None:
      self._graph.push(None)
      yield from self._take()
      self._graph = None


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
  """A filter for frames like this one."""
  graph = av.filter.Graph()
  graph.threads = 1
  graph.link_nodes(
      graph.add_buffer(width=frame.width, height=frame.height,
                       format=frame.format, time_base=frame.time_base),
      graph.add('bwdif', 'mode=send_frame:parity=auto:deint=interlaced'),
      graph.add('buffersink')).configure()
  return graph
