#!/usr/bin/env python3
"""Files that are compressed when they are asked for."""
import gzip
import os
import subprocess
import sys
import tempfile
import zlib

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, HTTPD, Server, write_settled, main

TEXT = b"".join(b"line %d of a text that can be compressed\n" % number for number in range(5000))
SMALL = TEXT[:3000]
NOISE = os.urandom(20_000)
FILES = {"large.txt": TEXT, "small.css": SMALL, "tiny.txt": b"tiny", "noise.txt": NOISE,
         "picture.png": TEXT, "both.txt": TEXT, "both.txt.gz": gzip.compress(SMALL)}
GZIP = {"Accept-Encoding": "gzip"}


def codings():
    """Those that the program was built with."""
    try_it = subprocess.run([HTTPD, "--check-config", "--compress"], capture_output=True,
                            timeout=DEADLINE_SECONDS, check=False)
    if try_it.returncode != 0:
        return []
    with Server("--compress", files={"a.txt": TEXT}) as server:
        return [coding for coding in ("gzip", "zstd")
                if "content-encoding" in server.ask("GET", "/a.txt", {"Accept-Encoding": coding})[1]]


def plain_of(coding, body):
    if coding == "gzip":
        return zlib.decompress(body, 31)
    with tempfile.NamedTemporaryFile(suffix=".zst") as file:
        file.write(body)
        file.flush()
        done = subprocess.run(["zstd", "-dc", file.name], capture_output=True, check=False,
                              timeout=DEADLINE_SECONDS)
        return done.stdout


def has_zstd_program():
    try:
        return subprocess.run(["zstd", "--version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_client_gets_an_encoding_that_it_accepts():
    with Server("--compress", files=FILES, threads=2) as server:
        for coding in CODINGS:
            for path, content in (("/large.txt", TEXT), ("/small.css", SMALL)):
                for _ in range(4):  # both loops, made once and then found
                    status, fields, body = server.ask("GET", path, {"Accept-Encoding": coding})
                    equal((status, fields["content-encoding"], fields["vary"]),
                          (200, coding, "Accept-Encoding"))
                    equal(int(fields["content-length"]), len(body))
                    assert len(body) < len(content) / 2
                    if coding == "gzip" or has_zstd_program():
                        equal(plain_of(coding, body), content)
                head = server.ask("HEAD", path, {"Accept-Encoding": coding})[1]
                equal((head["content-length"], head["etag"]),
                      (fields["content-length"], fields["etag"]))
        for fields in ({}, {"Accept-Encoding": "identity"}, {"Accept-Encoding": "br"},
                       {"Accept-Encoding": "gzip;q=0, zstd;q=0"}):
            _, got, body = server.ask("GET", "/large.txt", fields)
            equal((body, got["vary"], "content-encoding" in got), (TEXT, "Accept-Encoding", False))


def test_the_preferred_coding_does_not_depend_on_earlier_requests():
    if len(CODINGS) < 2:
        return
    with Server("--compress", files=FILES) as server:
        for accepted, coding in (("gzip", "gzip"), ("gzip, zstd", "zstd"), ("gzip, zstd;q=0.5", "gzip")):
            fields = server.ask("GET", "/large.txt", {"Accept-Encoding": accepted})[1]
            equal(fields["content-encoding"], coding)


def test_only_files_that_become_smaller_are_compressed():
    with Server("--compress", "--compress-max", "300K", files={**FILES, "huge.txt": TEXT * 2}) as server:
        for path in ("/tiny.txt", "/picture.png", "/huge.txt"):
            _, fields, body = server.ask("GET", path, GZIP)
            assert "content-encoding" not in fields and "vary" not in fields, fields
        for _ in range(2):
            _, fields, body = server.ask("GET", "/noise.txt", GZIP)
            equal((body, "content-encoding" in fields), (NOISE, False))


def test_types_are_chosen():
    with Server("--compress", "--compress-type", "image/*", files=FILES) as server:
        assert "content-encoding" in server.ask("GET", "/picture.png", GZIP)[1]
        assert "content-encoding" not in server.ask("GET", "/large.txt", GZIP)[1]
    with Server(files=FILES) as server:  # off by default
        assert "content-encoding" not in server.ask("GET", "/large.txt", GZIP)[1]


def test_a_precompressed_file_has_precedence():
    with Server("--compress", "--precompressed", files=FILES) as server:
        equal(zlib.decompress(server.ask("GET", "/both.txt", GZIP)[2], 31), SMALL)


def test_each_coding_has_an_entity_tag_of_its_own():
    with Server("--compress", files=FILES) as server:
        plain = server.ask("GET", "/large.txt")[1]
        fields = server.ask("GET", "/large.txt", GZIP)[1]
        assert fields["etag"] != plain["etag"] and not fields["etag"].startswith("W/"), fields
        equal(fields["last-modified"], plain["last-modified"])
        status, again, body = server.ask("GET", "/large.txt", {**GZIP, "If-None-Match": fields["etag"]})
        equal((status, again["etag"], again["vary"], body), (304, fields["etag"], "Accept-Encoding", b""))
        equal(server.ask("GET", "/large.txt", {**GZIP, "If-None-Match": plain["etag"]})[0], 200)
        equal(server.ask("GET", "/large.txt", {"If-None-Match": fields["etag"]})[0], 200)


def test_ranges_are_of_the_compressed_bytes():
    with Server("--compress", files=FILES) as server:
        whole = server.ask("GET", "/large.txt", GZIP)[2]
        status, fields, part = server.ask("GET", "/large.txt", {**GZIP, "Range": "bytes=100-299"})
        equal((status, part, fields["content-encoding"]), (206, whole[100:300], "gzip"))
        equal(fields["content-range"], f"bytes 100-299/{len(whole)}")


def test_a_changed_file_is_compressed_anew():
    with Server("--compress", files=FILES, threads=2) as server:
        path = os.path.join(server.root, "large.txt")
        for number in range(5):
            content = b"version %d\n" % number + TEXT
            write_settled(path + ".new", content, age=100 + number)
            os.rename(path + ".new", path)
            for _ in range(3):
                _, fields, body = server.ask("GET", "/large.txt", GZIP)
                equal(zlib.decompress(body, 31) if "content-encoding" in fields else body, content)


def test_memory_is_bounded():
    """Beyond the bound files are sent as they are."""
    files = {f"{number}.txt": os.urandom(6000).hex().encode() for number in range(60)}
    with Server("--compress", "--compress-cache", "64K", "--open-files", "8", files=files) as server:
        for _ in range(2):
            for name, content in files.items():
                _, fields, body = server.ask("GET", "/" + name, GZIP)
                equal(zlib.decompress(body, 31) if "content-encoding" in fields else body, content)
        held = sum(os.stat(f"/proc/{server.process.pid}/fd/{fd}").st_size
                   for fd in os.listdir(f"/proc/{server.process.pid}/fd")
                   if "httpd-compressed" in os.readlink(f"/proc/{server.process.pid}/fd/{fd}"))
        assert 0 < held <= 2 * (64 << 10), held


if __name__ == "__main__":
    CODINGS = codings()
    if "gzip" not in CODINGS:
        print("skipped: httpd was built without zlib")
        sys.exit(77)
    main(globals())
