#!/usr/bin/env python3
"""Downloads that the client aborts, in each way and at each step."""
import socket
import sys

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from hostile_fixture import (BODY, FULL, in_threads, NothingLeftBehind, Probe, receive_answer,
                             request, reset, Server, SOURCES, main)


def take_some(peer, count):
    while count > 0:
        more = peer.recv(min(count, 1 << 16))
        assert more, "the server ended a download"
        count -= len(more)


def abort_reset(peer):
    peer.sendall(request("/body"))
    take_some(peer, 10_000)
    reset(peer)


def abort_close(peer):
    peer.sendall(request("/body"))
    take_some(peer, 200_000)
    peer.shutdown(socket.SHUT_WR)  # a FIN first, and then the unread bytes cause a RST
    peer.close()


def abort_at_once(peer):
    peer.sendall(request("/body"))
    reset(peer)


def abort_within_head(peer):
    peer.sendall(request("/body")[:20])
    peer.close()


def abort_pipelined(peer):
    peer.sendall(request("/body") + request("/small.txt") * 20 + request("/body"))
    take_some(peer, len(BODY) + 2000)
    reset(peer)


def half_close(peer):
    """No abort: a client that has sent its last request still receives the response."""
    peer.sendall(request("/body"))
    peer.shutdown(socket.SHUT_WR)
    status, length, body = receive_answer(peer)
    assert (status, length) == (200, len(BODY)) and body == BODY
    assert peer.recv(1) == b""
ABORTS = (abort_reset, abort_close, abort_at_once, abort_within_head, abort_pipelined, half_close)


def abort_round(server, count):
    threads = 8

    def some(thread):
        for number in range(thread, count, threads):
            with server.connect(SOURCES[thread]) as peer:
                ABORTS[(number // threads) % len(ABORTS)](peer)

    in_threads([lambda it=thread: some(it) for thread in range(threads)])


def try_aborts(count, rounds, path=None):
    with Server(environment={"KEVRING_SEND_PATH": path} if path else None) as server:
        left = NothingLeftBehind(server)
        for _ in range(rounds):
            with Probe(server) as probe:
                abort_round(server, count)
            left.round_is_over()
            assert server.metrics()["httpd_connections_total"] <= 10 * (probe.count + count * 10)
        print(f"  {path or 'the path that it picks'}: {rounds} times {count} downloads; the slowest "
              f"probe {probe.slowest:.3f} s; {left.words()}")


def test_aborted_downloads():
    try_aborts(10_000 if FULL else 300, 3)


def test_aborted_downloads_by_each_path():
    for path in ("send", "sendfile", "read_send", "splice", "zero_copy"):
        try_aborts(2_000 if FULL else 60, 2, path)


if __name__ == "__main__":
    main(globals())
