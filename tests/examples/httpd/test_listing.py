#!/usr/bin/env python3
"""Pages of directories: complete and sorted up to a limit, shared by clients, as JSON too."""
import json
import os
import re
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, receive_all, Server, wait_for, main

ENTRY_COUNT = 30_000


def fill(server, count, directory="many"):
    path = os.path.join(server.root, directory)
    os.mkdir(path)
    for number in range(count):
        os.close(os.open(f"{path}/{number:06d}-name", os.O_CREAT | os.O_WRONLY))


def names_of(page):
    return re.findall(r'<td><a href="\./([^"]*)">', page.decode())


def memory_kib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))


def test_a_page_is_complete_and_sorted():
    with Server("--directory-listing") as server:
        fill(server, ENTRY_COUNT)
        page = server.ask("GET", "/many/")[2]
        equal(names_of(page), [f"{number:06d}-name" for number in range(ENTRY_COUNT)])
        assert f"{ENTRY_COUNT} files".encode() in page and b"first" not in page.split(b"<p>")[1].split(b"</p>")[0]
        assert b'<a href="../">..</a>' in page
        assert b'<a href="../">..</a>' not in server.ask("GET", "/")[2]


def test_beyond_the_limit_a_page_says_how_much_it_shows():
    with Server("--directory-listing", "--listing-entries", "100") as server:
        fill(server, 250)
        page = server.ask("GET", "/many/")[2]
        equal(names_of(page), [f"{number:06d}-name" for number in range(100)])
        assert b"first 100 of 250 entries" in page, page[-800:]
        found = json.loads(server.ask("GET", "/many/", {"Accept": "application/json"})[2])
        equal((found["total"], found["shown"], len(found["entries"])), (250, 100, 100))
        equal(found["note"], "first 100 of 250")


def test_json_is_for_clients_that_ask_for_it():
    with Server("--directory-listing", files={"d/b": b"12345", "d/A/x": b""}) as server:
        for accept, is_json in (("application/json", True), ("application/json, text/html;q=0.9", True),
                                ("text/html, application/json;q=0.9", False), ("*/*", False),
                                ("application/json;q=0", False), (None, False), ("application/*", True),
                                ("*/*, text/html;q=0", True), ("application/json;q=0.5, */*", False),
                                ("application/json, */*", True), ("text/html, */*", False),
                                ("text/*, application/json;q=0.1", False), ("text/plain", False)):
            headers = {} if accept is None else {"Accept": accept}
            status, answer, body = server.ask("GET", "/d/", headers)
            equal(status, 200)
            equal((accept, answer["content-type"].startswith("application/json")), (accept, is_json))
            equal(answer["vary"], "Accept")
        found = json.loads(server.ask("GET", "/d/", {"Accept": "application/json"})[2])
        equal([(each["name"], each["type"], each["href"]) for each in found["entries"]],
              [("A", "directory", "./A/"), ("b", "file", "./b")])
        equal(found["entries"][1]["size"], 5)
        head = server.ask("HEAD", "/d/", {"Accept": "application/json"})
        equal((head[0], head[2]), (200, b""))


def test_each_change_is_on_the_next_page():
    with Server("--directory-listing", threads=2, files={"d/a": b""}) as server:
        for number in range(50):
            with open(os.path.join(server.root, "d", f"n{number}"), "wb") as file:
                file.write(b"x" * number)
            page = server.ask("GET", "/d/")[2].decode()
            assert f'<a href="./n{number}">' in page, number
            os.remove(os.path.join(server.root, "d", f"n{number}"))
            assert f'<a href="./n{number}">' not in server.ask("GET", "/d/")[2].decode(), number


def test_clients_that_do_not_read_share_a_page():
    """Each would hold a page of 3 MB of its own."""
    clients = []
    with Server("--directory-listing") as server:
        fill(server, ENTRY_COUNT)
        size = len(server.ask("GET", "/many/")[2])
        before = memory_kib(server.process)
        try:
            for _ in range(60):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(DEADLINE_SECONDS)
                client.connect(("127.0.0.1", server.port))
                client.sendall(b"GET /many/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                clients.append(client)
            for client in clients:  # all are being answered
                assert client.recv(1, socket.MSG_PEEK)
            grown = memory_kib(server.process) - before
            assert grown * 1024 < 12 * size + (8 << 20), (grown, size)
            body = receive_all(clients[0]).split(b"\r\n\r\n", 1)[1]
            equal(len(body), size)
        finally:
            for client in clients:
                client.close()


def test_a_large_directory_does_not_delay_other_requests():
    with Server("--directory-listing", files={"small": b"small"}) as server:
        fill(server, ENTRY_COUNT)
        done = threading.Event()

        def list_it():
            for _ in range(3):
                server.ask("GET", "/many/")
            done.set()

        thread = threading.Thread(target=list_it)
        thread.start()
        count = 0
        slowest = 0
        while not done.is_set():
            begin = time.monotonic()
            equal(server.ask("GET", "/small")[2], b"small")
            slowest = max(slowest, time.monotonic() - begin)
            count += 1
        thread.join()
        # The loop answers in the meantime; it would answer about once per page otherwise.
        assert count > 12, (count, slowest)
        print(f"  {count} requests in the meantime, the slowest took {slowest * 1000:.1f} ms")


def test_hidden_entries_are_not_listed():
    files = {".secret": b"x", "d/.git/config": b"x", "open": b"x"}
    with Server("--directory-listing", files=files) as server:
        equal(names_of(server.ask("GET", "/")[2]), ["d/", "open"])
        equal(server.ask("GET", "/d/.git/")[0], 404)
    with Server("--directory-listing", "--hidden-files", files=files) as server:
        equal(names_of(server.ask("GET", "/")[2]), ["d/", ".secret", "open"])
        equal(server.ask("GET", "/d/.git/config")[2], b"x")


def test_a_directory_that_cannot_be_read_is_an_error():
    with Server("--directory-listing", files={"d/x": b""}) as server:
        path = os.path.join(server.root, "d")
        os.chmod(path, 0o300)
        if not os.access(path, os.R_OK):
            equal(server.ask("GET", "/d/")[0], 403)
        os.chmod(path, 0o755)
        wait_for(lambda: server.ask("GET", "/d/")[0] == 200, "the page")
        os.symlink("/etc", os.path.join(server.root, "out"))
        equal(server.ask("GET", "/out/")[0], 404)


if __name__ == "__main__":
    main(globals())
