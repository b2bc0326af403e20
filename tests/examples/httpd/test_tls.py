#!/usr/bin/env python3
"""https: the handshake, the responses, and a certificate that is read again."""
import base64
import contextlib
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from authority import Authority
from fixture import ARGUMENTS, DEADLINE_SECONDS, equal, receive_all, wait_for, main
from operations_fixture import Server

FETCH = ARGUMENTS.pop(1)
LARGE = bytes(range(256)) * 12_000  # 3 MB: read and encrypted in pieces
SCRIPT = b'document.write("written by the script");' + b'//' + b'x' * 300_000
FILES = {'one/large': LARGE, 'one/sub/index.html': b'below', 'one/script.js': SCRIPT,
         'one/browser.html': b'<!DOCTYPE html><title>t</title><script src="/script.js"></script>'}
CONFIGURATION = """root = "FOLDER/one"
listen = "127.0.0.1:0"
listen-tls = "127.0.0.1:0"
tls-cert = "FOLDER/server.pem"
tls-key = "FOLDER/server.key"
threads = 2
metrics = "unix:FOLDER/metrics"
"""
REQUEST = b'GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n'
LAST_REQUEST = REQUEST.replace(b'\r\n\r\n', b'\r\nConnection: close\r\n\r\n')


class TlsServer(Server):
    """With a certificate for localhost; `tls_port` is the port of https."""

    def __init__(self, configuration=CONFIGURATION, arguments=()):
        super().__init__(configuration, arguments=arguments, files=FILES)
        self.authority = Authority(self.folder.name)
        self.authority.issue('server')

    def __enter__(self):
        super().__enter__()
        self.tls_port = int(self.says(r'at https://127\.0\.0\.1:(\d+)$').group(1))
        return self

    def context(self):
        return ssl.create_default_context(cafile=str(self.authority.file))

    def connect_tls(self, context=None, name='localhost', session=None):
        raw = socket.create_connection(('127.0.0.1', self.tls_port), DEADLINE_SECONDS)
        # Without the last argument Python takes a cut connection for its end.
        return (context or self.context()).wrap_socket(raw, server_hostname=name, session=session,
                                                       suppress_ragged_eofs=False)

    def fetch_tls(self, context=None, session=None):
        """The session of a connection that fetches one page."""
        with self.connect_tls(context, session=session) as client:
            client.sendall(LAST_REQUEST)
            received = receive_all(client)
            assert received.startswith(b'HTTP/1.1 200 ') and received.endswith(b'one'), received
            return client.session

    def metric(self, name):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_SECONDS)
            client.connect(self.path('metrics'))
            client.sendall(b'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n')
            return int(re.search(rb'^%s (\d+)$' % name.encode(), receive_all(client), re.M).group(1))

    def wait_for_metric(self, name, least):
        wait_for(lambda: self.metric(name) >= least, lambda: f'{name} is {self.metric(name)}')

    @contextlib.contextmanager
    def client_tls(self):
        client = http.client.HTTPSConnection('localhost', self.tls_port, timeout=DEADLINE_SECONDS,
                                             context=self.context())
        client.sock = self.connect_tls()
        with contextlib.closing(client):
            yield client


def ask(client, path, headers=None):
    client.request('GET', path, headers=headers or {})
    response = client.getresponse()
    return response.status, response.read()


def test_responses_of_each_size_are_those_of_http():
    with TlsServer() as server, server.client_tls() as client:
        equal(ask(client, '/page'), (200, b'one'))
        equal(ask(client, '/large'), (200, LARGE))
        equal(ask(client, '/large', {'Range': 'bytes=100-2000099'}), (206, LARGE[100:2000100]))
        equal(ask(client, '/large', {'Range': 'bytes=5-6'}), (206, LARGE[5:7]))
        equal(ask(client, '/missing')[0], 404)
        equal(ask(client, '/sub/'), (200, b'below'))
        equal(server.ask('/page')[2], b'one')  # http is served beside it


def test_curl_verifies_the_server_and_keeps_the_connection():
    if not shutil.which('curl'):
        return print('skipped: curl is not installed')
    with TlsServer() as server:
        to = ['--connect-to', f'localhost:443:127.0.0.1:{server.tls_port}', '--max-time',
              str(DEADLINE_SECONDS), '--silent', '--show-error']
        asked = ['curl', *to, '--cacert', str(server.authority.file)]
        done = subprocess.run([*asked, '-w', '%{http_version} %{num_connects}\n', 'https://localhost/page',
                               'https://localhost/page'], capture_output=True, check=True)
        equal(done.stdout, b'one1.1 1\none1.1 0\n')
        done = subprocess.run([*asked, 'https://localhost/large'], capture_output=True, check=True)
        equal(done.stdout == LARGE, True)
        refused = subprocess.run(['curl', *to, 'https://localhost/page'], capture_output=True)
        equal(refused.returncode, 60)  # the authority is not one of the system's


def test_openssl_s_client_verifies_and_fetches():
    with TlsServer() as server:
        for version in '-tls1_2', '-tls1_3':
            done = subprocess.run(
                ['openssl', 's_client', '-connect', f'127.0.0.1:{server.tls_port}', '-CAfile', server.authority.file,
                 '-verify_return_error', '-verify_hostname', 'localhost', '-servername', 'localhost',
                 '-alpn', 'h2,http/1.1', '-ign_eof', version],
                input=LAST_REQUEST, capture_output=True, timeout=DEADLINE_SECONDS, check=True)
            for words in b'Verify return code: 0 (ok)', b'ALPN protocol: http/1.1', b'HTTP/1.1 200 ', b'\r\n\r\none':
                assert words in done.stdout, (words, done)


def test_chromium_shows_a_page_and_runs_its_script():
    program = shutil.which('chromium')
    if not program:
        return print('skipped: chromium is not installed')
    with TlsServer() as server:
        # The browser has no option that names an authority; this one names the key of a certificate.
        trusted = '--ignore-certificate-errors-spki-list=' + key_hash(server.path('server.pem'))
        assert 'written by the script' in page_in_chromium(program, server, trusted)
        assert 'written by the script' not in page_in_chromium(program, server, '--no-first-run')


def key_hash(certificate):
    key = subprocess.run(['openssl', 'x509', '-in', certificate, '-noout', '-pubkey'], capture_output=True, check=True)
    der = subprocess.run(['openssl', 'pkey', '-pubin', '-outform', 'der'], input=key.stdout, capture_output=True,
                         check=True)
    return base64.b64encode(hashlib.sha256(der.stdout).digest()).decode()


def page_in_chromium(program, server, option):
    folder = server.path('chromium')
    browser = subprocess.Popen(
        [program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
         '--host-resolver-rules=MAP localhost 127.0.0.1', f'--user-data-dir={folder}', option, '--dump-dom',
         f'https://localhost:{server.tls_port}/browser.html'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=dict(os.environ, HOME=server.folder.name), start_new_session=True)
    try:
        return browser.communicate(timeout=3 * DEADLINE_SECONDS)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)  # the browser's own processes, and no others
        browser.wait()


def test_the_example_fetches_a_page_and_resumes_its_session():
    with TlsServer() as server:
        done = subprocess.run([FETCH, '--ca', server.authority.file, '--count', '2',
                               f'127.0.0.1:{server.tls_port}', 'localhost', '/page'],
                              capture_output=True, check=True, timeout=DEADLINE_SECONDS)
        assert done.stdout.startswith(b'HTTP/1.1 200 ') and done.stdout.endswith(b'\r\n\r\none'), done
        lines = done.stderr.split(b'\n')
        assert lines[0].startswith(b'TLSv1.3 ') and lines[0].endswith(b' http/1.1'), lines
        assert lines[1].endswith(b' http/1.1 resumed'), lines


def test_requests_in_pieces_and_pipelined_ones_are_answered():
    with TlsServer() as server:
        with server.connect_tls() as client:
            for byte in REQUEST:
                client.sendall(bytes([byte]))
            client.sendall(REQUEST + LAST_REQUEST)
            received = receive_all(client)
            equal(received.count(b'\r\n\r\none'), 3)
            equal(client.recv(1), b'')  # by a close_notify: else it raises SSLEOFError


def test_a_client_without_a_common_protocol_or_tls_is_refused():
    with TlsServer() as server:
        context = server.context()
        context.set_alpn_protocols(['h2'])
        try:
            server.connect_tls(context).close()
            raise AssertionError('the handshake did not fail')
        except ssl.SSLError as error:
            assert 'alert no application protocol' in str(error).lower().replace('_', ' '), error
        server.says(r'TLS handshake of 127\.0\.0\.1 failed: .*protocol')
        context.set_alpn_protocols(['h2', 'http/1.1'])
        with server.connect_tls(context) as client:
            equal(client.selected_alpn_protocol(), 'http/1.1')
        with socket.create_connection(('127.0.0.1', server.tls_port), DEADLINE_SECONDS) as plain:
            plain.sendall(b'GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n')
            equal(receive_all(plain), b'')
        with server.client_tls() as client:
            equal(ask(client, '/page'), (200, b'one'))
        server.wait_for_metric('httpd_tls_handshake_failures_total', 2)
        server.wait_for_metric('httpd_tls_handshakes_total', 2)
        equal(server.metric('httpd_tls_handshake_failures_total'), 2)
        equal(server.metric('httpd_tls_handshakes_total'), 2)


def test_a_reload_changes_the_certificate_and_keeps_connections_and_sessions():
    with TlsServer() as server:
        context = server.context()
        with server.client_tls() as kept:
            equal(ask(kept, '/page'), (200, b'one'))
            session = server.fetch_tls(context)
            serial = serial_of(server)
            server.authority.issue('server')
            server.reload()
            assert serial_of(server) != serial
            equal(ask(kept, '/page'), (200, b'one'))
            with server.connect_tls(context, session=session) as client:
                equal(client.session_reused, True)

            # A certificate that cannot be used changes nothing, and is reported.
            server.write('server.key', b'no key')
            server.reload(says=r'reload failed.*tls-key.*key file')
            equal(ask(kept, '/page'), (200, b'one'))
            with server.client_tls() as client:
                equal(ask(client, '/page'), (200, b'one'))


def test_a_reload_under_load_fails_no_request():
    with TlsServer() as server:
        failures, counts, stopped = [], [0, 0], threading.Event()

        def fetch(index):
            try:
                while not stopped.is_set():
                    server.fetch_tls()
                    counts[index] += 1
            except Exception as failure:  # the test reports it
                failures.append(failure)

        threads = [threading.Thread(target=fetch, args=(index,)) for index in range(len(counts))]
        for each in threads:
            each.start()
        try:
            for _ in range(3):
                before = list(counts)
                server.authority.issue('server')
                server.reload()
                wait_for(lambda: failures or all(now > then for now, then in zip(counts, before)), 'the load continues')
        finally:
            stopped.set()
            for each in threads:
                each.join(DEADLINE_SECONDS)
        equal(failures, [])


def serial_of(server):
    with server.connect_tls() as client:
        return client.getpeercert()['serialNumber']


def test_an_upgrade_passes_the_sockets_of_https_to_the_new_process():
    with TlsServer() as server:
        server.hand_over()
        with server.client_tls() as client:
            equal(ask(client, '/page'), (200, b'one'))


def test_a_header_of_a_proxy_precedes_the_handshake():
    with TlsServer(CONFIGURATION + 'proxy-protocol = "127.0.0.1"\naccess-log = "FOLDER/log"\n') as server:
        with socket.create_connection(('127.0.0.1', server.tls_port), DEADLINE_SECONDS) as raw:
            raw.sendall(b'PROXY TCP4 192.0.2.7 192.0.2.9 4711 443\r\n')
            with server.context().wrap_socket(raw, server_hostname='localhost') as client:
                client.sendall(b'GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
                assert receive_all(client).endswith(b'one')
        with open(server.path('log'), encoding='utf-8') as log:
            lines = []
            wait_for(lambda: lines.extend(log.readlines()) or lines, 'the request is logged')
            assert lines[0].startswith('192.0.2.7 '), lines


def test_a_silent_client_is_disconnected_in_the_time_for_a_head():
    with TlsServer(CONFIGURATION + 'head-timeout = 2\n') as server:
        with socket.create_connection(('127.0.0.1', server.tls_port), DEADLINE_SECONDS) as silent:
            equal(silent.recv(1), b'')
        with server.connect_tls() as client:
            client.sendall(b'GET /page')  # and no more
            equal(receive_all(client), b'')


def test_a_flood_of_handshakes_is_bounded_and_timed_out():
    # At most 20 handshakes at a time. Clients without a whole first message are not counted.
    limits = 'max-connections = 40\nidle-timeout = 600\nhead-timeout = '
    with TlsServer(CONFIGURATION + limits + '600\n') as server, contextlib.ExitStack() as flood:
        hello = first_message()
        for count in range(30):
            client = flood.enter_context(
                socket.create_connection(('127.0.0.1', server.tls_port), DEADLINE_SECONDS))
            client.sendall((b'', hello[:1], hello[:-1])[count % 3])
        server.fetch_tls()
        # A reload keeps the bound and its handshakes.
        server.reload()
        server.fetch_tls()
    with TlsServer(CONFIGURATION + limits + '2\n') as server, contextlib.ExitStack() as flood:
        clients = [flood.enter_context(socket.create_connection(('127.0.0.1', server.tls_port), DEADLINE_SECONDS))
                   for _ in range(30)]
        for each in clients:
            each.sendall(b'\x16\x03\x01')  # and no more of the record
        for each in clients:
            with contextlib.suppress(ConnectionResetError):  # one that waited was not read
                equal(each.recv(1), b'')
        server.wait_for_metric('httpd_tls_handshake_failures_total', len(clients))
        assert server.says(r'TLS handshake of 127\.0\.0\.1 failed: .*timed out')
        server.fetch_tls()


def first_message():
    """The bytes that a client sends first."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(received, sent, server_hostname='localhost')
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def test_wrong_options_are_refused_before_the_start():
    server = TlsServer()
    os.mkfifo(server.path('fifo'))
    try:
        for change, words in (
                (('tls-cert = "FOLDER/server.pem"\n', ''), 'give its file by --tls-cert'),
                (('server.key', 'missing.key'), 'tls-key'),
                (('server.key', 'one'), 'this is a directory'),
                (('server.pem', 'fifo'), 'this is not a regular file'),
                (('server.key', 'authority.key'), 'belongs to another certificate'),
                (('listen-tls = "127.0.0.1:0"\n', ''), 'give one by --listen-tls')):
            server.configure(CONFIGURATION.replace(*change))
            done = subprocess.run([ARGUMENTS[0], '--config', server.path('conf'), '--check-config'],
                                  capture_output=True, text=True, timeout=DEADLINE_SECONDS)
            assert done.returncode != 0 and words in done.stderr, (change, done)
        server.configure(CONFIGURATION)
        subprocess.run([ARGUMENTS[0], '--config', server.path('conf'), '--check-config'], check=True,
                       timeout=DEADLINE_SECONDS)
    finally:
        server.folder.cleanup()


if __name__ == '__main__':
    main(globals())
