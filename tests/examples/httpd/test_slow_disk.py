#!/usr/bin/env python3
"""A disk that is slow, and files that are not in the page cache."""
import contextlib
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from hostile_fixture import (DEADLINE_SECONDS, FULL, in_threads, NothingLeftBehind, Probe,
                             receive_answer, request, reset, Server, SOURCES, wait_for, main)
import slow_disk


@contextlib.contextmanager
def slow_folder(server, seconds):
    folder = os.path.join(server.root, "slow")
    os.mkdir(folder)
    disk = subprocess.Popen([sys.executable, slow_disk.__file__, folder, str(seconds)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield disk.stdout.readline().strip()
    finally:
        disk.stdin.close()
        disk.wait(DEADLINE_SECONDS)
        disk.stdout.close()


def test_slow_disk():
    """Each lookup of a name, and each read, takes a tenth of a second and more."""
    size, clients, rounds = (1_000_000, 64, 4) if FULL else (300_000, 12, 2)
    answered_at = []
    with Server() as server, slow_folder(server, 0.3 if FULL else 0.1) as outcome:
        if outcome != "mounted":
            print(f"  (not tried: {outcome})")
            return
        for number in range(rounds):
            def download(client, round_number=number):
                with server.connect(SOURCES[client % 8]) as peer:
                    name = round_number * clients + client
                    aborted = client % 4 == 3
                    peer.sendall(request(f"/slow/{name}.{size}", "Connection: close"))
                    begin = time.monotonic()
                    if aborted:
                        peer.settimeout(0.05 * (client % 8))
                        with contextlib.suppress(TimeoutError):
                            peer.recv(1000)
                        reset(peer)
                        return
                    status, length, body = receive_answer(peer)
                    assert (status, length) == (200, size), (status, length)
                    assert body == slow_disk.content(0, size), "wrong bytes"
                    answered_at.append(time.monotonic() - begin)

            with Probe(server) as probe:
                in_threads([lambda it=client: download(it) for client in range(clients)])
            # Connections are closed; the files of the slow disk stay in the cache.
            wait_for(lambda: server.metrics()["httpd_connections"] == 0, "connections stay open")
        counts, lost = server.descriptor_kinds()
        assert counts["file"] <= clients * rounds + 32 and not lost, (counts, lost)
        print(f"  {clients} downloads at a time took {max(answered_at):.1f} s at most; the slowest "
              f"probe {probe.slowest:.3f} s; {server.memory_kib()} KiB")


def test_cold_files():
    """The disk of this machine, and files that are not in memory."""
    size, clients, rounds = (16 << 20, 16, 4) if FULL else (2 << 20, 8, 2)
    content = os.urandom(size)
    with Server() as server:
        for client in range(clients):
            server.put(f"cold-{client}", content)
        os.sync()
        left = NothingLeftBehind(server)
        for _ in range(rounds):
            cold = 0
            for client in range(clients):
                with open(os.path.join(server.root, f"cold-{client}"), "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    with contextlib.suppress(OSError):
                        # A page that is not in memory cannot be read without waiting.
                        os.preadv(file.fileno(), [bytearray(1)], size // 2, os.RWF_NOWAIT)
                        cold -= 1
                    cold += 1

            def download(client):
                with server.connect(SOURCES[client % 8]) as peer:
                    peer.sendall(request(f"/cold-{client}"))
                    status, _, body = receive_answer(peer)
                    assert status == 200 and body == content

            with Probe(server) as probe:
                in_threads([lambda it=client: download(it) for client in range(clients)])
            left.round_is_over()
        print(f"  {cold} of {clients} files were cold; the slowest probe {probe.slowest:.3f} s; "
              f"{left.words()}")


if __name__ == "__main__":
    main(globals())
