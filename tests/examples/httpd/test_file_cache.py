#!/usr/bin/env python3
"""A change of a file is visible to the next request, and the cache is bounded."""
import http.client
import mmap
import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, FILES, Server, SMALL, wait_for, write_settled, main)


def test_a_changed_file_is_served_changed():
    with Server(files=FILES) as server:
        path = os.path.join(server.root, "small.txt")
        tag = server.ask("GET", "/small.txt")[1]["etag"]
        write_settled(path + ".new", b"replaced", age=50)
        os.rename(path + ".new", path)
        status, headers, body = server.ask("GET", "/small.txt")
        equal((status, body), (200, b"replaced"))
        assert headers["etag"] != tag
        with open(path, "wb") as file:
            file.write(b"in place")
        equal(server.ask("GET", "/small.txt")[2], b"in place")
        os.remove(path)
        equal(server.ask("GET", "/small.txt")[0], 404)


def test_every_change_is_seen_by_the_next_request():
    see_every_change()


def test_every_change_of_a_file_that_was_closed_is_seen():
    see_every_change("--open-files", "1")


def test_every_change_of_a_file_in_memory_is_seen():
    see_every_change("--content-cache", "1M")
    see_every_change("--content-cache", "1M", "--open-files", "1")


def see_every_change(*options):
    """On a connection that stays, so that the change and the request are as close as can be."""
    with Server(*options, "--metrics", "unix:FOLDER/metrics", files=FILES) as server:
        path = os.path.join(server.root, "folder", "page")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)

        def ask(path):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else answer.read() and None

        def served():
            if options:  # which closes the other one
                equal(ask("/small.txt"), SMALL)
            return ask("/folder/page")

        for i in range(500):
            content = b"version %d" % i + b"." * (i % 7)
            if i % 5 == 0:  # replaced
                with open(path + ".new", "wb") as file:
                    file.write(content)
                os.rename(path + ".new", path)
            elif i % 5 == 1:  # written in place
                with open(path, "wb") as file:
                    file.write(content)
            elif i % 5 == 2:  # truncated
                os.truncate(path, 3)
                content = b"version %d" % (i - 1)
                content = content[:3]
            elif i % 5 == 3:  # the folder is replaced
                other = os.path.join(server.root, "other")
                os.makedirs(other)
                with open(os.path.join(other, "page"), "wb") as file:
                    file.write(content)
                os.rename(os.path.join(server.root, "folder"), os.path.join(server.root, f"old{i}"))
                os.rename(other, os.path.join(server.root, "folder"))
            else:  # removed
                os.remove(path)
                equal(served(), None)
                with open(path, "wb") as file:
                    file.write(content)
            for _ in range(3):  # found, then read and kept, then from memory
                equal(served(), content)
        connection.close()
        equal(from_memory(server) > 0, "--content-cache" in options)


def from_memory(server):
    return server.metrics()["httpd_content_cache_hits_total"]


def test_files_in_memory_are_read_no_more():
    """For two seconds at most: no event reports bytes that are written through a map."""
    with Server("--content-cache", "1M", "--metrics", "unix:FOLDER/metrics",
                files={"page": b"old"}) as server:
        def is_from_memory():
            before = from_memory(server)
            equal(server.ask("GET", "/page")[2], b"old")
            return from_memory(server) == before + 1

        wait_for(is_from_memory, "a response from memory")
        equal(server.metrics()["httpd_content_cache_bytes"], 3)
        with open(os.path.join(server.root, "page"), "r+b") as file:
            with mmap.mmap(file.fileno(), 3) as memory:
                memory[:] = b"new"
        wait_for(lambda: server.ask("GET", "/page")[2] == b"new", "what the map holds")


def test_a_closed_file_in_memory_is_served_like_any_other():
    files = {"one": b"first", "other": b"second"}
    with Server("--content-cache", "1M", "--open-files", "1", "--metrics", "unix:FOLDER/metrics",
                files=files) as server:
        def are_from_memory():
            """A request that needs the file opens it, and does not disturb other requests."""
            before = from_memory(server)
            equal(server.ask("GET", "/one")[2], b"first")
            status, headers, body = server.ask("GET", "/one", {"Range": "bytes=1-2"})
            equal((status, body), (206, b"ir"))
            equal(server.ask("GET", "/other")[2], b"second")
            equal(server.ask("GET", "/one")[2], b"first")
            equal(server.ask("HEAD", "/other")[1]["content-length"], "6")
            equal(server.ask("GET", "/one", {"If-None-Match": headers["etag"]})[0], 304)
            equal(server.ask("GET", "/other")[2], b"second")
            return from_memory(server) == before + 4

        wait_for(are_from_memory, "responses from memory")


def test_memory_for_content_is_bounded():
    files = {f"{i}": b"x" * 3000 for i in range(20)}
    with Server("--content-cache", "10000", "--metrics", "unix:FOLDER/metrics",
                files=files) as server:
        for _ in range(4):
            for name, content in files.items():
                equal(server.ask("GET", "/" + name)[2], content)
        equal(server.metrics()["httpd_content_cache_bytes"], 9000)


def test_more_files_than_may_be_open():
    files = {f"folder/{i}.txt": b"file %d" % i for i in range(30)}
    files |= {f"folder/{i}.txt.gz": b"packed %d" % i for i in range(0, 30, 3)}
    options = ("--open-files", "2", "--precompressed")
    with Server(*options, files=files) as server:
        for _ in range(4):
            for i in range(30):
                body = server.ask("GET", f"/folder/{i}.txt", {"Accept-Encoding": "gzip"})[2]
                equal(body, b"packed %d" % i if i % 3 == 0 else b"file %d" % i)
        held = [file for file in server.open_files() if file.startswith(server.root + "/")]
        assert 1 <= len(held) <= 4, held  # two files, each with its sibling at most


def test_folders_above_are_watched_too():
    with Server(files={"a/b/c/page": b"old"}) as server:
        for i in range(50):
            for content in (b"new", b"newer"):
                new = os.path.join(server.root, "new")
                os.makedirs(os.path.join(new, "b/c"))
                with open(os.path.join(new, "b/c/page"), "wb") as file:
                    file.write(content)
                os.rename(os.path.join(server.root, "a"), os.path.join(server.root, f"{content}{i}"))
                os.rename(new, os.path.join(server.root, "a"))
                equal(server.ask("GET", "/a/b/c/page")[2], content)
            with open(os.path.join(server.root, "a/b/c/page"), "wb") as file:
                file.write(b"written")
            equal(server.ask("GET", "/a/b/c/page")[2], b"written")


def test_links_and_second_names_are_followed():
    with Server(files={"a/page": b"one", "b/page": b"two"}) as server:
        os.symlink("a", os.path.join(server.root, "current"))
        os.link(os.path.join(server.root, "a/page"), os.path.join(server.root, "hard"))
        equal(server.ask("GET", "/current/page")[2], b"one")
        equal(server.ask("GET", "/hard")[2], b"one")
        os.symlink("b", os.path.join(server.root, "next"))
        os.rename(os.path.join(server.root, "next"), os.path.join(server.root, "current"))
        equal(server.ask("GET", "/current/page")[2], b"two")
        with open(os.path.join(server.root, "a/page"), "wb") as file:
            file.write(b"three")
        equal(server.ask("GET", "/hard")[2], b"three")


def test_a_compressed_sibling_may_be_a_link():
    files = {"page": b"plain", "packed/page.gz": b"one"}
    with Server("--precompressed", files=files) as server:
        os.utime(os.path.join(server.root, "page"), (1_000_000_000, 1_000_000_000))
        target = os.path.join(server.root, "packed/page.gz")
        os.symlink("packed/page.gz", os.path.join(server.root, "page.gz"))
        for content in (b"one", b"two", b"three"):
            with open(target, "wb") as file:
                file.write(content)
            for _ in range(2):
                equal(server.ask("GET", "/page", {"Accept-Encoding": "gzip"})[2], content)


def test_the_permission_of_a_linked_file_is_checked_each_time():
    if os.geteuid() != 0:
        print("  (not tried: only root can serve for another user)")
        return
    server = Server("--user", "nobody", files={"sub/page": b"text"})
    os.chmod(server.folder.name, 0o755)
    with server:
        os.symlink("sub/page", os.path.join(server.root, "page"))
        equal(server.ask("GET", "/page")[0], 200)
        os.chmod(os.path.join(server.root, "sub/page"), 0)
        equal(server.ask("GET", "/page")[0], 403)


def test_changes_without_an_event_are_visible_after_a_short_time():
    with Server(files={"mapped": b"one", "named": b"one"}) as server:
        tag = server.ask("GET", "/mapped")[1]["etag"]
        equal(server.ask("GET", "/named")[2], b"one")
        with open(os.path.join(server.root, "mapped"), "r+b") as file:
            with mmap.mmap(file.fileno(), 3) as bytes_of_file:
                bytes_of_file[:] = b"two"
        elsewhere = os.path.join(server.folder.name, "elsewhere")
        os.link(os.path.join(server.root, "named"), elsewhere)
        with open(elsewhere, "wb") as file:
            file.write(b"two and more")
        wait_for(lambda: server.ask("GET", "/mapped")[1].get("etag", tag) != tag, "the bytes of a map")
        wait_for(lambda: server.ask("GET", "/named")[2] == b"two and more", "the other name")


def test_a_mount_is_seen_in_a_moment():
    alone = ("unshare", "--mount", "--propagation", "private")
    try:
        subprocess.run([*alone, "true"], check=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        print("  (not tried: mounts cannot be had)")
        return
    with Server(files={"sub/page": b"below", "other/page": b"above"}, under=alone) as server:
        inside = ("nsenter", "--target", str(server.process.pid), "--mount")
        sub = os.path.join(server.root, "sub")
        other = os.path.join(server.root, "other")
        equal(server.ask("GET", "/sub/page")[2], b"below")
        subprocess.run([*inside, "mount", "--bind", other, sub], check=True)
        wait_for(lambda: server.ask("GET", "/sub/page")[2] == b"above", "what is mounted")
        with open(os.path.join(other, "page"), "wb") as file:
            file.write(b"changed")
        equal(server.ask("GET", "/sub/page")[2], b"changed")
        subprocess.run([*inside, "umount", "--lazy", sub], check=True)
        wait_for(lambda: server.ask("GET", "/sub/page")[2] == b"below", "what was below")
        with open(os.path.join(sub, "page"), "wb") as file:
            file.write(b"last")
        equal(server.ask("GET", "/sub/page")[2], b"last")


def test_without_watches_every_change_is_seen_too():
    for limit in ("max_inotify_watches", "max_inotify_instances"):
        script = f'echo "$0" >/proc/sys/user/{limit} && exec "$@"'
        poor = ("unshare", "--user", "--map-root-user", "sh", "-c", script,
                "2" if limit == "max_inotify_watches" else "0")
        try:
            subprocess.run([*poor, "true"], check=True, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            print("  (not tried: limits of its own cannot be had)")
            return
        names = [f"{folder}/page" for folder in "abcd"]
        with Server(files={name: b"old" for name in names}, under=poor) as server:
            # Each of another length: the time does not distinguish two changes within a tick of the file
            # system's clock (4 ms before Linux 6.13).
            for content in (b"old", b"newer", b"the newest"):
                for name in names:
                    with open(os.path.join(server.root, name), "wb") as file:
                        file.write(content)
                    for _ in range(2):
                        equal(server.ask("GET", f"/{name}")[2], content)


def test_changes_during_reloads_are_seen():
    with Server(files={"sub/page": b"first"}, threads=2) as server:
        sub = os.path.join(server.root, "sub")
        for i in range(150):
            content = b"%d" % i
            if i % 3 == 0:
                server.process.send_signal(signal.SIGHUP)
            if i % 2 == 0:
                with open(os.path.join(sub, "page"), "wb") as file:
                    file.write(content)
            else:
                os.rename(sub, os.path.join(server.folder.name, f"before-{i}"))
                os.mkdir(sub)
                with open(os.path.join(sub, "page"), "wb") as file:
                    file.write(content)
            for _ in range(4):  # both loops
                equal(server.ask("GET", "/sub/page")[2], content)


def test_removed_files_are_closed():
    with Server(files={"page": b"page"}) as server:
        server.ask("GET", "/page")
        at_first = server.idle_descriptors()
        for i in range(100):
            os.makedirs(os.path.join(server.root, f"{i}/sub"))
            with open(os.path.join(server.root, f"{i}/sub/page"), "wb") as file:
                file.write(b"page")
            equal(server.ask("GET", f"/{i}/sub/page")[2], b"page")
            os.remove(os.path.join(server.root, f"{i}/sub/page"))
            os.removedirs(os.path.join(server.root, f"{i}/sub"))
            equal(server.ask("GET", f"/{i}/sub/page")[0], 404)
        server.wait_for_idle(at_first, "files that are gone")


if __name__ == "__main__":
    main(globals())
