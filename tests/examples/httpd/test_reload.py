#!/usr/bin/env python3
"""SIGHUP: a reload changes the configuration and loses no request."""
import contextlib
import os
import signal
import socket
import sys

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, HUGE, receive_all, receive_some, wait_for, main)
from operations_fixture import ask, listening, Load, ONE, refused, SECOND, Server, THIRD, TWO, without


def test_a_reload_changes_the_content_and_the_options():
    with Server(ONE, files={"sorry": b"<p>sorry"}) as server:
        with contextlib.closing(server.client()) as stays:
            equal(ask(stays, "/page")[2], b"one")
            server.reload(TWO + 'header = ["X-One: 1", "X-Two: 2"]\nerror-page = 404=FOLDER/sorry\n'
                          "directory-listing = true\n")
            wait_for(lambda: ask(stays, "/page")[2] == b"two", "the new root")
            status, headers, body = ask(stays, "/missing")
            equal((status, body, headers["x-two"]), (404, b"<p>sorry", "2"))
            assert b'href="./page"' in ask(stays, "/")[2]
            server.reload(ONE)
            wait_for(lambda: ask(stays, "/page")[2] == b"one", "the old root")
            status, headers, _ = ask(stays, "/")
            equal((status, headers.get("x-one")), (403, None))


def test_a_reload_without_a_change_reads_files_again():
    with Server(ONE + "error-page = 404=FOLDER/sorry\n", files={"sorry": b"<p>first"}) as server:
        equal(server.ask("/missing")[2], b"<p>first")
        server.write("sorry", b"<p>second")
        server.reload()
        wait_for(lambda: server.ask("/missing")[2] == b"<p>second", "the page as it is now")


def test_a_response_in_progress_keeps_its_configuration():
    files = {"one/huge": HUGE, "two/huge": b"short"}
    with Server(ONE, files=files) as server, server.connect() as busy:
        busy.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\nGET /page HTTP/1.1\r\nHost: x\r\n"
                     b"Connection: close\r\n\r\n")
        head = receive_some(busy, lambda received: b"\r\n\r\n" in received)
        server.reload(TWO + 'header = "X-Two: 2"\n')
        wait_for(lambda: all(server.ask("/page")[2] == b"two" for _ in range(8)), "the new root")
        first, second = (head.split(b"\r\n\r\n", 1)[1] + receive_all(busy)).split(b"HTTP/1.1 200")
        equal(first, HUGE)
        assert b"X-Two: 2\r\n" in second and second.endswith(b"two"), second


def test_a_wrong_configuration_is_refused_and_the_old_one_stays():
    with socket.create_server(("127.0.0.1", 0)) as taken, Server(ONE) as server:
        port = taken.getsockname()[1]
        before = server.sockets_at(server.port)
        wrong = {"no-such-option = 1": "no-such-option", "root = FOLDER/none": "/none",
                 "idle-timeout = soon": "idle-timeout", "header = nonsense": "nonsense",
                 "error-page = 404=FOLDER/none": "/none", "max-connections = -1": "max-connections",
                 "access-log = FOLDER/none/log": "/none/log",
                 f'listen = ["127.0.0.1:0", "127.0.0.1:{port}"]': str(port),
                 f"metrics = 127.0.0.1:{port}": str(port),
                 'listen = ["127.0.0.1:0", "unix:FOLDER/sock", "nonsense"]': "nonsense"}
        for line, word in wrong.items():
            said = server.reload(without(line.split()[0], TWO) + line, "stays as it was: (.*)")
            assert word in said.group(1), (line, said.group(1))
            equal(server.ask("/page")[2], b"one")
            assert not os.path.exists(server.path("sock"))
        os.remove(server.path("conf"))
        server.reload(says="stays as it was: .*conf")
        equal(server.ask("/page")[2], b"one")
        server.has_sockets(before)
        server.reload(TWO)
        wait_for(lambda: server.ask("/page")[2] == b"two", "the new root")


def test_listeners_come_and_go_and_those_that_stay_keep_their_sockets():
    with Server(listening(SECOND + ":0", "unix:FOLDER/sock")) as server:
        first = SECOND, server.serves_at(SECOND)
        before = server.sockets_at(server.port, first[1])
        assert os.path.exists(server.path("sock"))
        server.configure(listening(THIRD + ":0", "unix:FOLDER/sock"))
        os.kill(server.pid, signal.SIGHUP)
        second = THIRD, server.serves_at(THIRD)
        server.says("has been read again")
        equal(server.ask("/page", second)[2], b"one")
        wait_for(lambda: refused(server, first), "the end of a listener")
        equal(server.sockets_at(server.port, second[1])[server.port], before[server.port])
        assert os.path.exists(server.path("sock"))
        with contextlib.closing(server.client(second)) as stays:
            equal(ask(stays, "/page")[2], b"one")
            server.reload(ONE)
            wait_for(lambda: refused(server, second), "the end of a listener")
            equal(ask(stays, "/page")[2], b"one")  # a connection outlives its listener
        assert not os.path.exists(server.path("sock"))
        wait_for(lambda: server.sockets() == {server.port: before[server.port]}, "one listener")


def test_connections_in_the_backlog_of_a_closed_listener_are_answered():
    with Server(ONE) as server:
        for _ in range(10):
            server.configure(listening(SECOND + ":0"))
            os.kill(server.pid, signal.SIGHUP)
            where = SECOND, server.serves_at(SECOND)
            server.says("read again")
            waiting = [server.connect(where) for _ in range(50)]
            server.process.send_signal(signal.SIGSTOP)
            waiting += [server.connect(where) for _ in range(50)]  # the kernel takes these
            server.configure(ONE)
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGCONT)
            for peer in waiting:
                peer.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                assert receive_all(peer).endswith(b"\r\n\r\none")
                peer.close()
            server.says("read again")
            wait_for(lambda at=where: refused(server, at), "the end of the listener")


def test_reloads_under_load_lose_nothing():
    with Server(ONE) as server, Load(server) as load:
        for i in range(20):
            server.reload((TWO, ONE)[i % 2] + f'header = "X-Number: {i}"\n')
            load.goes_on()
        wait_for(lambda: server.ask("/page")[1].get("x-number") == "19", "the last configuration")
    equal(load.failures, [])


def test_reloads_leave_no_descriptors_behind():
    with Server(ONE + "access-log = FOLDER/log\nmetrics = unix:FOLDER/metrics\n") as server:
        def count():
            return len(os.listdir(f"/proc/{server.process.pid}/fd"))
        server.ask("/page")
        server.reload()
        wait_for(lambda: server.ask("/page")[0] == 200, "an answer")
        before = count()
        for _ in range(60):
            server.reload()
            server.ask("/page")
        # At either time each of the two loops may or may not have the file and a watch open: it may
        # receive the reload after the request.
        wait_for(lambda: count() <= before + 4, "descriptors of replaced configurations")


def test_logs_and_metrics_come_and_go():
    def logged(name, path):
        try:
            with open(server.path(name)) as log:
                return path in log.read()
        except FileNotFoundError:
            return False

    with Server(ONE) as server:
        server.reload(ONE + "access-log = FOLDER/a.log\nmetrics = unix:FOLDER/metrics\n")
        wait_for(lambda: server.ask("/first")[0] == 404 and logged("a.log", "/first"), "a log")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE_SECONDS)
            peer.connect(server.path("metrics"))
            peer.sendall(b"GET /-/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"httpd_requests_total" in receive_all(peer)
        server.reload(ONE + "access-log = FOLDER/b.log\naccess-log-format = json\n")
        wait_for(lambda: server.ask("/second")[0] == 404 and logged("b.log", '"GET /second '),
                 "the other log")
        assert not os.path.exists(server.path("metrics"))
        server.reload(ONE)
        wait_for(lambda: server.path("b.log") not in server.open_files(), "the end of the log")


def test_options_that_need_a_restart_are_reported():
    with Server(ONE) as server:
        server.reload(ONE.replace("threads = 2", "threads = 3"), "--threads.*until .* a restart")
        server.says("read again")


if __name__ == "__main__":
    main(globals())
