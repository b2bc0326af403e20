#!/usr/bin/env python3
"""The process has no descriptor left."""
import contextlib
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from hostile_fixture import (FULL, NothingLeftBehind, Probe, receive_answer, request, Server,
                             wait_for, main)


def test_descriptors_run_out():
    """Idle clients, and files, in the number of the descriptors and more."""
    limit = 128
    statuses = {200, 503, "closed"}  # accepted; server full; closed
    with Server("--idle-timeout", "600", descriptors=limit) as server:
        for number in range(limit):
            server.put(f"file-{number}", b"%d" % number)
        with server.connect() as asking:  # as many files as there are descriptors, and then as
            for number in range(limit):   # many clients
                asking.sendall(request(f"/file-{number}"))
                status, _, body = receive_answer(asking)
                assert (status, body) == (200, b"%d" % number), (number, status, body)
        left = NothingLeftBehind(server)
        for _ in range(10 if FULL else 2):
            with Probe(server, new_ones=False) as probe, contextlib.ExitStack() as stack:
                wait_for(lambda it=probe: it.count > 0 or it.failure, "no probe")
                peers = [stack.enter_context(server.connect()) for _ in range(2 * limit)]
                for peer in peers:
                    with contextlib.suppress(ConnectionError):
                        peer.sendall(request("/small.txt"))
                answers = {}
                for peer in peers:
                    try:
                        status = receive_answer(peer)[0]
                    except ConnectionError:
                        status = "closed"
                    answers[status] = answers.get(status, 0) + 1
                assert set(answers) <= statuses and answers.get(200, 0) >= 32, answers
                # Those who are in are served on, a file that is not cached too.
                for number, peer in enumerate(peers[:20]):
                    peer.sendall(request(f"/file-{number}"))
                    status, _, body = receive_answer(peer)
                    assert (status, body) == (200, b"%d" % number), (status, body)
                begin, spent = time.monotonic(), server.cpu_seconds()
                time.sleep(0.5)
                spent, begin = server.cpu_seconds() - spent, time.monotonic() - begin
                assert spent < begin / 2, f"{spent} s of CPU time in {begin:.1f} s"
            # They have disconnected, but the server may not have received that, and be full still.
            wait_for(lambda: server.metrics()["httpd_connections"] == 0, "connections are still open")
            with Probe(server):
                time.sleep(0.2)
            left.round_is_over()
        print(f"  {limit} descriptors: {answers}, {spent:.2f} s of CPU time in {begin:.1f} s; "
              f"{left.words()}")


if __name__ == "__main__":
    main(globals())
