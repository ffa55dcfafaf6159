"""A bucket for tests: an emulator of Google Cloud Storage in this process.

gcsfs, TensorStore, ArrayRecord and Google's own client find it by their
environment variables, which they read once: it stays until the process ends.
"""
import functools
import http.server
import logging
import os
import threading
import unittest
import uuid

from walt_jax.core import errors
from walt_jax.core import paths

NAME = 'walt-test-bucket'


@functools.cache
def serve() -> str:
  """Starts the emulator and points every library at it; returns its address."""
  try:
    from gcp_storage_emulator import exceptions
    from gcp_storage_emulator import server
    from gcp_storage_emulator.handlers import buckets
    from gcp_storage_emulator.handlers import objects
    paths.path(f'{paths.SCHEME}{NAME}')
  except (ImportError, errors.UserError) as error:
    raise unittest.SkipTest(
        f'buckets need the extras gcs and test ({error})') from error
  logging.getLogger('gcp_storage_emulator').setLevel(logging.CRITICAL)

  def generation(request, storage) -> int:
    name = request.params.get('object_id') or request.query['name'][0]
    try:
      return int(storage.get_file_obj(
          request.params['bucket_name'], name)['generation'])
    except exceptions.NotFound:
      return 0

  # What the emulator lacks of the protocol, and TensorStore asks for: which
  # version was read, and writes that fail where it is no longer the newest.
  def tells(download):
    def told(request, response, storage):
      response['x-goog-generation'] = str(generation(request, storage))
      return download(request, response, storage)
    return told

  def conditional(upload):
    def uploaded(request, response, storage):
      wanted = request.query.get('ifGenerationMatch')
      if wanted and int(wanted[0]) != generation(request, storage):
        response.status = http.HTTPStatus.PRECONDITION_FAILED
        return None
      return upload(request, response, storage)
    return uploaded

  objects.download = tells(objects.download)
  for name in ('_media_upload', '_multipart_upload',
               '_create_resumable_upload'):
    setattr(objects, name, conditional(getattr(objects, name)))
  storage = server.Storage(use_memory_fs=True)
  buckets.create_bucket(NAME, storage)
  service = http.server.HTTPServer(
      ('127.0.0.1', 0), functools.partial(server.RequestHandler, storage))
  service.handle_error = lambda *_: None  # A client that did not wait.
  threading.Thread(target=service.serve_forever, daemon=True).start()
  url = f'http://127.0.0.1:{service.server_port}'
  os.environ.update(
      STORAGE_EMULATOR_HOST=url, TENSORSTORE_GCS_HTTP_URL=url,
      CLOUD_STORAGE_EMULATOR_ENDPOINT=url, GOOGLE_CLOUD_PROJECT='test')
  return url


def folder() -> str:
  """A new folder in the bucket, gs://..; skips the test without the extras."""
  serve()
  return f'{paths.SCHEME}{NAME}/{uuid.uuid4().hex[:8]}'


def names(below: str) -> list[str]:
  """The names of all objects of a folder, from it."""
  root = paths.path(below)
  return [file.relative_to(root).as_posix() for file in paths.files_below(root)]
