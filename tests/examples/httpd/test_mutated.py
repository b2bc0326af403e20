#!/usr/bin/env python3
"""Sends the server mutated requests over many connections; it must keep running, and leak nothing.

The server is given every option that has code of its own. At the end its connections are closed,
its metrics add up, and it ends with status 0, which under a sanitizer says that nothing was found.

usage: test_mutated.py HTTPD MUTATED_REQUESTS FUZZ_FOLDER [--connections COUNT] [--seed N] [--first N]
"""
import gzip
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

HTTPD, CLIENT, FUZZ_FOLDER = sys.argv[1:4]
OPTIONS = sys.argv[4:]
DEADLINE_SECONDS = 60


def make_root(root):
    files = {"index.html": b"<p>index\n", "1": b"one\n", "2": b"two\n" * 3000, "a": b"a" * 100_000,
             "probe.txt": b"still here\n", "folder/b": b"b", "folder/c d": b"c"}
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    with open(os.path.join(root, "2.gz"), "wb") as file:
        file.write(gzip.compress(files["2"]))
    os.symlink("..", os.path.join(root, "folder", "up"))


def scrape(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE_SECONDS)
        peer.connect(path)
        peer.sendall(b"GET /-/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while more := peer.recv(65536):
            received += more
    found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", received.decode(), re.M)
    return {name: float(value) for name, value in found}


def main():
    with tempfile.TemporaryDirectory(prefix="httpd-mutated-") as folder:
        root, seeds = os.path.join(folder, "root"), os.path.join(folder, "seeds")
        metrics, said = os.path.join(folder, "metrics"), os.path.join(folder, "said")
        os.mkdir(root)
        make_root(root)
        subprocess.run([os.path.join(FUZZ_FOLDER, "make-seeds"), seeds], check=True)
        with open(said, "w+b") as errors:
            server = subprocess.Popen(
                [HTTPD, "--root", root, "--listen", "127.0.0.1:0", "--threads", "2",
                 "--precompressed", "--directory-listing", "--idle-timeout", "600", "--header", "X-Frame-Options: DENY",
                 "--access-log", "/dev/null", "--access-log-format", "json",
                 "--metrics", "unix:" + metrics], stderr=errors)
            try:
                end = time.monotonic() + DEADLINE_SECONDS
                while True:
                    with open(said, encoding="utf-8", errors="replace") as words:
                        listening = re.search(r"http://127\.0\.0\.1:(\d+)\n", words.read())
                    if listening:
                        break
                    assert server.poll() is None and time.monotonic() < end, "it does not begin"
                    time.sleep(0.01)
                status = subprocess.run(
                    [CLIENT, "--port", listening.group(1), "--seeds", seeds, "--dictionary",
                     os.path.join(FUZZ_FOLDER, "http.dict"), *OPTIONS], check=False).returncode
                end = time.monotonic() + DEADLINE_SECONDS
                counted = {"httpd_connections": -1}
                while server.poll() is None and counted["httpd_connections"] != 0:
                    if time.monotonic() > end:
                        print("connections are still open:", counted["httpd_connections"])
                        status = 1
                        break
                    time.sleep(0.05)
                    counted = scrape(metrics)
            finally:
                if server.poll() is None:
                    server.terminate()
                try:
                    server.wait(DEADLINE_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
        with open(said, encoding="utf-8", errors="replace") as words:
            text = words.read()
        if server.returncode != 0:
            print(f"the server ended with {server.returncode}:\n{text[:20000]}")
            return 1
        requests = {name[-5:-2]: int(value) for name, value in counted.items()
                    if name.startswith("httpd_requests_total{")}
        print(f"{counted['httpd_connections_total']:.0f} connections; by status: {requests}")
        whole = sum(requests.values())
        if counted["httpd_response_duration_seconds_count"] != whole:
            print(f"{counted['httpd_response_duration_seconds_count']} durations of {whole} requests")
            status = 1
        return status


if __name__ == "__main__":
    sys.exit(main())
