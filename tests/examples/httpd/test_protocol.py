#!/usr/bin/env python3
"""HTTP/1.1 and 1.0: methods, framing, pipelining, conditions and ranges."""
import contextlib
import http.client
import mmap
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, FILES, LARGE, receive_all, receive_some, Server,
                     SMALL, wait_for, main)


def test_methods():
    with Server(files=FILES) as server:
        for method, wanted in (("POST", 405), ("PUT", 405), ("DELETE", 405), ("TRACE", 405),
                               ("BREW", 501)):
            equal(server.ask(method, "/small.txt")[0], wanted)
        status, headers, _ = server.ask("OPTIONS", "/small.txt")
        equal((status, headers["allow"]), (204, "GET, HEAD, OPTIONS"))
        assert b" 204 " in server.raw(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")


def test_bad_requests_get_their_status_and_an_end():
    cases = [(b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
             (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
             (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40_000 + b"\r\n\r\n", 431),
             (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400), (b"\x16\x03\x01\x02\x00\x01\x00", 400)]
    with Server(files=FILES) as server:
        for request, wanted in cases:
            received = server.raw(request)
            assert received.startswith(b"HTTP/1.1 %d " % wanted), (request[:60], received[:80])
            assert b"Connection: close\r\n" in received, received


def test_pipelined_requests_are_answered_in_order():
    request = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
    names = [b"small.txt", b"empty", b"missing", b"folder/"] * 30
    last = b"GET /small.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with Server(files=FILES) as server:
        received = server.raw(b"".join(request % name for name in names) + last)
        equal(received.count(b"HTTP/1.1 200 OK\r\n"), 91)
        equal(received.count(b"HTTP/1.1 404 "), 30)
        assert received.endswith(SMALL)


def test_requests_that_arrive_together_share_a_current_response():
    """A small file is read once for the requests of one loop iteration, and again for later ones."""
    get = b"GET /%s HTTP/1.%d\r\nHost: x\r\n%s\r\n"
    keep, close = b"Connection: keep-alive\r\n", b"Connection: close\r\n"
    # The requests that a client sends together, and the expected heads of its responses.
    kinds = [([b"page"], 1, b"", None),
             ([b"page"], 0, keep, b"keep-alive"),
             ([b"page", b"small.txt", b"page", b"page"], 1, b"", None),
             ([b"page", b"page", b"small.txt"], 1, b"", None),
             ([b"small.txt", b"page", b"medium", b"page"], 1, b"", None),
             ([b"page"], 1, close, b"close")]
    clients = [kind for kind in kinds for _ in range(6)]
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        path = os.path.join(server.root, "page")
        medium = LARGE[:100_000]
        with open(os.path.join(server.root, "medium"), "wb") as file:
            file.write(medium)
        asked = 0
        for i in range(24):
            content = b"version %02d" % i + b"." * (32 * 1024 - 10 if i % 2 else i // 8)
            with contextlib.ExitStack() as open_ones:
                if i == 0:
                    with open(path, "wb") as file:
                        file.write(content)
                    server.ask("GET", "/page")  # cached from now on
                peers = [open_ones.enter_context(server.connect()) for _ in clients]
                os.kill(server.process.pid, signal.SIGSTOP)
                if i % 8 < 4:  # in place
                    with open(path, "r+b") as file:
                        file.truncate(len(content))
                        with mmap.mmap(file.fileno(), len(content)) as memory:
                            memory[:] = content
                else:  # replaced
                    with open(path + ".new", "wb") as file:
                        file.write(content)
                    os.rename(path + ".new", path)
                for peer, (names, version, field, _) in zip(peers, clients):
                    peer.sendall(b"".join(get % (name, version, field) for name in names))
                os.kill(server.process.pid, signal.SIGCONT)
                for peer, (names, _, _, connection) in zip(peers, clients):
                    told = peer.makefile("rb")
                    for name in names:
                        equal(told.readline(), b"HTTP/1.1 200 OK\r\n")
                        fields = http.client.parse_headers(told)
                        wanted = {b"page": content, b"medium": medium}.get(name, SMALL)
                        equal(told.read(int(fields["Content-Length"])), wanted)
                        equal(fields["Connection"], connection and connection.decode())
                    asked += len(names)
                    if connection == b"close":
                        equal(told.read(), b"")
        wait_for(lambda: server.metrics()['httpd_requests_total{status="200"}'] == asked + 1,
                 "all are counted")
        # The kernel decides how many are received together.
        repeated = server.metrics()["httpd_shared_responses_total"]
        assert asked > repeated > 0, (asked, repeated)


def test_a_large_file_between_small_ones_keeps_its_place():
    with Server(files=FILES) as server:
        received = server.raw(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"
                           b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n"
                           b"GET /small.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        bodies = [part.split(b"\r\n\r\n", 1)[1] for part in received.split(b"HTTP/1.1 200 OK")[1:]]
        equal([len(body) for body in bodies], [len(SMALL), len(LARGE), len(SMALL)])
        equal(bodies[1], LARGE)


def test_files_that_a_socket_takes_in_parts_arrive_whole():
    """More bytes than the buffers between the two hold, to a client that begins to read late."""
    medium = LARGE[7:40_007]  # a socket takes more than one, however short of memory the machine is
    request = b"GET /medium.bin HTTP/1.1\r\nHost: x\r\n%s\r\n"
    count = 400
    with Server("--metrics", "unix:FOLDER/metrics", files={"medium.bin": medium}) as server:
        equal(server.ask("GET", "/medium.bin")[2], medium)
        with server.connect() as peer:
            peer.sendall(request % b"" * (count - 1) + request % b"Connection: close\r\n")
            stopped = 0

            def has_stopped():  # the server has filled the buffers between it and the client
                nonlocal stopped
                before, stopped = stopped, server.metrics()["httpd_body_bytes_total"]
                return before == stopped > len(medium)

            wait_for(has_stopped, "the server waits for the client")
            received = receive_all(peer)
        parts = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
        equal(len(parts), count)
        for part in parts:
            equal(part.split(b"\r\n\r\n", 1)[1], medium)
        # A client may have the last byte of a response before the server has counted it.
        wait_for(lambda: server.metrics()['httpd_requests_total{status="200"}'] == count + 1,
                 "all are counted")
        metrics = server.metrics()
        equal(metrics["httpd_body_bytes_total"], (count + 1) * len(medium))
        by_path = [metrics[name] for name in metrics if name.startswith("httpd_file_bytes_total")]
        equal(sum(by_path), (count + 1) * len(medium))


def test_a_head_may_come_byte_by_byte():
    request = b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 2
    with Server(files=FILES) as server:
        received = server.raw(None, [request[i:i + 1] for i in range(len(request))])
        equal(received.count(SMALL), 2)


def test_http_1_0_closes_unless_asked_otherwise():
    with Server(files=FILES) as server:
        received = server.raw(b"GET /small.txt HTTP/1.0\r\n\r\nGET /small.txt HTTP/1.0\r\n\r\n")
        equal(received.count(SMALL), 1)
        received = server.raw(b"GET /small.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
        equal(received.count(SMALL), 2)
        assert b"Connection: keep-alive\r\n" in received


def test_a_connection_with_one_request_is_closed_after_the_whole_response():
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        for name, body in (("small.txt", SMALL), ("missing", None)):
            for method in ("GET", "HEAD"):
                for rest in (" HTTP/1.0\r\n\r\n", " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
                    with server.connect() as peer:
                        peer.sendall(f"{method} /{name}{rest}".encode())
                        wait_for(lambda: select.select([peer], [], [], 0)[0]
                                 and server.metrics()["httpd_connections"] == 0, "it closes the connection")
                        head, received = receive_all(peer).split(b"\r\n\r\n", 1)
                    length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
                    equal(len(received), length if method == "GET" else 0)
                    if method == "GET" and body is not None:
                        equal(received, body)


def test_a_line_end_too_many_takes_nothing_away():
    medium = LARGE[7:200_007]
    with Server("--metrics", "unix:FOLDER/metrics", files={"medium.bin": medium}) as server, \
            server.connect() as peer:
        peer.sendall(b"GET /medium.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""

        def has_answered():  # a socket that is short of memory takes it only while this client reads
            nonlocal received
            answered = server.metrics().get('httpd_requests_total{status="200"}')
            if not answered and select.select([peer], [], [], 0)[0]:
                received += peer.recv(10_000)
            return answered

        wait_for(has_answered, "it answers")
        peer.sendall(b"\r\n")
        received += receive_all(peer)
        equal(received.split(b"\r\n\r\n", 1)[1], medium)


def test_a_client_that_sends_unannounced_bytes_gets_its_response():
    """A body without a length is no part of the request, but arrives: no reset discards the answer."""
    page = tempfile.NamedTemporaryFile()
    page.write(LARGE[:16_000])
    page.flush()
    with Server("--metrics", "unix:FOLDER/metrics", "--error-page", f"405={page.name}",
                files=FILES) as server:
        def answered():
            return server.metrics().get('httpd_requests_total{status="405"}', 0)

        for tries in range(10):
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the answer waits at the server
                peer.settimeout(DEADLINE_SECONDS)
                peer.connect(("127.0.0.1", server.port))
                began = time.monotonic()
                peer.sendall(b"POST / HTTP/1.0\r\n\r\n")
                for _ in range(2):  # and another loop iteration, in which it may close
                    wait_for(lambda: answered() > tries, "it answers")
                peer.sendall(b"a=1&b=2")
                if time.monotonic() - began > 1.5:
                    continue  # it lingers for 2 s only, and the machine has delayed this client
                received = receive_all(peer)
                assert received.endswith(LARGE[:16_000]), len(received)
                break
    page.close()


def test_bodies_are_read_over():
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    counted = b"Content-Length: 5\r\n\r\n12345"
    then = b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n"
    with Server("--max-body", "1000", files=FILES) as server:
        for body in (chunked, counted):
            request = b"POST / HTTP/1.1\r\nHost: x\r\n" + body + then
            for pieces in ([request], [request[i:i + 1] for i in range(len(request))]):
                received = server.raw(None, pieces)
                assert b" 405 " in received and received.endswith(SMALL), received
        large = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"
        assert server.raw(large).startswith(b"HTTP/1.1 413 ")
        bad = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        assert server.raw(bad).startswith(b"HTTP/1.1 400 ")


def test_expectations():
    head = b"GET /small.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: %s\r\n\r\n"
    with Server(files=FILES) as server:
        with server.connect() as peer:
            peer.sendall(head % b"100-continue")
            receive_some(peer, lambda received: received == b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.sendall(b"abc")
            receive_some(peer, lambda received: received.endswith(SMALL))
        assert server.raw(head % b"miracles" + b"abc").startswith(b"HTTP/1.1 417 ")


def test_content_that_the_client_has_is_not_sent_again():
    with Server(files=FILES) as server:
        path = os.path.join(server.root, "small.txt")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        headers = server.ask("GET", "/small.txt")[1]
        tag, date = headers["etag"], headers["last-modified"]
        for condition in ({"If-None-Match": tag}, {"If-None-Match": '"x", ' + tag},
                          {"If-None-Match": "W/" + tag}, {"If-Modified-Since": date},
                          {"If-None-Match": "*"}):
            status, headers, body = server.ask("GET", "/small.txt", condition)
            equal((status, body, headers["etag"]), (304, b"", tag))
            assert "content-length" not in headers
        for condition in ({"If-None-Match": '"other"'},
                          {"If-None-Match": '"other"', "If-Modified-Since": date},
                          {"If-Modified-Since": "Thu, 01 Jan 1998 00:00:00 GMT"},
                          {"If-Match": tag}):
            equal(server.ask("GET", "/small.txt", condition)[0], 200)
        equal(server.ask("GET", "/small.txt", {"If-Match": '"other"'})[0], 412)


def test_ranges():
    with Server(files=FILES) as server:
        os.utime(os.path.join(server.root, "large.bin"), (1_000_000_000, 1_000_000_000))
        tag = server.ask("HEAD", "/large.bin")[1]["etag"]
        size = len(LARGE)
        for value, first, last in (("bytes=0-0", 0, 0), ("bytes=-7", size - 7, size - 1),
                                   (f"bytes={size - 5}-", size - 5, size - 1),
                                   ("bytes=1000-3000999", 1000, 3000999)):
            status, headers, body = server.ask("GET", "/large.bin", {"Range": value})
            equal((status, headers["content-range"]), (206, f"bytes {first}-{last}/{size}"))
            equal(body, LARGE[first:last + 1])
        status, headers, _ = server.ask("GET", "/large.bin", {"Range": f"bytes={size}-"})
        equal((status, headers["content-range"]), (416, f"bytes */{size}"))
        for ignored in ({"Range": "lines=1-2"}, {"Range": "bytes=5-1"},
                        {"Range": "bytes=0-1", "If-Range": '"other"'}):
            equal(server.ask("GET", "/small.txt", ignored)[0], 200)
        equal(server.ask("GET", "/large.bin", {"Range": "bytes=0-1", "If-Range": tag})[0], 206)


def test_several_ranges_are_a_multipart_body():
    with Server(files=FILES) as server:
        asked = {"Range": "bytes=0-9,1000000-1300000,-3"}
        status, headers, body = server.ask("GET", "/large.bin", asked)
        equal(status, 206)
        boundary = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", headers["content-type"])
        parts = body.split(b"--" + boundary.group(1).encode())
        equal([part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts[1:-1]],
              [LARGE[:10], LARGE[1_000_000:1_300_001], LARGE[-3:]])
        equal(parts[-1], b"--\r\n")


if __name__ == "__main__":
    main(globals())
