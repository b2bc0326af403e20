#!/usr/bin/env python3
"""Starts, restarts and sockets, as operators meet them."""
import contextlib
import ctypes
import os
import pwd
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, HTTPD, receive_all, Server, wait_for, main)


def start(*options, **popen):
    return subprocess.Popen([HTTPD, *options], stderr=subprocess.PIPE, text=True, **popen)


def read_line(process, pattern):
    """Waits for a line of standard error that has the pattern."""
    received = []
    while True:
        line = b""
        while not line.endswith(b"\n"):  # not ahead of the line: others follow
            ready = select.select([process.stderr], [], [], DEADLINE_SECONDS)[0]
            assert ready, f"{pattern} is not said: {received}"
            more = os.read(process.stderr.fileno(), 1)
            assert more, f"it ended: {received}"
            line += more
        received.append(line.decode())
        if found := re.search(pattern, received[-1].strip()):
            return found


def serving_port(process):
    return int(read_line(process, r" serving .*:(\d+)$").group(1))


@contextlib.contextmanager
def ended(process):
    """Kills the processes that a failed test leaves."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
        process.stderr.close()


def ask(port, path="/page", family=socket.AF_INET, host="127.0.0.1"):
    with socket.socket(family) as peer:
        peer.settimeout(DEADLINE_SECONDS)
        peer.connect((host, port))
        peer.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return receive_all(peer).split(b"\r\n\r\n", 1)[1]


def test_a_second_instance_does_not_start():
    for threads in (1, 2, 4):
        with Server(threads=threads, files={"page": b"one"}) as server, \
                tempfile.TemporaryDirectory() as other:
            for other_threads in ("1", "3"):
                done = subprocess.run([HTTPD, "--root", other, "--threads", other_threads, "--listen",
                                       f"127.0.0.1:{server.port}"], capture_output=True, text=True,
                                      check=False, timeout=DEADLINE_SECONDS)
                equal(done.returncode, 1)
                assert "Address already in use" in done.stderr, done.stderr
                assert f"127.0.0.1:{server.port}" in done.stderr, done.stderr
            for _ in range(20):
                equal(server.ask("GET", "/page")[2], b"one")


def test_instances_that_start_together_do_not_share_a_port():
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        instances = [start("--threads", "2", "--listen", f"127.0.0.1:{port}") for _ in range(4)]
        try:
            wait_for(lambda: sum(each.poll() is None for each in instances) == 1, "one is left")
        finally:
            for each in instances:
                each.kill()
                each.wait()
                each.stderr.close()


def test_connections_are_spread_over_the_loops():
    with Server("--metrics", "unix:FOLDER/metrics", threads=4, files={"page": b"x"}) as server:
        def sockets():
            with open("/proc/net/tcp", encoding="ascii") as table:
                return sum(" 0A " in line and f":{server.port:04X} " in line for line in table)

        # Repeated, as the table may omit one while other sockets are opened and closed.
        wait_for(lambda: sockets() == 4, lambda: f"{sockets()} sockets listen")
        for _ in range(200):
            server.ask("GET", "/page")
        equal(server.metrics()['httpd_requests_total{status="200"}'], 200)


def test_ipv4_and_ipv6_of_one_port():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        print(f"  (not tried: no IPv6: {error})")
        return
    for threads in ("1", "3"):
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = taken.getsockname()[1]
        with tempfile.TemporaryDirectory() as root:
            with open(os.path.join(root, "page"), "wb") as file:
                file.write(b"page")
            process = start("--root", root, "--threads", threads, "--listen", f"0.0.0.0:{port}",
                            "--listen", f"[::]:{port}")
            with ended(process):
                equal((serving_port(process), serving_port(process)), (port, port))
                equal(ask(port), b"page")
                equal(ask(port, family=socket.AF_INET6, host="::1"), b"page")


def test_a_restart_after_a_kill_succeeds():
    with tempfile.TemporaryDirectory() as root:
        path = os.path.join(root, "socket")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        options = ("--root", root, "--threads", "2", "--listen", f"127.0.0.1:{port}",
                   "--listen", f"unix:{path}")
        with open(os.path.join(root, "page"), "wb") as file:
            file.write(b"page")
        for _ in range(4):
            process = start(*options)
            with ended(process):
                serving_port(process)
                # A connection of each kind that the kill interrupts.
                with socket.create_connection(("127.0.0.1", port)) as idle, \
                        socket.socket(socket.AF_UNIX) as local:
                    idle.sendall(b"GET /page HTTP/1.1\r\n")
                    local.connect(path)
                    equal(ask(port), b"page")
                    process.kill()
                    process.wait(DEADLINE_SECONDS)
        process = start(*options)
        with ended(process):
            serving_port(process)
            process.terminate()
            equal(process.wait(DEADLINE_SECONDS), 0)
        assert not os.path.exists(path)


def test_permissions_and_owner_of_a_unix_socket():
    for mode in ("600", "660", "666"):
        with Server("--unix-mode", mode, "--metrics", "unix:FOLDER/metrics",
                    listen=("unix:FOLDER/socket", "127.0.0.1:0"), threads=2) as server:
            for name in ("socket", "metrics"):
                status = os.stat(os.path.join(server.folder.name, name))
                equal(oct(stat.S_IMODE(status.st_mode)), "0o" + mode)
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody").pw_uid  # 99 on some systems
        for owner, ids in (("65534", (65534, 65534)), ("65534:0", (65534, 0)), ("nobody", (nobody, None))):
            with Server("--unix-owner", owner, listen=("unix:FOLDER/socket", "127.0.0.1:0")) as server:
                status = os.stat(os.path.join(server.folder.name, "socket"))
                equal(status.st_uid, ids[0])
                assert ids[1] is None or status.st_gid == ids[1], (owner, status.st_gid)


def test_a_user_may_be_a_number():
    if os.getuid() != 0:
        print("  (not tried: not root)")
        return
    for user, uid, gid in (("65534", 65534, None), ("12345", 12345, 12345), ("12345:54321", 12345, 54321)):
        with Server("--user", user, files={"page": b"x"}, prepare=lambda it: os.chmod(it, 0o755)) as server:
            equal(server.ask("GET", "/page")[2], b"x")
            with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
                text = status.read()
            uids = re.search(r"Uid:\t(\d+)\t(\d+)\t(\d+)", text).groups()
            equal(uids, (str(uid),) * 3)
            if gid is not None:
                equal(re.search(r"Gid:\t(\d+)", text).group(1), str(gid))
                equal(re.search(r"Groups:\t(.*)", text).group(1).split(), [str(gid)])


def test_a_fifo_without_reader_delays_neither_start_nor_stop():
    with tempfile.TemporaryDirectory() as folder:
        fifo = os.path.join(folder, "log")
        os.mkfifo(fifo)
        with Server("--access-log", fifo, files={"page": b"x"}) as server:
            for _ in range(2000):  # more than a pipe holds
                with server.connect() as peer:
                    peer.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
                    peer.shutdown(socket.SHUT_WR)
                    receive_all(peer)
                    if _ == 50:
                        break
            begin = time.monotonic()
            server.process.terminate()
            equal(server.process.wait(DEADLINE_SECONDS), 0)
            assert time.monotonic() - begin < DEADLINE_SECONDS / 2
        # A reader that comes later gets lines.
        with Server("--access-log", fifo, files={"page": b"x"}) as server:
            server.ask("GET", "/page")
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            try:
                assert select.select([reader], [], [], DEADLINE_SECONDS)[0]
                assert b"GET /page" in os.read(reader, 10000)
            finally:
                os.close(reader)


def refuse_system_call(number, skip=0):
    """In the child: the system call fails with EPERM, by a seccomp filter."""
    program = b"".join(struct.pack("HBBI", *line) for line in (
        (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7fff0000)))
    code = ctypes.create_string_buffer(program)
    libc = ctypes.CDLL(None, use_errno=True)
    filter_program = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filter_program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def test_a_system_without_io_uring_is_an_error():
    for name, number in (("io_uring_setup", 425), ("io_uring_enter", 426), ("io_uring_register", 427)):
        process = start("--listen", "127.0.0.1:0", preexec_fn=lambda it=number: refuse_system_call(it))
        with ended(process):
            said = process.stderr.read()
            equal((name, process.wait(DEADLINE_SECONDS)), (name, 1))
            assert "io_uring" in said and "serving" not in said and said.count("\n") == 1, said
            assert name in said or name == "io_uring_setup", said


def test_serving_is_said_when_the_loops_accept():
    for _ in range(5):
        process = start("--threads", "4", "--listen", "127.0.0.1:0", "--root", "/usr/include")
        with ended(process):
            port = serving_port(process)
            equal(ask(port, "/does/not/exist")[:9], b"<!doctype")


def child_of(parent):
    """From the table of processes, as /proc/PID/task/TID/children is not in every kernel."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat_file:
            if int(stat_file.read().rsplit(")", 1)[1].split()[1]) == parent:
                return int(name)
    raise AssertionError(f"process {parent} has no child")


def test_process_one_stays_while_its_successor_serves():
    """In a container the end of process 1 is the end of all."""
    alone = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    try:
        subprocess.run([*alone, "true"], check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        print("  (not tried: no PID namespace is available)")
        return
    with tempfile.TemporaryDirectory() as root:
        with open(os.path.join(root, "page"), "wb") as file:
            file.write(b"page")
        outer = subprocess.Popen([*alone, HTTPD, "--root", root, "--listen", "127.0.0.1:0"],
                                 stderr=subprocess.PIPE, text=True)
        with ended(outer):
            port = serving_port(outer)
            first = child_of(outer.pid)
            for _ in range(3):  # the successor has a successor, and so on
                os.kill(first, signal.SIGUSR2)
                read_line(outer, "has taken over")
                equal(ask(port), b"page")
            assert outer.poll() is None
            os.kill(first, signal.SIGTERM)
            equal(outer.wait(DEADLINE_SECONDS), 0)


if __name__ == "__main__":
    main(globals())
