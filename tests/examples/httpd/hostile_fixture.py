"""A server under hostile load, a client that probes it all the time, and a check for leaks.

Small by default; --full has the sizes that are promised: test_slow_clients.py [--full] HTTPD [NAME...]
"""
import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from run_tests import (DEADLINE_SECONDS, run_tests, wait_for)

ARGUMENTS = [each for each in sys.argv[1:] if each != "--full"]
HTTPD = ARGUMENTS[0]
FULL = "--full" in sys.argv
with open(HTTPD, "rb") as program:
    SANITIZED = re.search(rb"__[atm]san_init", program.read())  # keeps freed memory, and is slow
# Beside hundreds of clients and the test's own threads, on a machine that has nothing else to do.
PROBE_SECONDS_MAX = 10 if SANITIZED else 3
MEMORY_GROWTH_MAX = 1.25
MEMORY_SLACK_KIB = 4096
# The buffers that belong to no connection, when all are in use: buffer_pool_options by default.
POOL_KIB = 4096 * 4
SOURCES = [f"127.0.0.{number}" for number in range(1, 9)]  # each has ports of its own
SMALL = b"a small file\n" * 100
BODY = bytes(range(256)) * 8192  # 2 MiB: more than the buffers between the two


def request(path, *fields):
    lines = [f"GET {path} HTTP/1.1", "Host: here", *fields]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n"


def receive_answer(peer, body_max=1 << 30):
    """Status and body; the body is shorter than its length only where the server ended it."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = peer.recv(1 << 16)
        if not more:
            raise ConnectionError("the connection ended within a head")
        received += more
    head, body = received.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"(?i)\r\nContent-Length: (\d+)", head).group(1))
    parts, count = [body], len(body)
    while count < min(length, body_max):
        more = peer.recv(1 << 18)
        if not more:
            break
        parts.append(more)
        count += len(more)
    return int(head.split(b" ")[1]), length, b"".join(parts)


class Server:
    def __init__(self, *options, descriptors=None, environment=None):
        self.folder = tempfile.TemporaryDirectory(prefix="httpd-hostile-")
        self.root = os.path.join(self.folder.name, "root")
        self.metrics_path = os.path.join(self.folder.name, "metrics")
        os.mkdir(self.root)
        self.put("small.txt", SMALL)
        self.put("body", BODY)
        self.options, self.descriptors = options, descriptors
        self.environment = dict(os.environ, **(environment or {}))

    def put(self, name, content):
        path = os.path.join(self.root, name)
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.rename(path + ".new", path)

    def __enter__(self):
        limit = [] if self.descriptors is None else ["prlimit", f"--nofile={self.descriptors}"]
        self.process = subprocess.Popen(
            [*limit, HTTPD, "--root", self.root, "--listen", "127.0.0.1:0", "--threads", "1",
             "--metrics", "unix:" + self.metrics_path, *self.options],
            stderr=subprocess.PIPE, text=True, env=self.environment)
        said = []  # before that it may report missing features of this machine
        while not (found := re.search(r"http://[0-9.]+:(\d+)$", said[-1].strip() if said else "")):
            said.append(self.process.stderr.readline())
            assert said[-1], said
        self.port = int(found.group(1))
        return self

    def __exit__(self, failure, *_):
        alive = self.process.poll() is None
        end = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:  # two requests at once can be one, which lets clients finish
            if time.monotonic() < end:
                self.process.terminate()
            else:
                self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.2)
        said = self.process.stderr.read()
        self.process.stderr.close()
        self.folder.cleanup()
        if failure is None:
            assert alive and self.process.returncode == 0, (self.process.returncode, said)

    def connect(self, source=SOURCES[0], window=None):
        peer = socket.socket()
        try:
            peer.settimeout(DEADLINE_SECONDS)
            if window:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            peer.bind((source, 0))
            peer.connect(("127.0.0.1", self.port))
        except OSError:
            peer.close()
            raise
        return peer

    def metrics(self):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE_SECONDS)
            peer.connect(self.metrics_path)
            peer.sendall(request("/-/metrics"))
            text = receive_answer(peer)[2].decode()
        found = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def descriptor_kinds(self):
        """How many sockets, pipes and other files it has open, and the names of lost files."""
        counts, lost = {"socket": 0, "pipe": 0, "file": 0}, []
        folder = f"/proc/{self.process.pid}/fd"
        for fd in os.listdir(folder):
            with contextlib.suppress(OSError):
                target = os.readlink(f"{folder}/{fd}")
                kind = target.split(":")[0]
                counts[kind if kind in counts else "file"] += 1
                if target.endswith(" (deleted)"):
                    lost.append(target)
        return counts, lost

    def memory_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Probe:
    """Asks for a small file, on a connection that stays and on new ones, until it is left.

    How long an answer may take is for the server to keep, and how long a thread waits for a
    processor is not: that is measured beside it.
    """

    def __init__(self, server, new_ones=True):
        self.server, self.new_ones = server, new_ones
        self.stop, self.failure = threading.Event(), None
        self.slowest, self.count, self.held_up = 0.0, 0, 0.0
        self.threads = [threading.Thread(target=self.run), threading.Thread(target=self.look_at_clock)]

    def look_at_clock(self):
        pause = 0.02
        begin = time.monotonic()
        while not self.stop.wait(pause):
            begin, before = time.monotonic(), begin
            self.held_up = max(self.held_up, begin - before - pause)

    def ask(self, peer):
        begin = time.monotonic()
        peer.sendall(request("/small.txt"))
        status, _, body = receive_answer(peer)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.count += 1
        assert (status, body) == (200, SMALL), (status, body[:200])

    def run(self):
        try:
            with self.server.connect() as kept:
                while self.count == 0 or not self.stop.is_set():
                    self.ask(kept)
                    if self.new_ones:
                        begin = time.monotonic()
                        with self.server.connect() as another:
                            self.ask(another)
                        self.slowest = max(self.slowest, time.monotonic() - begin)
                    self.stop.wait(0.02)
        except Exception as failure:
            self.failure = failure

    def __enter__(self):
        for each in self.threads:
            each.start()
        return self

    def __exit__(self, failure, *_):
        self.stop.set()
        for each in self.threads:
            each.join()
        if failure is None:
            if self.failure:
                raise AssertionError(f"the probe, after {self.count} answers: {self.failure!r}")
            assert self.count > 0
            # An answer takes the server and the test some time slices each.
            allowed = PROBE_SECONDS_MAX + 20 * self.held_up
            assert self.slowest < allowed, (f"a probe waited for {self.slowest:.1f} s where threads "
                                            f"waited for {self.held_up:.2f} s")


class NothingLeftBehind:
    """Checks that the resources of the server after a round do not exceed those after the first."""

    def __init__(self, server):
        self.server, self.first, self.memories = server, None, []
        self.sockets = server.descriptor_kinds()[0]["socket"]

    def round_is_over(self):
        server = self.server
        wait_for(lambda: server.descriptor_kinds()[0]["socket"] <= self.sockets,
                 lambda: f"{server.descriptor_kinds()[0]} where {self.sockets} sockets were before")
        wait_for(lambda: server.metrics()["httpd_connections"] == 0, "connections are still open")
        self.ask_for_all()  # all files are open then, and no removed one
        wait_for(lambda: server.metrics()["httpd_connections"] == 0, "a connection is still open")
        counts, lost = server.descriptor_kinds()
        assert not lost, lost
        memory = server.memory_kib()
        if self.first is None:
            self.first = counts["file"], memory
        files, first_memory = self.first
        assert counts["file"] <= files, f"{counts} where {files} files were open"
        assert counts["pipe"] <= 2 * 64, counts
        allowed = first_memory * MEMORY_GROWTH_MAX + MEMORY_SLACK_KIB

        def is_small_again():  # buffers made by a burst are freed as others are returned
            self.ask_for_all()
            return server.memory_kib() <= allowed

        if not SANITIZED and memory > allowed:
            wait_for(is_small_again, f"memory grew from {first_memory} to {memory} KiB")
            memory = server.memory_kib()
        self.memories.append(memory)

    def ask_for_all(self):
        with self.server.connect() as peer:
            for name in os.listdir(self.server.root):
                peer.sendall(request("/" + name).replace(b"GET", b"HEAD"))
                received = b""
                while not received.endswith(b"\r\n\r\n"):
                    more = peer.recv(4096)
                    assert more, received
                    received += more

    def words(self):
        return f"memory {' '.join(map(str, self.memories))} KiB"


def in_threads(jobs):
    """Runs all jobs at once, and raises the exception of one of them."""
    failures = []

    def run(job):
        try:
            job()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]


def reset(peer):
    """Closes with a RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def main(tests):
    """Runs each test of a module, or those that the command line names."""
    run_tests(tests, ARGUMENTS[1:])
