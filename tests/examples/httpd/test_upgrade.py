#!/usr/bin/env python3
"""SIGUSR2: a new process takes over the listening sockets."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, HTTPD, HUGE, receive_all, receive_some,
                     wait_for, main)
from operations_fixture import has_ended, listening, Load, ONE, SECOND, Server, TWO


def test_a_successor_takes_over_and_no_request_fails():
    with Server(ONE, files={"one/huge": HUGE}) as server, Load(server) as load:
        sockets = server.sockets_at(server.port)
        for _ in range(3):
            with server.connect() as busy:
                busy.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                head = receive_some(busy, lambda received: b"\r\n\r\n" in received)
                before = server.pid
                server.hand_over()
                assert server.pid != before
                load.goes_on()
                equal(head.split(b"\r\n\r\n", 1)[1] + receive_all(busy), HUGE)
            server.has_sockets(sockets)
            # Without a signal, long before the drain time: it ends its connections.
            wait_for(lambda: has_ended(before), "the end of the one before")
        equal(server.process.wait(DEADLINE_SECONDS), 0)
        load.goes_on()
    equal(load.failures, [])


def test_a_successor_may_be_asked_for_before_all_loops_serve():
    with Server(ONE.replace("threads = 2", "threads = 32")) as server:
        server.configure(ONE)
        before = server.pid
        server.hand_over()
        wait_for(lambda: has_ended(before), "the end of the one before")
        equal(server.ask("/page")[2], b"one")


def test_connections_made_while_a_process_ends_are_answered():
    """The kernel may have queued a connection for the process that ends, which then answers it."""
    waiting_max = 1000

    def answered(peer):
        with peer:
            peer.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert receive_all(peer).endswith(b"\r\n\r\none")

    with Server(ONE) as server, contextlib.ExitStack() as stack:
        processes = [server.pid]
        for _ in range(5):
            waiting = [stack.enter_context(server.connect()) for _ in range(100)]
            os.kill(server.pid, signal.SIGUSR2)
            end = time.monotonic() + DEADLINE_SECONDS
            while not server.has_said("has taken over"):
                assert time.monotonic() < end, server.lines
                waiting += [stack.enter_context(server.connect()) for _ in range(20)]
                while len(waiting) > waiting_max:
                    answered(waiting.pop(0))
            server.pid = int(server.says(r"process (\d+) has taken over").group(1))
            processes.append(server.pid)
            waiting += [stack.enter_context(server.connect()) for _ in range(100)]
            for peer in waiting:
                answered(peer)
        for pid in processes[:-1]:
            wait_for(lambda gone=pid: has_ended(gone), "the end of those before")


def test_a_successor_has_the_new_configuration_and_all_addresses():
    with Server(ONE + "metrics = unix:FOLDER/metrics\n") as server:
        text = TWO.replace("threads = 2", "threads = 3") + "metrics = unix:FOLDER/metrics\n"
        text = listening(SECOND + ":0", "unix:FOLDER/sock", base=text)
        second = None
        for threads in (3, 1, 2):
            server.configure(text.replace("threads = 3", f"threads = {threads}"))
            before = server.pid
            os.kill(server.pid, signal.SIGUSR2)
            if not second:  # those that follow inherit it
                second = SECOND, server.serves_at(SECOND)
            server.pid = int(server.says(r"process (\d+) has taken over").group(1))
            # The previous process may still have received the first connections.
            wait_for(lambda: server.ask("/page")[2] == b"two", "the new root")
            wait_for(lambda: has_ended(before), "the end of the one before")
            for _ in range(12):
                equal(server.ask("/page")[2], b"two")
                equal(server.ask("/page", second)[2], b"two")
            for name, words in (("metrics", b"httpd_requests_total"), ("sock", b" 404 ")):
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(DEADLINE_SECONDS)
                    peer.connect(server.path(name))
                    peer.sendall(b"GET /-/metrics HTTP/1.1\r\nHost: x\r\n"
                                 b"Connection: close\r\n\r\n")
                    assert words in receive_all(peer)
        server.end_successor()
        assert not os.path.exists(server.path("sock"))
        assert not os.path.exists(server.path("metrics"))


def test_a_successor_that_fails_leaves_the_old_process_in_place():
    text = ONE.replace("127.0.0.1:0", '["127.0.0.1:0", "unix:FOLDER/sock"]')
    with tempfile.TemporaryDirectory(prefix="httpd-test-") as folder:
        program = os.path.join(folder, "httpd")

        def install(content):
            """As a package does: the running program keeps its file."""
            with open(program + ".new", "wb") as file:
                file.write(content)
            os.chmod(program + ".new", 0o755)
            os.rename(program + ".new", program)

        with open(HTTPD, "rb") as file:
            good = file.read()
        install(good)
        # A copy does not find a library in the folder of the original.
        environment = {"LD_LIBRARY_PATH": library_folder(HTTPD)}
        os.environ.update(environment)
        with Server(text, program=program) as server, Load(server) as load:
            sockets = server.sockets_at(server.port)
            for content, says in (
                    (b"#!/bin/sh\nexit 3\n", "process .* ended with status 3; .* keeps serving"),
                    (b"#!/bin/sh\nkill -SEGV $$\n", "process .* ended by signal 11; .* keeps serving"),
                    (b"neither\0program\nnor script", "upgrade failed: .* keeps serving"),
                    (None, "upgrade failed: .*httpd.*; this process keeps serving"),
                    (good, "conf:1: root = .*/none: No such file")):
                if content is None:
                    os.remove(program)
                else:
                    install(content)
                if content == good:
                    server.configure(text.replace("/one", "/none"))
                os.kill(server.pid, signal.SIGUSR2)
                server.says(says)
                load.goes_on()
                server.has_sockets(sockets)
                assert os.path.exists(server.path("sock"))
            server.says("ended with status 1; .* keeps serving")
            server.reload(text)
            # A program that never begins to serve: SIGTERM does not wait for it.
            install(b"#!/bin/sh\nexec sleep 600\n")
            os.kill(server.pid, signal.SIGUSR2)
            stuck = int(server.says(r"process (\d+) is to take over").group(1))
            os.kill(server.pid, signal.SIGUSR2)
            server.says("about to take over already")
            server.reload(says="stays as it was: another process is about to take over")
            load.goes_on()
        wait_for(lambda: has_ended(stuck), "the end of what never began")
        for name in environment:
            del os.environ[name]
    equal(load.failures, [])


def library_folder(program):
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    found = re.search(r"libkevring\S* => (\S+)/", linked)
    return found.group(1) if found else ""


def test_the_service_manager_hears_how_it_goes():
    with tempfile.TemporaryDirectory(prefix="httpd-test-") as folder, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(folder, "notify"))
        manager.settimeout(DEADLINE_SECONDS)
        os.environ["NOTIFY_SOCKET"] = os.path.join(folder, "notify")
        try:
            with Server(ONE) as server:
                equal(manager.recv(1000), b"READY=1")
                server.reload()
                received = [manager.recv(1000), manager.recv(1000)]
                assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", received[0]), received
                equal(received[1], b"READY=1")
                server.hand_over()
                received = [manager.recv(1000), manager.recv(1000)]
                equal(sorted(received), [b"MAINPID=%d" % server.pid, b"READY=1"])
                os.kill(server.pid, signal.SIGTERM)
                equal(manager.recv(1000), b"STOPPING=1")
        finally:
            del os.environ["NOTIFY_SOCKET"]


if __name__ == "__main__":
    main(globals())
