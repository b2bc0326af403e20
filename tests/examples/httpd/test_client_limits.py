#!/usr/bin/env python3
"""Clients that are slow, idle, too many or disconnect early."""
import contextlib
import os
import select
import socket
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, FILES, HUGE, LARGE, receive_all, receive_some,
                     Server, SMALL, wait_for, main)


def test_clients_that_go_away_leave_nothing_behind():
    with Server(files=FILES) as server:
        server.ask("GET", "/large.bin")
        server.ask("GET", "/small.txt")
        before = server.idle_descriptors()
        for i in range(200):
            peer = server.connect()
            peer.sendall((b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /la", b"")[i % 3])
            if i % 2:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
        equal(server.ask("GET", "/small.txt")[2], SMALL)  # it has accepted those before, too
        server.wait_for_idle(before, "clients that went away")


def test_slow_heads_and_idle_connections_end_in_time():
    with Server("--head-timeout", "0.2", files=FILES) as server, server.connect() as peer:
        peer.sendall(b"GET /sm")
        assert b" 408 " in receive_all(peer)
    with Server("--idle-timeout", "0.4", files=FILES) as server, server.connect() as peer:
        equal(receive_all(peer), b"")


def test_each_head_has_a_time_of_its_own():
    """Also one that begins with the last bytes of the request before it."""
    head_seconds = 1
    request = b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"
    with Server("--head-timeout", str(head_seconds), files=FILES) as server, \
            server.connect() as peer:
        peer.sendall(request[:9])
        began = last = time.monotonic()
        while time.monotonic() - began < 2 * head_seconds:
            time.sleep(head_seconds / 4)  # the client is slow, but within the time of each head
            peer.sendall(request[9:] + request[:9])
            received = receive_some(peer, lambda received: received.endswith(SMALL) or b" 408 " in received)
            pause, last = time.monotonic() - last, time.monotonic()
            if pause > head_seconds / 2:
                return  # the machine has delayed this client
            assert b" 408 " not in received, f"{last - began} s"


def test_a_client_may_be_slow_but_must_continue():
    """Each received byte extends its time, regardless of the length of the file."""
    step_seconds = 0.5
    with Server("--send-timeout", str(2 * step_seconds), "--min-send-rate", "20000",
                files={"huge.bin": HUGE}) as server:
        server.ask("HEAD", "/huge.bin")
        before = server.idle_descriptors()

        def begin():
            peer = server.connect()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            peer.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return peer

        def take_slowly():
            """Bytes taken until the server ended it, and the longest time without taking any."""
            began = last = time.monotonic()
            taken, longest = 0, 0.0
            with contextlib.suppress(ConnectionError), begin() as peer:
                while more := peer.recv(16384 if last - began < 5 * step_seconds else 1 << 20):
                    taken += len(more)
                    if last - began < 5 * step_seconds:  # the test is about this time
                        time.sleep(0.01)
                    longest = max(longest, time.monotonic() - last)
                    last = time.monotonic()
            return taken, max(longest, time.monotonic() - last)

        # A client that the machine delays by a step is too slow, and the server may close it.
        tries = []
        while not tries or tries[-1][0] <= len(HUGE) and len(tries) < 10:
            tries.append(take_slowly())
            assert tries[-1][0] > len(HUGE) or tries[-1][1] > step_seconds / 2, tries
        assert tries[-1][0] > len(HUGE), tries

        with begin() as stopped:
            equal(stopped.recv(5), b"HTTP/")  # it has been accepted, and takes nothing more
            server.wait_for_idle(before, "the one that takes nothing")


def test_a_unix_client_that_receives_nothing_is_ended():
    """The kernel does not count received bytes there, so the least rate determines the time."""
    with Server("--send-timeout", "0.6", "--min-send-rate", "1000000000",
                files={"huge.bin": HUGE, **FILES},
                listen=("127.0.0.1:0", "unix:FOLDER/http.sock")) as server:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE_SECONDS)
            peer.connect(os.path.join(server.folder.name, "http.sock"))
            peer.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            ended = select.poll()
            ended.register(peer, 0)
            equal(ended.poll(1000 * DEADLINE_SECONDS), [(peer.fileno(), select.POLLHUP)])
            assert len(receive_all(peer)) < len(HUGE)


def test_bytes_that_wait_in_a_unix_socket_have_their_time_too():
    """The rest of a file may be small, and the bytes that are queued before it many more."""
    step_seconds, rate, medium = 0.3, 100_000, LARGE[7:100_007]
    request = b"GET /medium.bin HTTP/1.1\r\nHost: x\r\n%s\r\n"
    count = 5  # more than the socket holds
    with Server("--send-timeout", str(2 * step_seconds), "--min-send-rate", str(rate),
                files={"medium.bin": medium},
                listen=("127.0.0.1:0", "unix:FOLDER/http.sock")) as server:
        server.ask("GET", "/medium.bin")

        def take_in_time():
            """The bodies, and by how much the client was late at most."""
            received, latest = b"", 0.0
            began = time.monotonic()
            with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(DEADLINE_SECONDS)
                peer.connect(os.path.join(server.folder.name, "http.sock"))
                peer.sendall(request % b"" * (count - 1) + request % b"Connection: close\r\n")
                more = True
                while more:
                    more = peer.recv(4096)
                    received += more
                    early = began + len(received) / (2 * rate) - time.monotonic()
                    latest = max(latest, -early)
                    time.sleep(max(0, early))  # the test is about the client's pace
            parts = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
            return [part.partition(b"\r\n\r\n")[2] for part in parts], latest

        # A client that the machine delays by a step is too slow, and the server may close it.
        for _ in range(10):
            bodies, latest = take_in_time()
            if bodies == [medium] * count:
                break
            assert latest > step_seconds / 2, latest
        equal(bodies, [medium] * count)


def test_slow_heads_delay_no_other_client():
    head_seconds = 2
    with Server("--head-timeout", str(head_seconds), files=FILES) as server:
        server.ask("GET", "/small.txt")
        before = server.idle_descriptors()
        slow = [server.connect() for _ in range(200)]
        began = time.monotonic()
        for byte in b"GET /sma":
            for peer in slow:
                with contextlib.suppress(ConnectionError):  # its time may be over by now
                    peer.sendall(bytes([byte]))
            equal(server.ask("GET", "/small.txt")[2], SMALL)
        in_time = time.monotonic() - began < head_seconds
        for peer in slow:
            # The kernel answers bytes for a closed connection by a reset, which may overtake the 408.
            with contextlib.nullcontext() if in_time else contextlib.suppress(ConnectionError):
                told = b" 408 " in receive_all(peer)
                assert told or not in_time
            peer.close()
        server.wait_for_idle(before, "slow heads")


def test_connections_beyond_the_limit_are_answered_503():
    with Server("--max-connections", "3", files=FILES) as server:
        held = [server.connect() for _ in range(3)]
        for peer in held:
            peer.sendall(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            receive_some(peer, lambda received: SMALL in received)
        for _ in range(5):
            received = server.raw(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 503 ") and b"Connection: close" in received, received
        for peer in held:
            peer.close()

        def served():
            return server.ask("GET", "/small.txt")[0] == 200
        wait_for(served, "room for a connection")


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection():
    with Server(files={"huge.bin": HUGE}) as server:
        with server.connect() as peer:
            peer.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            head = receive_some(peer, lambda received: b"\r\n\r\n" in received)
            os.truncate(os.path.join(server.root, "huge.bin"), 1000)
            rest = receive_all(peer)
        assert len(head) + len(rest) < len(HUGE)


if __name__ == "__main__":
    main(globals())
