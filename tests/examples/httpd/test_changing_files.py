#!/usr/bin/env python3
"""Files that are replaced, cut and written to while they are sent."""
import os
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from hostile_fixture import (FULL, in_threads, NothingLeftBehind, Probe, receive_answer, request,
                             Server, SOURCES, main)


def try_changes(by_copy):
    sizes = {"tiny": 300, "small": 20_000, "large": 3_000_000}
    seconds = 20 if FULL else 1
    letters = b"abcd"
    with Server(*(["--force-copy"] if by_copy else [])) as server:
        for name, size in sizes.items():
            server.put("swapped-" + name, letters[:1] * size)
            server.put("cut-" + name, letters[:1] * size)
        left = NothingLeftBehind(server)
        counts = {"whole": 0, "short": 0, "unread": 0, "cleared": 0, "copied": 0}
        for _ in range(3 if FULL else 2):
            end = time.monotonic() + seconds

            def change(end=end):
                turn = 0
                while time.monotonic() < end:
                    turn += 1
                    letter = letters[turn % 4:turn % 4 + 1]
                    for name, size in sizes.items():
                        server.put("swapped-" + name, letter * (size + turn % 3))
                        path = os.path.join(server.root, "cut-" + name)
                        os.truncate(path, size // 2)
                        time.sleep(0.005)
                        server.put("cut-" + name, letter * size)

            def download(thread, end=end):
                peer = None
                turn = thread
                while time.monotonic() < end:
                    turn += 1
                    name = ("swapped-", "cut-")[turn % 2] + list(sizes)[turn % 3]
                    try:
                        peer = peer or server.connect(SOURCES[thread])
                        peer.sendall(request("/" + name))
                        status, length, body = receive_answer(peer)
                    except ConnectionError:
                        # Within a head: the file was cut before its first byte was read.
                        assert name.startswith("cut-"), name
                        counts["unread"] += 1
                        peer.close()
                        peer = None
                        continue
                    assert status == 200, (name, status)
                    complete = len(body) == length
                    kind = name.removeprefix("cut-")
                    if kind != name and b"\0" in body[sizes[kind] // 2:]:
                        # The kernel clears what it cuts off, also where it has been sent by
                        # reference and the client has not taken it yet, and, in rare cases, while
                        # it is being copied.
                        counts["cleared"] += 1
                        body = body[:sizes[kind] // 2] + body[sizes[kind] // 2:].replace(b"\0", b"")
                        counts["copied"] += by_copy or kind != "large"
                    uniform = body.count(body[:1]) == len(body) if body else True
                    assert uniform, f"{name}: a mixture of {set(body)}"
                    counts["whole" if complete else "short"] += 1
                    if not complete:
                        assert name.startswith("cut-"), name
                        peer.close()
                        peer = None
                if peer:
                    peer.close()

            with Probe(server) as probe:
                in_threads([change, *(lambda it=thread: download(it) for thread in range(6))])
            left.round_is_over()
        assert counts["copied"] <= 2 + counts["whole"] // 1000, counts
        print(f"  {'by copy, ' if by_copy else ''}{counts}; the slowest probe {probe.slowest:.3f} "
              f"s; {left.words()}")


def test_files_replaced_and_cut_under_load():
    """An answer has the bytes of one file or the other; where a file was cut, it ends early."""
    for by_copy in (False, True):
        try_changes(by_copy)


if __name__ == "__main__":
    main(globals())
