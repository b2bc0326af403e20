#!/usr/bin/env python3
"""Users and passwords, and the paths that require them."""
import base64
import ctypes
import ctypes.util
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, HTTPD, Server, wait_for, main

FILES = {"public": b"public", "private/page": b"page", "private/index.html": b"index",
         "private/deep/page": b"deep", "private/open/page": b"open", "secret.html": b"secret"}
COST = b"$2b$04$"  # the minimum: 1 ms


def hash_of(password, setting=None):
    library = ctypes.CDLL(ctypes.util.find_library("crypt"))
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(password.encode(), setting or COST + b"abcdefghijklmnopqrstuu").decode()


def prepare(folder):
    with open(os.path.join(folder, "users"), "w", encoding="utf-8") as users:
        users.write(f"# comment\nalice:{hash_of('open sesame')}\n\n"
                    f"bob:{hash_of('böb:x', b'$6$rounds=1000$salt')}\n")


def credentials(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ALICE = credentials("alice", "open sesame")


def built_with_crypt():
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        ended = subprocess.run([HTTPD, "--check-config", "--auth", f"/* {folder}/users"],
                               capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    return "without libxcrypt" not in ended.stderr


def server(*options, files=None, **more):
    return Server(*options, files=files or FILES, prepare=prepare, **more)


def test_only_users_read_a_protected_path():
    with server("--auth", "/private/* FOLDER/users The vault", threads=2) as one:
        equal(one.ask("GET", "/public")[2], b"public")
        for path in ("/private/page", "/private/", "/private", "/private/deep/page", "/private/none",
                     "//private/page", "/%70rivate/page", "/x/../private/page", "/private/./page"):
            for method in ("GET", "HEAD"):
                status, fields, body = one.ask(method, path)
                equal((status, fields["www-authenticate"]),
                      (401, 'Basic realm="The vault", charset="UTF-8"'))
                assert b"page" not in body or b"<" in body, body
        for _ in range(3):  # verified, and remembered
            equal(one.ask("GET", "/private/page", ALICE)[2], b"page")
            equal(one.ask("GET", "/private/", ALICE)[2], b"index")
            equal(one.ask("GET", "/private/page", credentials("bob", "böb:x"))[2], b"page")
        equal(one.ask("GET", "/private", ALICE)[0], 301)
        equal(one.ask("GET", "/private/none", ALICE)[0], 404)
        equal(one.ask("OPTIONS", "/private/page")[0], 204)  # as a browser asks beforehand


def test_others_do_not():
    with server("--auth", "/private/* FOLDER/users") as one:
        equal(one.ask("GET", "/private/page", ALICE)[0], 200)
        for fields in (credentials("alice", "open sesame "), credentials("alice", ""),
                       credentials("Alice", "open sesame"), credentials("mallory", "open sesame"),
                       credentials("", ""), credentials("alice", "open\0sesame"),
                       {"Authorization": "Basic"}, {"Authorization": "Basic !!!!"},
                       {"Authorization": "Basic YQ"}, {"Authorization": "Bearer x"},
                       {"Authorization": ALICE["Authorization"].replace("Basic", "Basicx")}):
            equal(one.ask("GET", "/private/page", fields)[0], 401)
        twice = f"Authorization: {ALICE['Authorization']}\r\n" * 2
        assert b" 200 " not in one.raw(f"GET /private/page HTTP/1.1\r\nHost: x\r\n{twice}"
                                       "Connection: close\r\n\r\n".encode())[:20]
        equal(one.ask("GET", "/private/page",
                      {"Authorization": ALICE["Authorization"].replace("Basic", "bAsIc")})[0], 200)


def test_other_paths_of_a_protected_file_are_protected_too():
    with server("--auth", "/secret.html FOLDER/users", "--drop-html", "--fallback",
                "secret.html") as one:
        for path in ("/secret", "/secret.html", "/no/such/path"):
            equal(one.ask("GET", path)[0], 401)
            equal(one.ask("GET", path)[0], 401)  # from the cache, too
        for _ in range(2):
            equal(one.ask("GET", "/secret", ALICE)[2], b"secret")
            equal(one.ask("GET", "/no/such/path", ALICE)[2], b"secret")
        equal(one.ask("GET", "/public")[2], b"public")
    with server("--auth", "/private/index.html FOLDER/users") as one:
        equal(one.ask("GET", "/private/")[0], 401)
        equal(one.ask("GET", "/private/", ALICE)[2], b"index")
        equal(one.ask("GET", "/private/")[0], 401)
    with server("--auth", "/private/* FOLDER/users", "--directory-listing", "--redirect",
                "/private/moved /public") as one:
        equal(one.ask("GET", "/private/deep/")[0], 401)
        equal(one.ask("GET", "/private/moved")[0], 401)
        equal(one.ask("GET", "/private/deep/", ALICE)[0], 200)


def test_an_exception_stands_before_the_rule():
    with server("--auth", "/private/open/* off", "--auth", "/private/* FOLDER/users") as one:
        equal(one.ask("GET", "/private/open/page")[2], b"open")
        equal(one.ask("GET", "/private/page")[0], 401)


def test_the_user_is_in_the_log():
    with server("--auth", "/* FOLDER/users", "--access-log", "FOLDER/log") as one:
        one.ask("GET", "/public", ALICE)
        one.ask("GET", "/public", credentials("alice", "wrong"))
        log = os.path.join(one.folder.name, "log")

        def lines():
            with open(log, encoding="utf-8") as file:
                return file.read().splitlines()
        wait_for(lambda: len(lines()) == 2, "two lines")
        assert " - alice [" in lines()[0] and " - - [" in lines()[1], lines()


def test_a_changed_file_counts_after_a_reload():
    with server("--auth", "/* FOLDER/users") as one:
        equal(one.ask("GET", "/public", ALICE)[0], 200)
        with open(os.path.join(one.folder.name, "users"), "w", encoding="utf-8") as users:
            users.write(f"carol:{hash_of('new')}\n")
        one.process.send_signal(1)  # SIGHUP
        wait_for(lambda: one.ask("GET", "/public", credentials("carol", "new"))[0] == 200, "carol")
        equal(one.ask("GET", "/public", ALICE)[0], 401)


def test_many_wrong_passwords_hold_up_no_file():
    """They wait for two threads, and are refused beyond a bound."""
    def slow_users(folder):
        with open(os.path.join(folder, "users"), "w", encoding="utf-8") as users:
            users.write(f"alice:{hash_of('open sesame', b'$2b$09$abcdefghijklmnopqrstuu')}\n")
    count = 80
    with Server("--auth", "/private/* FOLDER/users", files=FILES, prepare=slow_users) as one:
        peers = [one.connect() for _ in range(count)]
        for number, peer in enumerate(peers):
            field = credentials("alice", f"wrong {number}")["Authorization"]
            peer.sendall(f"GET /private/page HTTP/1.1\r\nHost: x\r\nAuthorization: {field}\r\n"
                         "Connection: close\r\n\r\n".encode())
        equal(one.ask("GET", "/public")[2], b"public")
        statuses = [peer.recv(65536)[9:12] for peer in peers]
        for peer in peers:
            peer.close()
        equal(set(statuses) - {b"401", b"503"}, set())
        assert b"401" in statuses, statuses
        equal(one.ask("GET", "/private/page", ALICE)[2], b"page")


def test_wrong_files_are_named():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "users")
        for text, reason in (("alice\n", "USER:HASH"), ("", "no user"), ("alice:plain\n", "htpasswd -B"),
                             ("alice:$apr1$x$y\n", "htpasswd -B"), ("a:{SHA}x\n", "htpasswd -B"),
                             (f"\na:{hash_of('x')}\na:{hash_of('y')}\n", f"{path}:3: a is listed twice"),
                             ("a:$2b$31$abcdefghijklmnopqrstuu\n", "cost"), ("a:$2b$\n", "malformed")):
            with open(path, "w", encoding="utf-8") as users:
                users.write(text)
            ended = subprocess.run([HTTPD, "--check-config", "--auth", f"/* {path}"], text=True,
                                   capture_output=True, timeout=DEADLINE_SECONDS, check=False)
            assert ended.returncode != 0 and reason in ended.stderr, (text, ended)
        for rule, reason in (("/*", "PATTERN FILE"), (f"*.html {path}", "slash"),
                             (f'/* {path} a "realm"', "quotes"), ("/* /no/such/file", "No such file")):
            ended = subprocess.run([HTTPD, "--check-config", "--auth", rule], text=True,
                                   capture_output=True, timeout=DEADLINE_SECONDS, check=False)
            assert ended.returncode != 0 and reason in ended.stderr and "--auth" in ended.stderr, ended


if __name__ == "__main__":
    if not built_with_crypt():
        print("skipped: httpd was built without libxcrypt")
        sys.exit(77)
    main(globals())
