#!/usr/bin/env python3
"""Options, sockets, rights and signals of one process."""
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, FILES, HTTPD, HUGE, receive_all, receive_some,
                     Server, SMALL, wait_for, main)


def test_sigterm_finishes_the_current_responses():
    with Server("--drain-timeout", "600", files={**FILES, "huge.bin": HUGE}, threads=2) as server:
        with server.connect() as busy, server.connect() as idle:
            idle.sendall(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            receive_some(idle, lambda received: SMALL in received)
            busy.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            head = receive_some(busy, lambda received: b"\r\n\r\n" in received)
            server.process.send_signal(signal.SIGTERM)
            equal(receive_all(idle), b"")
            body = head.split(b"\r\n\r\n", 1)[1] + receive_all(busy)
            equal(body, HUGE)
        equal(server.process.wait(DEADLINE_SECONDS), 0)


def test_sigint_ends_an_idle_server_at_once():
    with Server(files=FILES) as server:
        server.process.send_signal(signal.SIGINT)
        equal(server.process.wait(DEADLINE_SECONDS), 0)


def test_a_second_signal_does_not_wait():
    with Server("--drain-timeout", "3600", files={"huge.bin": HUGE}) as server:
        with server.connect() as busy:
            busy.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            receive_some(busy, lambda received: b"\r\n\r\n" in received)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refused(server), "the server stops listening")
            equal(server.process.poll(), None)
            server.process.send_signal(signal.SIGTERM)
            equal(server.process.wait(DEADLINE_SECONDS), 0)


def test_a_restart_right_after_a_kill_gets_the_addresses():
    """The kernel closes the sockets of the killed process a moment after its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "http.sock")
        port = 0
        for _ in range(6):
            process = subprocess.Popen(
                [HTTPD, "--root", folder, "--threads", "1", "--listen", f"127.0.0.1:{port}",
                 "--listen", f"unix:{path}"], stderr=subprocess.PIPE, text=True)
            said = []
            while len([line for line in said if " serving " in line]) < 2:
                said.append(process.stderr.readline())
                assert said[-1], said
            port = int(re.search(r"at http://127.0.0.1:(\d+)$", "".join(said), re.M).group(1))
            with socket.create_connection(("127.0.0.1", port)), socket.socket(socket.AF_UNIX) as peer:
                peer.connect(path)
            process.kill()
            process.wait(DEADLINE_SECONDS)
            process.stderr.close()


def refused(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # taken by the kernel at the last moment before the listener went
        return False
    return False


def test_several_listeners_and_unix_sockets():
    with Server(files=FILES, listen=("127.0.0.1:0", "unix:FOLDER/http.sock"), threads=2) as server:
        equal(server.ask("GET", "/small.txt")[2], SMALL)
        path = os.path.join(server.folder.name, "http.sock")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE_SECONDS)
            peer.connect(path)
            peer.sendall(b"GET /small.txt HTTP/1.0\r\n\r\n")
            assert receive_all(peer).endswith(SMALL)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(DEADLINE_SECONDS)
        assert not os.path.exists(path)


def test_sockets_of_systemd_are_served():
    """As with sd_listen_fds(3): from descriptor 3 on, for the process that LISTEN_PID names."""
    with socket.create_server(("127.0.0.1", 0)) as listening, \
            tempfile.TemporaryDirectory(prefix="httpd-test-") as root:
        with open(os.path.join(root, "small.txt"), "wb") as file:
            file.write(SMALL)
        start = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_FDS'] = '1'; "
                 "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])")
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(listening.fileno()), HTTPD, "--root", root,
             "--threads", "2"], pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True)
        try:
            port = listening.getsockname()[1]
            for _ in range(20):  # those that come before it has begun wait in the kernel
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
                connection.request("GET", "/small.txt")
                equal(connection.getresponse().read(), SMALL)
                connection.close()
            process.send_signal(signal.SIGTERM)
            equal(process.wait(DEADLINE_SECONDS), 0)
            said = process.stderr.read()
            assert f":{port}\n" in said and ":8080" not in said, said
        finally:
            process.kill()
            process.stderr.close()


def test_roots_rights_are_given_up():
    done = subprocess.run([HTTPD, "--listen", "127.0.0.1:0", "--user", "no-such-user"],
                          capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    equal(done.returncode, 1)
    assert "no-such-user" in done.stderr, done.stderr
    if os.geteuid() != 0:
        print("  (not tried: only root can become another user)")
        return
    server = Server("--user", "nobody", files=FILES, threads=2)
    os.chmod(server.folder.name, 0o755)
    with server:
        equal(server.ask("GET", "/small.txt")[2], SMALL)
        os.chmod(os.path.join(server.root, "large.bin"), 0o600)
        equal(server.ask("GET", "/large.bin")[0], 403)
        for thread in os.listdir(f"/proc/{server.process.pid}/task"):
            with open(f"/proc/{server.process.pid}/task/{thread}/status") as status:
                said = status.read()
            uids = re.search(r"^Uid:\s+(.*)$", said, re.M).group(1).split()
            assert "0" not in uids, said
            groups = re.search(r"^Groups:(.*)$", said, re.M).group(1).split()
            assert "0" not in groups, said


def test_wrong_options_are_named():
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    anywhere = ["--listen", "127.0.0.1:0"]
    for options, word in (([*anywhere, "--root", "/does/not/exist"], "/does/not/exist"),
                          (["--listen", "nonsense"], "nonsense"),
                          (["--listen", f"127.0.0.1:{port}"], f"127.0.0.1:{port}"),
                          (["--no-such-option"], "no-such-option")):
        done = subprocess.run([HTTPD, *options], capture_output=True, text=True,
                              timeout=DEADLINE_SECONDS)
        assert done.returncode != 0
        assert word in done.stderr, done.stderr
    taken.close()


def test_help_and_version():
    for option, word in (("--help", "--listen"), ("--version", "kevring"), ("--describe", "kernel")):
        done = subprocess.run([HTTPD, option], capture_output=True, text=True,
                              timeout=DEADLINE_SECONDS)
        equal(done.returncode, 0)
        assert word in done.stdout, done.stdout


if __name__ == "__main__":
    main(globals())
