#!/usr/bin/env python3
"""Virtual hosts, rules by path, fallbacks, redirects, access and limits by address."""
import contextlib
import json
import os
import re
import socket
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import equal, receive_all, receive_some, Server, wait_for, main

FILES = {"index.html": b"<p>index", "page.html": b"<p>page", "d/index.html": b"<p>d", "d/start.htm": b"start",
         "app.js": b"js", "assets/app-1.js": b"js", "data.json": b"{}", "README": b"readme",
         "notes.md": b"md"}


@contextlib.contextmanager
def configured(text, files=None, threads=1):
    """A server with a configuration file; ROOT in it is the folder of its roots."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (files or {}).items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        conf = os.path.join(folder, "conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(text.replace("ROOT", folder))
        with Server("--config", conf, files=FILES, threads=threads) as server:
            yield server


def get(server, path, host="x", **headers):
    return server.ask("GET", path, {"Host": host, **headers})


def test_a_host_selects_its_root():
    files = {"one/page": b"one", "two/page": b"two", "wild/page": b"wild", "two/only": b"two"}
    text = ('[host one.example "www.one.example"]\nroot = ROOT/one\nheader = "X-Site: one"\n'
            "[host two.example]\nroot = ROOT/two\n[host *.example]\nroot = ROOT/wild\n")
    with configured(text, files, threads=2) as server:
        for host, body in (("one.example", b"one"), ("WWW.One.Example:8080", b"one"),
                           ("one.example.", b"one"), ("two.example", b"two"), ("three.example", b"wild"),
                           ("a.b.example", b"wild")):
            for _ in range(3):  # from the cache, too
                equal((host, get(server, "/page", host)[2]), (host, body))
        for host in ("example", "other.org", "127.0.0.1", "[::1]:80"):
            equal((host, get(server, "/page", host)[0]), (host, 404))
            equal(get(server, "/README", host)[2], b"readme")
        equal(get(server, "/page", "one.example")[1]["x-site"], "one")
        assert "x-site" not in get(server, "/page", "two.example")[1]
        equal(get(server, "/only", "one.example")[0], 404)
        answer = server.raw(b"GET http://two.example/page HTTP/1.1\r\nHost: one.example\r\n\r\n")
        assert answer.endswith(b"\r\n\r\ntwo"), answer


def test_field_lines_by_path_and_type():
    with Server("--cache-control", "/assets/* max-age=31536000, immutable",
                "--cache-control", "text/html no-cache", "--header-for", "*.json X-Data: yes",
                "--header", "Cache-Control: max-age=60", files=FILES) as server:
        for path, expected in (("/assets/app-1.js", "max-age=31536000, immutable"), ("/", "no-cache"),
                               ("/page.html", "no-cache"), ("/app.js", "max-age=60"),
                               ("/missing", "max-age=60"), ("/assets/missing", "max-age=31536000, immutable")):
            for _ in range(2):
                status, headers, _ = get(server, path)
                equal((path, headers["cache-control"]), (path, expected))
            tag = headers.get("etag")
            if tag:
                headers = get(server, path, **{"If-None-Match": tag})[1]
                equal((path, headers["cache-control"]), (path, expected))
        equal(get(server, "/data.json")[1]["x-data"], "yes")
        assert "x-data" not in get(server, "/app.js")[1]


def test_cors_by_path():
    with Server("--cors", "/assets/* *", "--cors", "*.json https://app.example", files=FILES) as server:
        equal(get(server, "/assets/app-1.js")[1]["access-control-allow-origin"], "*")
        headers = get(server, "/data.json", Origin="https://app.example")[1]
        equal(headers["access-control-allow-origin"], "https://app.example")
        assert "Origin" in headers["vary"], headers
        assert "access-control-allow-origin" not in get(server, "/app.js")[1]
        status, headers, _ = server.ask("OPTIONS", "/data.json", {
            "Origin": "https://app.example", "Access-Control-Request-Method": "GET"})
        equal((status, headers["access-control-allow-origin"]), (204, "https://app.example"))
        assert "GET" in headers["access-control-allow-methods"]


def test_a_fallback_is_for_paths_of_an_application():
    with Server("--fallback", "index.html", files=FILES) as server:
        for path in ("/", "/some/route", "/user/john.doe", "/d", "/d/x"):
            status, headers, body = get(server, path)
            if path == "/d":
                equal(status, 301)
                continue
            equal((path, status, body), (path, 200, b"<p>index"))
            equal(headers["content-type"], "text/html; charset=utf-8")
        for path in ("/missing.js", "/img/missing.png", "/missing.html"):
            equal((path, get(server, path)[0]), (path, 404))
        equal(get(server, "/README")[2], b"readme")
        # A file that comes later is served, and a change of the fallback is visible.
        with open(os.path.join(server.root, "route"), "wb") as file:
            file.write(b"file")
        equal(get(server, "/route")[2], b"file")
        with open(os.path.join(server.root, "index.html"), "wb") as file:
            file.write(b"changed")
        equal(get(server, "/some/route")[2], b"changed")


def test_html_is_dropped_from_paths():
    with Server("--drop-html", files=FILES) as server:
        for _ in range(2):
            equal(get(server, "/page")[2], b"<p>page")
            status, headers, _ = get(server, "/page.html?q=1")
            equal((status, headers["location"]), (301, "/page?q=1"))
        for path, location in (("/index.html", "/"), ("/d/index.html", "/d/")):
            status, headers, _ = get(server, path)
            equal((status, headers["location"]), (301, location))
        equal(get(server, "/missing")[0], 404)
        equal(get(server, "/")[2], b"<p>index")


def test_redirects():
    with Server("--redirect", "/old /new", "--redirect", "/blog/* https://blog.example/* 301",
                "--redirect", "/x/* /* 308", files=FILES) as server:
        for path, status, location in (("/old", 302, "/new"), ("/old?q=1", 302, "/new?q=1"),
                                       ("/blog/a/b", 301, "https://blog.example/a/b"),
                                       ("/x/README", 308, "/README"), ("/x//evil.example", 308, "/evil.example"),
                                       ("/x/\\evil.example", 308, "/evil.example")):
            with server.connect() as peer:
                peer.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                head = receive_all(peer).decode()
            equal((path, head.split(" ")[1]), (path, str(status)))
            equal((path, re.search(r"Location: (.*)\r", head).group(1)), (path, location))
        equal(get(server, "/older")[0], 404)


def test_index_names_and_media_types():
    with Server("--index", "start.htm", "--index", "index.html", "--media-type",
                "md=text/markdown; variant=GFM", "--media-type", "js=application/x-own", files=FILES) as server:
        equal(get(server, "/d/")[2], b"start")
        equal(get(server, "/")[2], b"<p>index")
        equal(get(server, "/notes.md")[1]["content-type"], "text/markdown; variant=GFM")
        equal(get(server, "/app.js")[1]["content-type"], "application/x-own")


def test_networks_are_allowed_and_denied():
    for options, status in ((("--deny", "127.0.0.0/8"), 403), (("--allow", "10.0.0.0/8"), 403),
                            (("--allow", "127.0.0.1"), 200), (("--allow", "all", "--deny", "127.0.0.1"), 403),
                            (("--deny", "127.0.0.2"), 200), (("--deny", "::1"), 200), (("--deny", "all"), 403)):
        with Server(*options, files=FILES) as server:
            for path in ("/README", "/README", "/missing"):
                answer = get(server, path)
                equal((options, answer[0] if path == "/README" else 0),
                      (options, status if path == "/README" else 0))
                assert status == 200 or b"readme" not in answer[2]


def test_the_client_of_a_trusted_proxy_is_the_forwarded_one():
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        for trusted, options in ((True, ("--trusted-proxy", "127.0.0.0/8")), (False, ())):
            with Server(*options, "--deny", "192.0.2.0/24", "--access-log", log, "--access-log-format",
                        "json", files=FILES) as server:
                for value, client in (("192.0.2.7", "192.0.2.7"), ("198.51.100.1, 127.0.0.3", "198.51.100.1"),
                                      ("192.0.2.7, 198.51.100.1", "198.51.100.1"), ("junk", "127.0.0.1"),
                                      ("192.0.2.7, junk", "127.0.0.1"), ("2001:db8::1", "2001:db8::1"),
                                      ("[2001:db8::1]:80", "2001:db8::1"), ("192.0.2.9:80", "192.0.2.9")):
                    denied = trusted and client.startswith("192.0.2.")
                    status = get(server, "/README", **{"X-Forwarded-For": value})[0]
                    equal((value, status), (value, 403 if denied else 200))
            with open(log, encoding="ascii") as file:
                clients = [next(iter(json.loads(line).values())) if "client" not in json.loads(line)
                           else json.loads(line)["client"] for line in file]
            assert ("198.51.100.1" in clients) is trusted, clients
            os.remove(log)


def test_connections_of_one_address_are_limited():
    with Server("--max-connections-per-address", "2", files=FILES, threads=2) as server:
        with server.connect() as one, server.connect() as two:
            for peer in (one, two):
                peer.sendall(b"GET /README HTTP/1.1\r\nHost: x\r\n\r\n")
                receive_some(peer, lambda received: received.endswith(b"readme"))
            with server.connect() as third:
                third.sendall(b"GET /README HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 503 " in receive_all(third)
            with socket.socket() as other:
                other.bind(("127.0.0.2", 0))
                other.connect(("127.0.0.1", server.port))
                other.sendall(b"GET /README HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert receive_all(other).endswith(b"readme")
        wait_for(lambda: get(server, "/README")[0] == 200, "the others have ended")


def test_hidden_files_are_not_served():
    files = {".env": b"secret", ".git/config": b"secret", "d/.htaccess": b"secret",
             ".well-known/acme": b"public", "a.b": b"public"}
    with Server(files=files) as server:
        for path in ("/.env", "/.git/config", "/.git", "/.git/", "/d/.htaccess", "/%2eenv", "/x/../.env"):
            equal((path, get(server, path)[0]), (path, 404))
        for path in ("/.well-known/acme", "/a.b"):
            equal((path, get(server, path)[2]), (path, b"public"))
        os.symlink(os.path.join(server.root, "a.b"), os.path.join(server.root, "absolute"))
        os.symlink("a.b", os.path.join(server.root, "relative"))
        equal(get(server, "/relative")[2], b"public")
        equal(get(server, "/absolute")[0], 404)  # also into the root
    with Server("--hidden-files", files=files) as server:
        equal(get(server, "/.env")[2], b"secret")


if __name__ == "__main__":
    main(globals())
