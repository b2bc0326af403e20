#!/usr/bin/env python3
"""Slow clients by the thousand, and clients that do not read."""
import contextlib
import select
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from hostile_fixture import (DEADLINE_SECONDS, FULL, NothingLeftBehind, POOL_KIB, Probe, request,
                             SANITIZED, Server, SOURCES, wait_for, main)


def slow_round(server, count, seconds):
    """One byte a second: of a head, of a request's body, or taken from a response."""
    heads_text = request("/small.txt", "X-Slow: " + "s" * 500)
    posted = request("/small.txt", "Content-Length: 5000").replace(b"GET", b"POST") + b"b" * 5000
    peers = {}
    told = closed = 0
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(contextlib.closing(select.epoll()))
        for number in range(count):
            taking = number % 3 == 2
            peer = server.connect(SOURCES[number % len(SOURCES)], window=2048 if taking else None)
            stack.callback(peer.close)
            peer.setblocking(False)
            if taking:
                peer.send(request("/body"))
            else:
                events.register(peer, select.EPOLLIN)
            # Most of the request is sent first; the last byte is never sent.
            sent = len(heads_text) - 100 if number % 3 == 0 else len(posted) - 1000
            text = heads_text if number % 3 == 0 else posted
            if not taking:
                peer.send(text[:sent])
            peers[peer.fileno()] = [peer, None if taking else text, sent]
        heads = {fd for fd, each in peers.items() if each[1] is heads_text}
        end = time.monotonic() + seconds
        last = end + DEADLINE_SECONDS  # for the end of those that are due, on a busy machine
        while time.monotonic() < end or (heads & peers.keys() and time.monotonic() < last):
            for peer, text, sent in list(peers.values()):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    if text is None:
                        peer.recv(1)
                    else:
                        peer.send(text[sent:sent + 1])
                        peers[peer.fileno()][2] += 1
            next_byte = min(max(end, time.monotonic() + 0.1), time.monotonic() + 1)
            while (wait := next_byte - time.monotonic()) > 0:
                for fd, _ in events.poll(wait, max(1, len(peers))):
                    try:
                        answer = peers[fd][0].recv(4096)
                    except ConnectionError:
                        answer = b""
                    if answer:
                        assert answer.startswith(b"HTTP/1.1 408 "), answer
                        told += 1
                    else:
                        closed += 1
                        events.unregister(fd)
                        peers.pop(fd)
        open_ones = server.metrics()["httpd_connections"]
    return told, closed, open_ones


def test_slow_clients():
    count, seconds, rounds = (2000, 25, 3) if FULL else (150, 2, 2)
    with Server("--head-timeout", str(seconds * 0.3), "--idle-timeout", "10") as server:
        left = NothingLeftBehind(server)
        for _ in range(rounds):
            before = server.metrics()["httpd_connections_total"]
            with Probe(server) as probe:
                told, closed, open_ones = slow_round(server, count, seconds)
            # Clients with a slow head are answered and closed; the others may continue for longer.
            heads = (count + 2) // 3
            assert told >= heads and closed >= heads, (told, closed)
            wait_for(lambda: server.metrics()["httpd_connections_total"] >= before + count,
                     "not all were served")
            left.round_is_over()
            print(f"  {count} clients: {told} told, {closed} let go, {open_ones:.0f} open at the "
                  f"end; the probe had {probe.count} answers, the slowest in {probe.slowest:.3f} s")
        print(" ", left.words())


def test_clients_that_send_requests_and_never_receive():
    """Their responses wait in the kernel, not in the server."""
    count, seconds, rounds = (500, 10, 3) if FULL else (50, 1, 2)
    asked = request("/small.txt") * 1000
    with Server() as server:
        left = NothingLeftBehind(server)
        for _ in range(rounds):
            before = server.memory_kib()
            sent = 0
            with Probe(server) as probe, contextlib.ExitStack() as stack:
                peers = [stack.enter_context(server.connect(SOURCES[number % 8], window=4096))
                         for number in range(count)]
                for peer in peers:
                    peer.sendall(request("/body"))
                    peer.setblocking(False)
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    for peer in peers:
                        with contextlib.suppress(BlockingIOError):
                            sent += peer.send(asked)
                    time.sleep(0.01)
                memory = server.memory_kib()
            # While the server has no CPU the kernel fills buffers, whose number is bounded.
            grown = memory - before
            assert SANITIZED or grown < POOL_KIB + 160 * count, f"{grown} KiB for {count} clients"
            left.round_is_over()
        print(f"  {count} clients asked with {sent / 1e6:.0f} MB at last, which took {grown / count:.0f} KiB "
              f"for each; the slowest probe {probe.slowest:.3f} s; {left.words()}")


if __name__ == "__main__":
    main(globals())
