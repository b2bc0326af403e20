#!/usr/bin/env python3
"""Validators: Last-Modified is never later than Date, and an entity tag names one version."""
import email.utils
import os
import sys
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import equal, Server, wait_for, write_settled, main


def seconds(date):
    return email.utils.parsedate_to_datetime(date).timestamp()


def put(server, name, content, modified):
    path = os.path.join(server.root, name)
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.utime(path + ".new", (modified, modified))
    os.rename(path + ".new", path)


def test_last_modified_is_never_later_than_date():
    with Server() as server:
        for name, ahead in (("second", 2), ("hour", 3600), ("century", 100 * 365 * 86400)):
            put(server, name, b"v1", time.time() + ahead)
            status, headers, _ = server.ask("GET", "/" + name)
            equal(status, 200)
            modified = headers.get("last-modified")
            assert modified is None or seconds(modified) <= seconds(headers["date"]), headers
            # The validator is defined: it matches itself, and not the next version.
            tag = headers["etag"]
            assert tag.startswith('"'), headers
            equal(server.ask("GET", "/" + name, {"If-None-Match": tag})[0], 304)
            put(server, name, b"v2", time.time() + ahead + 1)
            equal(server.ask("GET", "/" + name, {"If-None-Match": tag})[2], b"v2")
            equal(server.ask("GET", "/" + name, {"If-Modified-Since": headers["date"]})[2], b"v2")
        # When its time has come, the file has a date.
        wait_for(lambda: "last-modified" in server.ask("GET", "/second")[1], "the date")


def test_a_placeholder_time_is_no_date():
    """0 and 1 are set by archives and reproducible builds, on every version of a file."""
    with Server() as server:
        for modified in (0, 1):
            put(server, "page", b"one", modified)
            _, headers, _ = server.ask("GET", "/page")
            assert "last-modified" not in headers, headers
            tag = headers["etag"]
            equal(server.ask("GET", "/page", {"If-None-Match": tag})[0], 304)
            put(server, "page", b"two", modified)  # of the same size
            equal(server.ask("GET", "/page", {"If-None-Match": tag})[2], b"two")


def test_a_tag_is_equal_on_two_hosts_and_has_no_inode():
    modified = time.time() - 1000
    tags = set()
    with Server() as one, Server() as other:
        for server in (one, other):
            put(server, "padding-of-" + str(server.port), b"", modified)
            put(server, "page", b"content", modified)
            tags.add(server.ask("GET", "/page")[1]["etag"])
            inode = os.stat(os.path.join(server.root, "page")).st_ino
            assert f"-{inode:x}" not in max(tags) and f'"{inode:x}-' not in max(tags), (tags, inode)
    equal(len(tags), 1)


def test_a_tag_is_never_weak_and_strong():
    """A file that was modified a moment ago has none yet; later it has one."""
    with Server(threads=2) as server:
        path = os.path.join(server.root, "young")
        with open(path, "wb") as file:
            file.write(b"abc")
        seen = set()

        def has_tag():
            headers = server.ask("GET", "/young")[1]
            seen.add(headers.get("etag"))
            return "etag" in headers

        wait_for(has_tag, "the tag")
        for _ in range(20):
            has_tag()
        seen.discard(None)
        equal(len(seen), 1)
        assert min(seen).startswith('"'), seen


def test_codings_have_tags_of_their_own():
    with Server("--precompressed") as server:
        write_settled(os.path.join(server.root, "page"), b"12345")
        write_settled(os.path.join(server.root, "page.gz"), b"67890")
        plain = server.ask("GET", "/page")[1]
        packed = server.ask("GET", "/page", {"Accept-Encoding": "gzip"})[1]
        assert plain["etag"] != packed["etag"], (plain, packed)
        equal(packed["content-encoding"], "gzip")


if __name__ == "__main__":
    main(globals())
