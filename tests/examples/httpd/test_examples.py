#!/usr/bin/env python3
"""Each example of the manual and of docs/httpd.md starts a server."""
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from authority import Authority
from fixture import DEADLINE_SECONDS, equal, HTTPD, receive_all, main

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
PROGRAM = os.path.abspath(HTTPD)  # a server has a working directory of its own
USERS = "alice:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
# Built without a library, the server says which, and the example ends there.
MISSING_LIBRARY = "this httpd was built without"
HAS_OPENSSL = shutil.which("openssl") is not None  # makes the certificates


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def make_tree(folder):
    """Creates the files that the examples name, below a folder of the test."""
    for name in ("srv/www/assets", "srv/app", "srv/default", "srv/example", "srv/net",
                 "var/log/httpd", "var/log/kevring", "etc/httpd", "run"):
        os.makedirs(os.path.join(folder, name))
    for site in ("www", "app", "default", "example", "net"):
        for name in ("index.html", "404.html"):
            with open(os.path.join(folder, "srv", site, name), "w", encoding="utf-8") as file:
                file.write(f"<p>{site}")
    with open(os.path.join(folder, "etc/httpd/users"), "w", encoding="utf-8") as file:
        file.write(USERS)
    if HAS_OPENSSL:
        certificate, key = Authority(os.path.join(folder, "etc/httpd")).issue("server")
        certificate.write_text(certificate.read_text() + key.read_text())  # and the key alone
    with open(os.path.join(folder, "etc/httpd.conf"), "w", encoding="utf-8") as file:
        file.write(f'root = "{folder}/srv/www"\n')


def in_folder(text, folder):
    """Moves absolute paths below the folder, takes free ports, and keeps the user."""
    text = re.sub(r"(?<![\w/*.])/(srv|var|etc|run)\b", rf"{folder}/\1", text)
    text = re.sub(r"(127\.0\.0\.1|0\.0\.0\.0|\[::\]):\d+", "127.0.0.1:0", text)
    return text


def check_started(arguments, folder, is_proxied, is_tls):
    """Starts it, sends a request, and stops it."""
    if is_tls and not HAS_OPENSSL:
        print("  skipped: openssl is not installed")
        return
    process = subprocess.Popen([PROGRAM, "--threads", "1", *arguments], stderr=subprocess.PIPE, text=True,
                               cwd=os.path.join(folder, "srv/www"))
    said = []
    try:
        while line := process.stderr.readline():
            said.append(line)
            if "serving " in line:
                break
        if not said or "serving " not in said[-1]:
            text = "".join(said)
            if MISSING_LIBRARY in text:
                print(f"  skipped: {text.strip()}")
                return
            raise AssertionError((arguments, text))
        if found := re.search(r"at http://127\.0\.0\.1:(\d+)$", said[-1].strip()):
            with socket.create_connection(("127.0.0.1", int(found.group(1))), DEADLINE_SECONDS) as peer:
                header = b"PROXY UNKNOWN\r\n" if is_proxied else b""
                peer.sendall(header + b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n"
                             b"Connection: close\r\n\r\n")
                assert receive_all(peer)[9:12] in (b"200", b"301", b"401", b"403"), arguments
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
        process.stderr.close()
    equal(process.returncode, 0)


def manual_examples():
    section = re.search(r"^# EXAMPLES\n(.*?)^# ", read("docs/man/kevring-httpd.1.scd"), re.M | re.S)
    found = re.findall(r"^\tkevring-httpd (.*)$", section.group(1), re.M)
    return [shlex.split(each.replace("\\*", "*")) for each in found]


def configurations(path):
    """The code blocks of a page."""
    return [each for each in re.findall(r"^```\n(.*?)^```$", read(path), re.M | re.S)
            if re.search(r"^root = ", each, re.M)]


def test_each_command_of_the_manual_starts():
    commands = manual_examples()
    assert len(commands) >= 12, commands
    with tempfile.TemporaryDirectory() as folder:
        make_tree(folder)
        for command in commands:
            arguments = [in_folder(each, folder) for each in command]
            if "--user" in arguments:  # a test does not become another user
                at = arguments.index("--user")
                del arguments[at:at + 2]
            if "--check-config" in arguments:
                equal(subprocess.run([PROGRAM, *arguments], timeout=DEADLINE_SECONDS,
                                     check=False).returncode, 0)
                continue
            if arguments[:2] == ["-p", "8000"]:
                arguments[1] = "0"
            if "--error-log" in arguments:
                arguments[arguments.index("--error-log") + 1] = "journal"
                arguments[arguments.index("--error-log-level") + 1] = "notice"
            if not {"--listen", "-p"} & set(arguments):
                arguments = ["--listen", "127.0.0.1:0", *arguments]
            check_started(arguments, folder, "--proxy-protocol" in arguments, "--tls-cert" in arguments)


def check_configurations(path, count):
    found = configurations(path)
    assert len(found) >= count, len(found)
    with tempfile.TemporaryDirectory() as folder:
        make_tree(folder)
        for text in found:
            conf = os.path.join(folder, "conf")
            text = re.sub(r"^user = .*\n", "", in_folder(text, folder), flags=re.M)
            text = re.sub(r'^listen = \["127.*\]$', 'listen = "127.0.0.1:0"', text, flags=re.M)
            text = re.sub(r"^error-log = .*$", 'error-log = "journal"', text, flags=re.M)
            if "listen = " not in text:
                text = 'listen = "127.0.0.1:0"\n' + text
            with open(conf, "w", encoding="utf-8") as file:
                file.write(text)
            check_started(["--config", conf], folder, "proxy-protocol" in text, "tls-cert" in text)


def test_each_configuration_of_the_manual_starts():
    check_configurations("docs/man/kevring-httpd.1.scd", 2)


def test_each_configuration_of_the_page_starts():
    check_configurations("docs/httpd.md", 14)


def test_each_example_of_the_page_is_short():
    for text in configurations("docs/httpd.md"):
        equal(len(text.splitlines()), 3)


def test_the_unit_files_are_valid():
    """As far as systemd-analyze can tell; the signals themselves are tested by test_upgrade.py."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("httpd.service", "httpd.socket"):
            text = read(f"examples/httpd/{name}").replace("/usr/bin/kevring-httpd", PROGRAM)
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        service = open(os.path.join(folder, "httpd.service"), encoding="utf-8").read()
        assert "Type=notify\n" in service and "ExecReload=/bin/kill -HUP $MAINPID\n" in service
        try:
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                                   os.path.join(folder, "httpd.service")], capture_output=True,
                                  text=True, timeout=DEADLINE_SECONDS, check=False)
        except FileNotFoundError:
            print("  skipped: systemd-analyze is not installed")
            return
        ours = [line for line in done.stderr.splitlines() if "httpd" in line]
        equal(ours, [])


if __name__ == "__main__":
    main(globals())
