#!/usr/bin/env python3
"""Every response has a Date and the configured field lines; Location never names another host."""
import re
import socket
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, LARGE, receive_all, receive_some, Server, main

FIELD = ("--header", "X-Everywhere: yes")
FILES = {"page": b"0123456789", "d/x": b"", "large": LARGE}


def check_head(head, status):
    first, *lines = head.decode().split("\r\n")
    equal(first.split(" ")[1], str(status))
    names = [line.split(":", 1)[0].lower() for line in lines]
    equal((head, names.count("date"), names.count("x-everywhere")), (head, 1, 1))
    return {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines}


def test_each_status_has_date_and_configured_lines():
    with Server(*FIELD, "--directory-listing", "--max-body", "10", files=FILES) as server:
        def ask(request, status):
            return check_head(server.raw(request).split(b"\r\n\r\n", 1)[0], status)

        def get(path, status, fields=""):
            tail = f"Host: x\r\n{fields}Connection: close\r\n\r\n"
            for method in ("GET", "HEAD"):
                ask(f"{method} {path} HTTP/1.1\r\n{tail}".encode(), status)

        get("/page", 200)
        get("/large", 200)
        get("/d/", 200)
        get("/d", 301)
        get("/missing", 404)
        get("/%", 400)
        get("/page", 304, "If-None-Match: *\r\n")
        get("/page", 412, 'If-Match: "other"\r\n')
        get("/page", 417, "Expect: something\r\n")
        ask(b"GET /page HTTP/1.1\r\nHost: x\r\nRange: bytes=2-3\r\n\r\n", 206)
        ask(b"GET /page HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0,5-6\r\n\r\n", 206)
        ask(b"GET /page HTTP/1.1\r\nHost: x\r\nRange: bytes=20-30\r\n\r\n", 416)
        ask(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204)
        ask(b"DELETE /page HTTP/1.1\r\nHost: x\r\n\r\n", 405)
        ask(b"BREW /page HTTP/1.1\r\nHost: x\r\n\r\n", 501)
        ask(b"GET /page HTTP/2.0\r\nHost: x\r\n\r\n", 505)
        ask(b"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n12345678901", 413)
        ask(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414)
        ask(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40000 + b"\r\n\r\n", 431)
        ask(b"nonsense\r\n\r\n", 400)


def test_408_has_date_and_configured_lines():
    with Server(*FIELD, "--head-timeout", "0.2", "--body-timeout", "0.2", "--error-page",
                "404=FOLDER/secret", files=FILES) as server:
        for part in (b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
                     b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx"):
            with server.connect() as peer:
                peer.sendall(part)
                headers = check_head(receive_all(peer).split(b"\r\n\r\n", 1)[0], 408)
                equal(headers["connection"], "close")


def test_503_has_date_and_configured_lines():
    with Server(*FIELD, "--max-connections", "1", files=FILES) as server:
        with server.connect() as first:
            first.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
            receive_some(first, lambda received: received.endswith(b"0123456789"))
            with server.connect() as second:
                second.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
                headers = check_head(receive_all(second).split(b"\r\n\r\n", 1)[0], 503)
                equal(headers["retry-after"], "1")


def test_fields_of_the_server_cannot_be_configured():
    import subprocess
    from fixture import HTTPD
    for name in ("Accept-Ranges", "Allow", "Connection", "Content-Encoding", "Content-Length",
                 "Content-Range", "Content-Type", "Date", "ETag", "Last-Modified", "LOCATION",
                 "retry-after", "Server", "Transfer-Encoding", "Vary", "Keep-Alive", "Trailer"):
        done = subprocess.run([HTTPD, "--listen", "127.0.0.1:0", "--header", f"{name}: x"],
                              capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
        equal(done.returncode, 1)
        assert f"--header {name}: x" in done.stderr and "remove the option" in done.stderr, done.stderr


def test_location_never_names_another_host():
    with Server(files={"host/x": b"", "a\\b/x": b"", "\\evil.example/x": b"", "ü/x": b""}) as server:
        for path in ("//host", "///host", "/\\evil.example", "/%5Cevil.example", "//a/..//host",
                     "/./host", "/a%5cb", "/%C3%BC", "/host?q=//x"):
            with server.connect() as peer:
                peer.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                head = receive_all(peer).split(b"\r\n\r\n")[0].decode()
            assert " 301 " in head.split("\r\n")[0], (path, head)
            location = re.search(r"(?im)^location: (.*?)\r?$", head).group(1)
            assert re.match(r"/(?![/\\])", location) and "\\" not in location, (path, location)
            assert "/" == location.split("?")[0][-1], location


def test_hosts_are_read_as_rfc_9112_says():
    with Server(files=FILES) as server:
        for head, status in (("GET http://a/page HTTP/1.1\r\nHost: a", 200),
                             ("GET http://a/page HTTP/1.1\r\nHost:", 200),
                             ("GET http://a/page HTTP/1.1\r\nHost: b", 200),
                             ("GET http://a/page HTTP/1.1", 400),
                             ("GET /page HTTP/1.1\r\nHost:", 400),
                             ("GET /page HTTP/1.1", 400),
                             ("GET http:///page HTTP/1.1\r\nHost: a", 400),
                             ("GET /page HTTP/1.0\r\nHost:", 200),
                             ("GET /page HTTP/1.0", 200),
                             ("A" * 9000 + " /page HTTP/1.1\r\nHost: a", 501),
                             ("A" * 9000, 501),
                             ("A(" + "A" * 9000 + " / HTTP/1.1\r\nHost: a", 414)):
            answer = server.raw(head.encode() + b"\r\n\r\n")
            equal((head[:60], answer.split(b" ")[1]), (head[:60], str(status).encode()))


def test_a_hundred_fields_are_fine():
    fields = "".join(f"X-Field-{number}: value\r\n" for number in range(100))
    with Server(files=FILES) as server:
        answer = server.raw(f"GET /page HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]


def test_a_body_that_trickles_ends_in_time():
    with Server("--body-timeout", "0.5", files=FILES) as server:
        for framing in (b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"):
            with server.connect() as peer:
                peer.sendall(b"POST /page HTTP/1.1\r\nHost: x\r\n" + framing)
                begin = time.monotonic()
                try:
                    while True:  # each byte comes long before a second has passed
                        peer.settimeout(0.05)
                        try:
                            if not peer.recv(65536):
                                break
                        except TimeoutError:
                            peer.sendall(b"x")
                        assert time.monotonic() - begin < DEADLINE_SECONDS
                except (ConnectionResetError, BrokenPipeError):
                    pass


def test_a_reader_that_stops_ends_in_time():
    with Server("--send-timeout", "0.6", files=FILES, threads=2) as server:
        for read_first in (0, 100_000):
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.settimeout(DEADLINE_SECONDS)
                peer.connect(("127.0.0.1", server.port))
                peer.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
                received = 0
                while received < read_first:
                    received += len(peer.recv(4096))
                # The end arrives although nothing is read: as a reset, or after the buffered bytes.
                begin = time.monotonic()
                while connected(server, peer):
                    assert time.monotonic() - begin < DEADLINE_SECONDS
                    time.sleep(0.02)


def connected(server, peer):
    """True if the server still has its end of the connection."""
    own = f"{int.from_bytes(socket.inet_aton('127.0.0.1')[::-1], 'big'):08X}:{server.port:04X}"
    other = f":{peer.getsockname()[1]:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            fields = line.split()
            if fields[1] == own and fields[2].endswith(other):
                return fields[3] == "01" and fields[9] != "0"
    return False


if __name__ == "__main__":
    main(globals())
