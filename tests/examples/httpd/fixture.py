"""Starts the server under test on its own root, and sends requests over sockets.

Each test_*.py takes the program, and after it the names of tests: test_files.py HTTPD [NAME...]
"""
import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

from run_tests import (DEADLINE_SECONDS, run_tests, wait_for)

ARGUMENTS = sys.argv[1:]
HTTPD = ARGUMENTS[0]


class Server:
    """The program, serving a folder of its own."""

    def __init__(self, *options, files=None, listen=("127.0.0.1:0",), threads=1,
                 environment=None, under=(), plain=None, prepare=None):
        self.folder = tempfile.TemporaryDirectory(prefix="httpd-test-")
        self.root = os.path.join(self.folder.name, "root")
        os.mkdir(self.root)
        with open(os.path.join(self.folder.name, "secret"), "w") as outside:
            outside.write("outside the root\n")
        for name, content in (files or {}).items():
            path = os.path.join(self.root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_settled(path, content)
        if prepare:
            prepare(self.folder.name)
        self.options = [option.replace("FOLDER", self.folder.name) for option in options]
        self.listen = [where.replace("FOLDER", self.folder.name) for where in listen]
        self.threads = threads
        self.under = under  # a command that runs it
        self.plain = plain  # all arguments
        self.environment = dict(os.environ, **(environment or {}))

    def __enter__(self):
        command = [*self.under, HTTPD, "--root", self.root, "--threads", str(self.threads), *self.options]
        for where in self.listen:
            command += ["--listen", where]
        if self.plain is not None:
            command = [*self.under, HTTPD, *self.plain]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True,
                                        env=self.environment)
        self.said = []  # before its address it may report missing features of this machine
        for _ in self.listen:
            while " serving " not in (line := self.process.stderr.readline()):
                assert line, self.said
                self.said.append(line)
            found = re.search(r"http://[0-9.]+:(\d+)$", line.strip())
            if found:
                self.port = int(found.group(1))
        return self

    def __exit__(self, failure, *_):
        try:
            end(self.process)
        finally:
            self.process.kill()
            said = self.process.stderr.read()
            self.process.stderr.close()
            self.folder.cleanup()
        if failure is None:
            equal((self.process.returncode, said), (0, said))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_SECONDS)

    def ask(self, method, path, headers=None, body=None):
        """One request on a connection of its own: status, headers with lower-case names, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, sent, pieces=None):
        """Sends bytes and returns every received byte until the server ends the connection."""
        with self.connect() as peer:
            for piece in pieces or [sent]:
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
            return receive_all(peer)

    def scrape(self, path="/-/metrics"):
        """The response of --metrics unix:FOLDER/metrics: its head and its body."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE_SECONDS)
            peer.connect(os.path.join(self.folder.name, "metrics"))
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            peer.sendall(request[:9])
            peer.sendall(request[9:])
            return receive_all(peer).split(b"\r\n\r\n", 1)

    def metrics(self):
        """The metrics by name, with their labels."""
        text = self.scrape()[1].decode()
        return {name: float(value) for name, value in re.findall(r"^([^# ]+) (\S+)$", text, re.M)}

    def open_files(self):
        """The targets of its descriptors, from /proc."""
        folder = f"/proc/{self.process.pid}/fd"
        found = []
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed since
                found.append(os.readlink(os.path.join(folder, name)))
        return found

    def descriptors(self):
        """The number of open descriptors except pipes, which are kept after a file was not in memory."""
        return sum(not file.startswith("pipe:") for file in self.open_files())

    def connections(self):
        """Its TCP sockets that do not listen, in any state of the peer."""
        listening = set()
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError), \
                    open(f"/proc/{self.process.pid}/net/{table}", encoding="ascii") as rows:
                listening.update(fields[9] for fields in map(str.split, list(rows)[1:])
                                 if fields[3] == "0A")
        with open(f"/proc/{self.process.pid}/net/unix", encoding="utf-8") as rows:
            listening.update(fields[6] for fields in map(str.split, list(rows)[1:]))
        return [file for file in self.open_files()
                if file.startswith("socket:") and file[8:-1] not in listening]

    def idle_descriptors(self):
        """descriptors() without a connection: one of an earlier request would hide one that stays."""
        wait_for(lambda: not self.connections(), lambda: f"connections stay: {self.connections()}")
        return self.descriptors()

    def wait_for_idle(self, before, what):
        """Waits until all connections have ended and no descriptor of them is left. The caller knows
        that each has been accepted: the server has answered it, or a later one."""
        wait_for(lambda: not self.connections(), lambda: f"{what}: {self.connections()} stay")
        wait_for(lambda: self.descriptors() <= before,
                 lambda: f"{what}: {before} descriptors before, now {sorted(self.open_files())}")


def write_settled(path, content, age=100):
    """Writes a file and sets its time of modification back: one that was modified a moment ago has
    no entity tag yet."""
    with open(path, "wb") as file:
        file.write(content)
    modified = time.time() - age
    os.utime(path, (modified, modified))


def receive_all(peer):
    received = []
    while more := peer.recv(1 << 20):
        received.append(more)
    return b"".join(received)


def receive_some(peer, enough):
    """Receives until `enough(received)`; a peer that stays silent fails by the socket's deadline."""
    received = b""
    while not enough(received):
        more = peer.recv(65536)
        assert more, received
        received += more
    return received


def end(process):
    """Sends SIGTERM until the server has ended; after the first one, current requests may finish."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        assert time.monotonic() < deadline, "the server does not end"


def equal(got, wanted):  # a large body would fill the report
    assert got == wanted, f"{got!r:.300} is not {wanted!r:.300}"
SMALL = b"a small file\n"
LARGE = bytes(range(256)) * 20_000  # 5 MB
HUGE = LARGE * 6  # more than the buffers between the server and a client that does not read
FILES = {"small.txt": SMALL, "large.bin": LARGE, "empty": b"", "folder/index.html": b"<p>index",
         "folder/a b.txt": b"blank", "no-index/file": b"x", "ümlaut": b"umlaut"}


def main(tests):
    """Runs each test of a module, or those that the command line names."""
    run_tests(tests, ARGUMENTS[1:])
