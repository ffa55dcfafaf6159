"""Headless Chromium through its debugging pipe; needs no driver."""
from collections.abc import Callable
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

_NAMES = ('chromium', 'chromium-browser', 'google-chrome')
_FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run',
          '--disable-dev-shm-usage', '--mute-audio',
          '--disable-background-networking', '--disable-component-update')
_EXEC = '''
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
'''


def find() -> str | None:
  """Path of a Chromium on this machine, or None."""
  return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
  """One page of a browser of its own; commands of the DevTools protocol."""

  def __init__(self, browser: str, size: tuple[int, int] = (1280, 1600)):
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    to_browser, self._out = os.pipe()
    self._in, from_browser = os.pipe()
    flags = [*_FLAGS, f'--user-data-dir={self._profile.name}',
             f'--window-size={size[0]},{size[1]}', '--remote-debugging-pipe',
             'about:blank']
    # Out of the way of 3 and 4, which the browser reads and writes.
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10)
            for fd in (to_browser, from_browser)]
    self._process = subprocess.Popen(
        [sys.executable, '-c', _EXEC, *map(str, ends), browser, *flags],
        pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for fd in (to_browser, from_browser, *ends):
      os.close(fd)
    self._number, self._rest, self._session = 0, b'', None
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    self._session = self.call(
        'Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    self.call('Page.enable')
    self.call('DOM.enable')

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Calls a method of the protocol and waits for its answer."""
    self._number += 1
    message = dict(id=self._number, method=method, params=params)
    if self._session:
      message['sessionId'] = self._session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    while True:
      answer = self._read()
      if answer.get('id') == self._number:
        if 'error' in answer:
          raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

  def _read(self) -> dict[str, Any]:
    while b'\0' not in self._rest:
      part = os.read(self._in, 1 << 16)
      if not part:
        raise RuntimeError('The browser has gone.')
      self._rest += part
    message, _, self._rest = self._rest.partition(b'\0')
    return json.loads(message)

  def open(self, url: str) -> None:
    self.call('Page.navigate', url=url)

  def run(self, script: str) -> Any:
    """The value of a JavaScript expression; promises are awaited."""
    result = self.call('Runtime.evaluate', expression=script,
                       returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in result:
      raise RuntimeError(str(result['exceptionDetails']))
    return result['result'].get('value')

  def wait(self, script: str, seconds: float = 60.0,
           accept: Callable[[Any], bool] = bool) -> Any:
    """Waits until an expression has an accepted value, and returns it."""
    end = time.monotonic() + seconds
    while True:
      with contextlib.suppress(RuntimeError):
        value = self.run(script)
        if accept(value):
          return value
      if time.monotonic() > end:
        text = self.run('document.body.innerText')
        raise TimeoutError(f'{script} within {seconds} s; page: {text[:800]}')
      time.sleep(0.2)

  def upload(self, selector: str, path: str | os.PathLike) -> None:
    """Gives a file to a file input."""
    root = self.call('DOM.getDocument')['root']['nodeId']
    node = self.call('DOM.querySelector', nodeId=root, selector=selector)
    self.call('DOM.setFileInputFiles', nodeId=node['nodeId'],
              files=[str(pathlib.Path(path).absolute())])

  def screenshot(self, path: str | os.PathLike) -> None:
    import base64
    data = self.call('Page.captureScreenshot', format='png')['data']
    pathlib.Path(path).write_bytes(base64.b64decode(data))

  def close(self) -> None:
    os.close(self._out)
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._in)
    self._profile.cleanup()
