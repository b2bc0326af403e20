#!/usr/bin/env python3
"""The access log and the metrics."""
import json
import contextlib
import os
import re
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, FILES, HUGE, LARGE, receive_all, receive_some,
                     Server, SMALL, wait_for, main)


def lines_of(path, count):
    """Waits for the first lines of a log, which the server writes at intervals."""
    def read():
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return [line for line in file if line.endswith("\n")]
    wait_for(lambda: len(read()) >= count, f"{count} lines in {path}")
    return read()


def test_the_access_log_has_a_line_for_each_request():
    asked = {"Referer": "http://elsewhere/", "User-Agent": 'a "quoted" one'}
    time_text = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
    for form, patterns in (
            ("common", [rf'127\.0\.0\.1 - - {time_text} "GET /small\.txt HTTP/1\.1" 200 13',
                        rf'127\.0\.0\.1 - - {time_text} "GET /missing HTTP/1\.1" 404 PAGE',
                        rf'127\.0\.0\.1 - - {time_text} "HEAD /missing HTTP/1\.1" 404 -']),
            ("combined", [r'.* 200 13 "http://elsewhere/" "a \\x22quoted\\x22 one"',
                          r'.* 404 PAGE .*', r'.* 404 - .*'])):
        with Server("--access-log", "FOLDER/log", "--access-log-format", form,
                    files=FILES) as server:
            server.ask("GET", "/small.txt", asked)
            page = server.ask("GET", "/missing", asked)[2]
            server.ask("HEAD", "/missing", asked)
            server.raw(b"GET /bad\x01 HTTP/1.1\r\n\r\n")
            lines = lines_of(os.path.join(server.folder.name, "log"), 4)
            for line, pattern in zip(lines, patterns):
                assert re.fullmatch(pattern.replace("PAGE", str(len(page))), line.strip()), line
            assert '" 400 ' in lines[3], lines[3]


def test_the_access_log_has_the_sent_bytes_and_the_duration():
    with Server("--access-log", "FOLDER/log", "--access-log-format", "json",
                files={"huge.bin": HUGE}) as server:
        begin = time.monotonic()
        with server.connect() as peer:
            peer.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            receive_some(peer, lambda received: len(received) > 1000)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.ask("GET", "/huge.bin")
        log = os.path.join(server.folder.name, "log")
        lines = [json.loads(line) for line in lines_of(log, 2)]
        # Not before: the client may receive the last byte before the server records it.
        took_us = (time.monotonic() - begin) * 1e6
        cut, whole = sorted(lines, key=lambda line: line["bytes"])
        assert 0 < cut["bytes"] < len(HUGE), cut
        equal((whole["bytes"], whole["status"], whole["request"]),
              (len(HUGE), 200, "GET /huge.bin HTTP/1.1"))
        assert 0 < whole["duration_us"] <= took_us, whole


def test_sighup_opens_the_access_log_anew():
    with Server("--access-log", "FOLDER/log", files=FILES, threads=2) as server:
        log = os.path.join(server.folder.name, "log")
        server.ask("GET", "/small.txt")
        lines_of(log, 1)
        os.rename(log, log + ".1")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: os.path.exists(log), "a new log")
        asked = 1

        def logged_in_new_file():  # each loop receives the signal separately
            nonlocal asked
            server.ask("GET", "/missing")
            asked += 1
            with open(log) as file:
                return "/missing" in file.read()
        wait_for(logged_in_new_file, "a line in the new log")

        def lines():
            with open(log) as after, open(log + ".1") as until:
                return until.readlines() + after.readlines()
        wait_for(lambda: len(lines()) == asked, lambda: f"{asked} lines: {lines()}")
        assert "/small.txt" in lines()[0], lines()


def test_metrics_count_the_work_of_the_server():
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES, threads=2) as server:
        def value(text, name):
            found = re.search(rb"^%s (\S+)$" % re.escape(name), text, re.M)
            return float(found.group(1)) if found else 0

        for _ in range(20):
            equal(server.ask("GET", "/small.txt")[0], 200)
        page = server.ask("GET", "/missing")[2]
        server.ask("GET", "/large.bin")
        # A client may have the last byte of a response before the server has counted it.
        wait_for(lambda: server.metrics()["httpd_response_duration_seconds_count"] == 22,
                 "all are counted")
        head, text = server.scrape()
        assert head.startswith(b"HTTP/1.1 200 ") and b"text/plain; version=0.0.4" in head, head
        for name, wanted in ((b'httpd_requests_total{status="200"}', 21),
                             (b'httpd_requests_total{status="404"}', 1),
                             (b'httpd_responses_total{class="4xx"}', 1),
                             (b"httpd_connections_total", 22),
                             (b"httpd_connections_rejected_total", 0),
                             (b"httpd_response_duration_seconds_count", 22)):
            equal((name, value(text, name)), (name, wanted))
        equal(value(text, b"httpd_body_bytes_total"), 20 * len(SMALL) + len(LARGE) + len(page))
        equal(value(text, b'httpd_file_bytes_total{path="send"}'), 20 * len(SMALL))
        assert value(text, b"kevring_enters_total") > 0
        assert value(text, b"kevring_completions_total") > 0
        assert b"kevring_buffer_starvation_total 0\n" in text
        assert b'httpd_response_duration_seconds_bucket{le="+Inf"} 22\n' in text
        assert server.scrape("/else")[0].startswith(b"HTTP/1.1 404 ")
        equal(server.ask("GET", "/-/metrics")[0], 404)
        server.process.send_signal(signal.SIGTERM)
        equal(server.process.wait(DEADLINE_SECONDS), 0)


def test_metrics_count_requests_to_the_kernel():
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        with server.connect() as peer:
            def ask(path, body):
                peer.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                receive_some(peer, lambda received: received.endswith(body))

            polls = 0  # these cost the loop time, too

            def counted(requests):
                """The numbers, once they include that many requests."""
                found = {}

                def read():
                    nonlocal polls
                    polls += 1
                    found.update(server.metrics())
                    return found.get('httpd_requests_total{status="200"}') == requests
                wait_for(read, lambda: f"{requests} requests: {found}")
                return found

            ask("/small.txt", SMALL)
            before = counted(1)
            equal(before["httpd_connections"], 1)
            for _ in range(100):
                ask("/small.txt", SMALL)
            after = counted(101)
            grown = {name: after[name] - before[name] for name in after}
            equal(grown['httpd_requests_total{status="200"}'], 100)
            equal(grown["httpd_body_bytes_total"], 100 * len(SMALL))
            equal(grown['httpd_file_bytes_total{path="send"}'], 100 * len(SMALL))
            # Multishot receives, and sends: no request that needs a worker thread.
            assert 100 <= grown["kevring_completions_total"] <= 280 + 10 * polls, grown
            assert 50 <= grown["kevring_enters_total"] <= 280 + 10 * polls, grown
            equal(grown["kevring_punts_total"], 0)
            equal(grown["kevring_buffer_starvation_total"], 0)
            equal(server.ask("GET", "/large.bin")[2], LARGE)
            # The path depends on the pages in memory.
            wait_for(lambda: sum(count for name, count in server.metrics().items()
                                 if name.startswith("httpd_file_bytes_total"))
                     == 101 * len(SMALL) + len(LARGE), "all bytes are counted")
        wait_for(lambda: server.metrics()["httpd_connections"] == 0, "a connection is still open")
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES,
                environment={"KEVRING_SEND_PATH": "splice"}) as server:
        equal(server.ask("GET", "/large.bin")[2], LARGE)
        wait_for(lambda: server.metrics()['httpd_file_bytes_total{path="splice"}'] == len(LARGE),
                 "all bytes are counted")
        assert server.metrics()["kevring_punts_total"] > 0


def test_metrics_count_receives_that_found_no_buffer():
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        peers = [server.connect() for _ in range(1000)]
        try:
            wait_for(lambda: server.metrics()["httpd_connections"] == len(peers), "all are in")
            equal(server.metrics()["kevring_buffer_starvation_total"], 0)
            server.process.send_signal(signal.SIGSTOP)  # so that all requests arrive together
            for peer in peers:
                peer.sendall(b"GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            server.process.send_signal(signal.SIGCONT)
            for peer in peers:
                receive_some(peer, lambda received: received.endswith(SMALL))
            wait_for(lambda: server.metrics()['httpd_requests_total{status="200"}'] == len(peers),
                     "all are counted")
            after = server.metrics()
            assert after["kevring_buffer_starvation_total"] > 0, after
        finally:
            for peer in peers:
                peer.close()


def test_metrics_have_a_histogram_of_latency():
    with Server("--metrics", "unix:FOLDER/metrics", files={**FILES, "huge.bin": HUGE}) as server:
        def all_are_counted(count):
            wait_for(lambda: server.metrics()["httpd_response_duration_seconds_count"] == count,
                     "all are counted")

        began = time.monotonic()
        for _ in range(10):
            server.ask("GET", "/small.txt")
        all_are_counted(10)
        took = time.monotonic() - began
        with server.connect() as slow:
            slow.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            slow.recv(1000)
            time.sleep(1.2)  # the client is slow, and the histogram must show it
            receive_all(slow)
        all_are_counted(11)
        after = server.metrics()
        buckets = {float(bound): count for name, count in after.items()
                   for bound in re.findall(r'_seconds_bucket\{le="(.*)"\}', name)}
        counts = [buckets[bound] for bound in sorted(buckets)]
        equal(counts, sorted(counts))
        equal(buckets[float("inf")], 11)
        quick = max(count for bound, count in buckets.items() if bound < 1.2)
        # A busy machine may have made small ones slow.
        assert quick == 10 or quick < 10 and took > 1, (took, buckets)
        assert after["httpd_response_duration_seconds_sum"] >= 1.2, after


def test_metrics_are_served_to_many_clients():
    def still_connected(peer):
        try:
            return bool(peer.recv(1, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except ConnectionResetError:  # its request was not read
            return False

    def scrape_beside(count):
        """The number of silent clients that are connected after a scrape. Each is ended after 5 s."""
        with contextlib.ExitStack() as idle:
            peers = [idle.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
            for peer in peers:
                peer.connect(os.path.join(server.folder.name, "metrics"))
                peer.sendall(b"GET /metrics HT")
            assert server.scrape("/metrics")[0].startswith(b"HTTP/1.1 200 "), "no answer"
            return sum(map(still_connected, peers))

    with Server("--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        # A scrape that waited would find fewer of them. More than one attempt, as this machine may
        # have been stopped for 5 s.
        assert any(scrape_beside(20) == 20 for _ in range(3)), "silent clients delay others"
        assert any(scrape_beside(300) >= 50 for _ in range(3)), "many silent clients delay others"


def test_the_metrics_listener_speaks_http():
    with Server("--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        def ask(request):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(DEADLINE_SECONDS)
                peer.connect(os.path.join(server.folder.name, "metrics"))
                peer.sendall(request + b"\r\nHost: x\r\n\r\n")
                return receive_all(peer).split(b"\r\n\r\n", 1)

        for path in (b"/metrics", b"/-/metrics"):
            head, body = ask(b"GET " + path + b" HTTP/1.1")
            assert b" 200 " in head and b"\r\nDate: " in head and b"kevring_enters_total" in body, head
            head, body = ask(b"HEAD " + path + b" HTTP/1.1")
            assert b" 200 " in head and b"\r\nDate: " in head and not body, (head, body)
            assert re.search(rb"\r\nContent-Length: \d\d\d", head), head
            head, _ = ask(b"POST " + path + b" HTTP/1.1")
            assert b" 405 " in head and b"\r\nAllow: GET, HEAD" in head, head
        for request, status in ((b"GET / HTTP/1.1", b"404"), (b"GET /metrics HTTP/2.0", b"505")):
            head, _ = ask(request)
            assert b" " + status + b" " in head and b"\r\nDate: " in head, head


if __name__ == "__main__":
    main(globals())
