#!/usr/bin/env python3
"""A file that grows while it is sent is sent as promised; any other change ends the connection."""
import os
import re
import sys
import threading

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, HUGE, receive_some, Server, main

LINE = b"2026-01-01 a line of a log\n"


def download(server, change):
    """Asks for a file that does not fit into the socket's buffers, changes it, and receives the
    rest: the promised length, and the bytes."""
    with server.connect() as peer:
        peer.settimeout(DEADLINE_SECONDS)
        peer.sendall(b"GET /log HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = receive_some(peer, lambda text: b"\r\n\r\n" in text)
        head, body = received.split(b"\r\n\r\n", 1)
        change()
        parts = [body]
        try:
            while more := peer.recv(1 << 20):
                parts.append(more)
        except ConnectionResetError:
            pass
    length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
    return length, b"".join(parts)


def test_a_log_that_grows_is_sent_as_promised():
    for options in ((), ("--force-copy",)):
        with Server(*options, files={"log": HUGE}) as server:
            path = os.path.join(server.root, "log")

            def grow():
                with open(path, "ab") as log:
                    log.write(LINE * 1000)

            length, body = download(server, grow)
            equal(length, len(HUGE))
            equal(len(body), length)
            assert body == HUGE
            # The next request gets the file as it is now.
            length, body = download(server, lambda: None)
            equal(length, len(HUGE) + 1000 * len(LINE))
            assert body == HUGE + LINE * 1000


def test_a_log_that_grows_all_the_time_is_sent_as_promised():
    with Server(files={"log": HUGE}) as server:
        path = os.path.join(server.root, "log")
        stopped = threading.Event()

        def write_on():
            with open(path, "ab", buffering=0) as log:
                while not stopped.is_set():
                    log.write(LINE)

        writer = threading.Thread(target=write_on)
        writer.start()
        try:
            for _ in range(3):
                length, body = download(server, lambda: None)
                equal(len(body), length)
                assert body.startswith(HUGE) and body[len(HUGE):] == (
                    LINE * (len(body) // len(LINE) + 1))[:len(body) - len(HUGE)]
        finally:
            stopped.set()
            writer.join()


def test_a_file_that_changes_without_growing_ends_the_connection():
    def cut(path):
        os.truncate(path, 1000)

    def overwrite(path):
        with open(path, "r+b") as file:
            file.write(b"other" * 1000)

    # Pages of the file that are queued in a socket may still change, but not with --force-copy.
    for change, options in ((cut, ()), (overwrite, ()), (cut, ("--force-copy",)),
                            (overwrite, ("--force-copy",))):
        with Server(*options, files={"log": HUGE}) as server:
            path = os.path.join(server.root, "log")
            length, body = download(server, lambda it=change: it(path))
            equal(length, len(HUGE))
            assert len(body) < length, (change.__name__, len(body))
            assert not options or HUGE.startswith(body), change.__name__


if __name__ == "__main__":
    main(globals())
