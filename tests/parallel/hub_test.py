"""The hub hears those who know the secret, and nobody else."""
import json
import os
import pathlib
import queue
import socket
import stat
import tempfile
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from tests import ports
from walt_jax.core import errors
from walt_jax.parallel import hosts as hosts_lib
from walt_jax.parallel import hub as hub_lib
from walt_jax.parallel import lines as lines_lib
from walt_jax.parallel import link as link_lib
from walt_jax.parallel import secret as secret_lib

_SECRET = 'the secret of this test'


class HubTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.port = ports.free_port()
    self.hub = hub_lib.Hub(self.hosts(0), 5.0, ['walt'], _SECRET.encode())
    self.addCleanup(self.hub.close)
    self.hub.start()

  def hosts(self, process):
    return hosts_lib.Hosts(f'127.0.0.1:{self.port}', 2, process, 'test')

  def link(self, process, token=_SECRET, seconds=5.0, alike=('walt',)):
    events = queue.SimpleQueue()
    link = link_lib.Link(self.hosts(process), 5.0, events,
                         secret_lib.Secret(token, None, ''))
    self.addCleanup(link.close)
    link.connect(seconds, alike)
    return link, events

  def stranger(self):
    connection = socket.create_connection(('127.0.0.1', self.port + 1), 10.0)
    self.addCleanup(connection.close)
    return lines_lib.Lines(connection)

  def assert_all_is_well(self):
    """Both processes meet, and one hears that the other has ended."""
    (one, heard), (other, _) = self.link(0), self.link(1)
    self.assertEqual(heard.get(timeout=5), ('ready', True))
    other.send(ended=-9)
    kind, what = heard.get(timeout=5)
    self.assertEqual((kind, what['process'], what['why']),
                     ('gone', 1, 'was killed by SIGKILL'))
    one.close()

  def test_two_that_know_the_secret_meet(self):
    self.assert_all_is_well()

  def test_another_secret_is_named(self):
    with self.assertRaisesRegex(
        errors.UserError, 'cannot be reached at .* within 0 s: what answers '
        'there does not know the secret.*WALT_TOKEN is not the same'):
      self.link(1, token='another secret of it', seconds=0.3)
    self.assertEqual(self.hub.missing(), [0, 1])

  def test_the_secret_is_never_sent(self):
    sent = []
    with mock.patch.object(
        lines_lib.json, 'dumps', lambda value, *rest, dumps=json.dumps: (
            sent.append(dumps(value)), dumps(value))[1]):
      self.link(0)
    self.assertGreater(len(sent), 3)
    self.assertFalse(any(_SECRET in text for text in sent))

  def test_words_without_a_proof_are_not_heard(self):
    for hello in (dict(hello=1, of=2, host='x', alike=['walt']),
                  dict(hello=1, of=2, host='x', alike=['walt'],
                       proof='0' * 64), dict(ended=0), dict(stopping=True)):
      line = self.stranger()
      line.send(dict(nonce='n'))
      self.assertIn('proof', line.next(5.0))
      line.send(hello)
      self.assertIsNone(line.next(5.0))
    self.assertEqual(self.hub.missing(), [0, 1])

  def test_a_proof_is_of_one_connection_and_of_what_was_said(self):
    hello = dict(hello=1, of=2, host='x', alike=['walt'])
    key = _SECRET.encode()
    for theirs, said in (('n', hello | dict(hello=0)), ('earlier', hello)):
      line = self.stranger()
      line.send(dict(nonce='n'))
      ours = line.next(5.0)['nonce']
      line.send(hello | dict(proof=secret_lib.proof(
          key, 'process', theirs, ours, said)))
      self.assertIsNone(line.next(5.0))
    # The hub's own proof, sent back, is none of a process.
    line = self.stranger()
    line.send(dict(nonce='n'))
    line.send(hello | dict(proof=line.next(5.0)['proof']))
    self.assertIsNone(line.next(5.0))
    self.assertEqual(self.hub.missing(), [0, 1])

  @parameterized.parameters(
      b'\n', b'[]\n', b'{"nonce": {}}\n', b'null\n', b'\xff\xfe\n',
      b'[' * 100_000 + b'\n', b'GET / HTTP/1.1\r\n\r\n')
  def test_nonsense_is_not_answered_with_more_than_a_number(self, data):
    connection = socket.create_connection(('127.0.0.1', self.port + 1), 10.0)
    with connection:
      connection.sendall(data + data)
      received = b''
      while part := connection.recv(1 << 16):
        received += part
    self.assertLess(len(received), 300)
    self.assert_all_is_well()

  def test_a_line_without_end_is_cut_off(self):
    connection = socket.create_connection(('127.0.0.1', self.port + 1), 10.0)
    sent = 0
    with connection, self.assertRaises(OSError):
      while sent < 1 << 25:
        sent += connection.send(b'x' * (1 << 16))
    self.assert_all_is_well()

  def test_strangers_are_few_and_do_not_stay(self):
    before = threading.active_count()
    with mock.patch.multiple(hub_lib, _PROOF_SECONDS=1.0, _MOST_STRANGERS=6):
      silent = [self.stranger() for _ in range(30)]
      time.sleep(0.3)
      self.assertLessEqual(threading.active_count(), before + 6)
      self.assert_all_is_well()  # They keep trying meanwhile.
      self.assertIsNone(silent[0].next(5.0))

  @parameterized.parameters(
      dict(ended='0'), dict(ended=True), dict(ended=10**6), dict(ended=None))
  def test_a_process_that_lies_is_named(self, **said):
    (_, heard), (liar, _) = self.link(0), self.link(1)
    self.assertEqual(heard.get(timeout=5), ('ready', True))
    liar.send(**said)
    kind, what = heard.get(timeout=5)
    self.assertEqual((kind, what['process']), ('gone', 1))
    self.assertIn('has said what it should not: ended is', what['why'])

  @parameterized.parameters(-1, 2, 10**9, True, '1', None)
  def test_wrong_numbers_of_processes(self, process):
    line = self.stranger()
    line.send(dict(nonce='n'))
    ours = line.next(5.0)['nonce']
    hello = dict(hello=process, of=2, host='x', alike=['walt'])
    line.send(hello | dict(proof=secret_lib.proof(
        _SECRET.encode(), 'process', 'n', ours, hello)))
    answer = line.next(5.0)
    if process == 2:
      self.assertIn('is none of 2', answer['refused'])
    else:
      self.assertIsNone(answer)

  def test_a_run_of_one_machine_listens_there_alone(self):
    self.assertEqual(self.hub._server.getsockname()[0], '127.0.0.1')


class SecretTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory()), 'run')
    self.secret = secret_lib.find({}, self.folder, 'host:1')

  def test_the_file_is_for_the_user_alone_and_goes_with_the_run(self):
    self.assertIsNone(self.secret.read())
    with self.secret.made():
      self.assertEqual(stat.S_IMODE(self.secret.file.stat().st_mode), 0o600)
      found = self.secret.read()
      self.assertGreaterEqual(len(found), 32)
      other = secret_lib.find({}, self.folder, 'host:1')
      self.assertEqual(other.read(), found)
      self.assertIsNone(
          secret_lib.find({}, self.folder, 'host:2').read())
    self.assertFalse(self.folder.exists())

  def test_what_the_run_wrote_stays(self):
    with self.secret.made():
      (self.folder / 'config.json').write_text('{}')
    self.assertEqual([path.name for path in self.folder.iterdir()],
                     ['config.json'])

  def test_a_file_that_others_may_read_is_refused(self):
    with self.secret.made():
      os.chmod(self.secret.file, 0o640)
      with self.assertRaisesRegex(errors.UserError, 'others may read'):
        self.secret.read()

  def test_a_file_of_another_user_is_refused(self):
    with self.secret.made(), mock.patch.object(
        os, 'geteuid', lambda: self.secret.file.stat().st_uid + 1):
      with self.assertRaisesRegex(errors.UserError, 'belongs to user'):
        self.secret.read()

  def test_the_environment_goes_first(self):
    found = secret_lib.find(
        {secret_lib.TOKEN: 'x' * 16}, self.folder, 'host:1')
    with found.made():
      self.assertFalse(self.folder.exists())
    self.assertEqual(found.read(), b'x' * 16)
    for environment, said in (
        ({secret_lib.TOKEN: 'x' * 15}, 'WALT_TOKEN has 15 characters'),
        ({}, 'several hosts need a secret.*openssl rand')):
      with self.assertRaisesRegex(errors.UserError, said):
        secret_lib.find(environment, None, 'host:1')

  def test_a_folder_that_cannot_be_written(self):
    self.folder.write_text('a file')
    with self.assertRaisesRegex(errors.UserError, 'cannot be .*WALT_TOKEN'):
      with self.secret.made():
        pass


if __name__ == '__main__':
  absltest.main()
