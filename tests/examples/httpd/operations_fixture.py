"""Starts the server with a configuration file, reloads and upgrades it, and loads it with requests.
"""
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, end, equal, HTTPD, wait_for)


class Server:
    """The program, with every option in a configuration file."""

    def __init__(self, configuration, program=HTTPD, arguments=(), files=(), link=None):
        self.folder = tempfile.TemporaryDirectory(prefix="httpd-test-")
        os.chmod(self.folder.name, 0o755)
        self.arguments = arguments
        self.program = program
        for name, content in {"one/page": b"one", "two/page": b"two", **dict(files)}.items():
            self.write(name, content)
        if link:
            os.symlink(link[1], self.path(link[0]))
        self.configure(configuration)
        self.lines = []
        self.line_read = threading.Condition()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(content)

    def configure(self, text):
        """Writes the configuration; FOLDER in it is the server's own folder."""
        with open(self.path("conf.new"), "w") as file:
            file.write(text.replace("FOLDER", self.folder.name))
        os.rename(self.path("conf.new"), self.path("conf"))

    def __enter__(self):
        self.process = subprocess.Popen(
            [self.program, "--config", self.path("conf"), *self.arguments], stderr=subprocess.PIPE,
            text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.pid = self.process.pid
        self.port = self.serves_at()
        return self

    def __exit__(self, failure, *_):
        try:
            end(self.process)
            self.end_successor()
        finally:
            self.process.kill()
            self.reader.join(DEADLINE_SECONDS)
            self.process.stderr.close()
            self.folder.cleanup()
        if failure is None:
            equal((self.process.returncode, self.lines), (0, self.lines))

    def end_successor(self):
        """Ends a successor. Its parent has ended, so that this process cannot wait for it."""
        if self.pid == self.process.pid:
            return
        def ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            return has_ended(self.pid)

        try:
            wait_for(ended, "the end of the successor")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def hand_over(self, says=r"process (\d+) has taken over"):
        os.kill(self.pid, signal.SIGUSR2)
        self.pid = int(self.says(says).group(1))

    def read(self):
        for line in self.process.stderr:
            with self.line_read:
                self.lines.append(line.rstrip("\n"))
                self.line_read.notify_all()

    def says(self, pattern):
        """Waits for a line with the pattern; it and the lines before it are not searched again."""
        end = time.monotonic() + DEADLINE_SECONDS
        with self.line_read:
            while True:
                for at, line in enumerate(self.lines):
                    if found := re.search(pattern, line):
                        del self.lines[:at + 1]
                        return found
                assert self.line_read.wait(end - time.monotonic()), (pattern, self.lines)

    def has_said(self, words):
        """True if such a line is among those that no call has searched."""
        with self.line_read:
            return any(words in line for line in self.lines)

    def serves_at(self, host="127.0.0.1"):
        """Waits for the port that the kernel has chosen there: no other process has it."""
        return int(self.says(rf"at http://{re.escape(host)}:(\d+)$").group(1))

    def reload(self, configuration=None, says="has been read again"):
        if configuration is not None:
            self.configure(configuration)
        os.kill(self.pid, signal.SIGHUP)
        return self.says(says)

    def connect(self, where=None):
        return socket.create_connection(where or ("127.0.0.1", self.port), DEADLINE_SECONDS)

    def ask(self, path, where=None):
        with contextlib.closing(self.client(where)) as client:
            return ask(client, path)

    def client(self, where=None):
        return http.client.HTTPConnection(*(where or ("127.0.0.1", self.port)),
                                          timeout=DEADLINE_SECONDS)

    def open_files(self):
        found = set()
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):  # it was closed in the meantime
                found.add(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        return found

    def sockets(self):
        """The inodes of the process's listening sockets, by port."""
        own = self.open_files()
        found = {}
        with open("/proc/net/tcp") as table:
            for line in list(table)[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                    found.setdefault(int(fields[1].split(":")[1], 16), set()).add(fields[9])
        return found

    def has_sockets(self, wanted):
        """Repeats the query: the table of sockets may omit one while others are opened and closed."""
        wait_for(lambda: self.sockets() == wanted, lambda: f"{self.sockets()} is not {wanted}")

    def sockets_at(self, *ports):
        """Waits, as has_sockets(), until each of two loops has one at these ports, and nowhere else."""
        found = {}

        def all_are_seen():
            nonlocal found
            found = self.sockets()
            return {port: len(found[port]) for port in found} == dict.fromkeys(ports, 2)
        wait_for(all_are_seen, lambda: f"{found} is not at {ports}")
        return found


def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: since it was opened
        return True


def ask(client, path):
    """Status, headers with lower-case names, and body, on a connection that may persist."""
    client.request("GET", path)
    answer = client.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


class Load:
    """Clients that send requests all the time, some on new connections, and record failures."""

    def __init__(self, server, path="/page", count=4):
        self.server, self.path = server, path
        self.failures = []
        self.answers = [0] * count
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_for(lambda: all(self.answers) or self.failures, "the load begins")
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(DEADLINE_SECONDS)

    def run(self, index):
        client = None
        try:
            while not self.stopped.is_set():
                client = client or self.server.client()
                status, headers, body = ask(client, self.path)
                if status != 200 or body not in (b"one", b"two"):
                    raise AssertionError((status, headers, body))
                self.answers[index] += 1
                if index % 2 == 0 or headers.get("connection") == "close":
                    client.close()
                    client = None
        except Exception as failure:  # the test reports it
            self.failures.append((index, type(failure).__name__, str(failure), self.answers[index]))
        finally:
            if client:
                client.close()

    def goes_on(self, rounds=3):
        """Waits until each client has received some more responses."""
        wanted = [count + rounds for count in self.answers]
        wait_for(lambda: self.failures or
                 all(now >= then for now, then in zip(self.answers, wanted)), "the load continues")
        equal(self.failures, [])


# Timeouts that no client reaches on a busy machine: the server must close none.
ONE = ("root = FOLDER/one\nlisten = 127.0.0.1:0\nthreads = 2\nsandbox = off\n"
       "idle-timeout = 600\ndrain-timeout = 600\n")
TWO = ONE.replace("/one", "/two")
# Further addresses: each has its own port, which no other process can bind before the server.
SECOND, THIRD = "127.0.0.2", "127.0.0.3"


def listening(*where, base=None):
    """The configuration with these addresses beside the one that it has."""
    listed = ", ".join(f'"{each}"' for each in ("127.0.0.1:0", *where))
    return (base or ONE).replace("listen = 127.0.0.1:0", f"listen = [{listed}]")


def without(option, text):
    """The configuration without that option."""
    return re.sub(rf"^{option} = .*\n", "", text, flags=re.M)


def refused(server, where):
    try:
        server.connect(where).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # taken by the kernel at the last moment before the listener went
        return False
    return False
