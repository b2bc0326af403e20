#!/usr/bin/env python3
"""Messages: each wrong option, line and variable is named with its value and the reason."""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, HTTPD, main, Server

ANYWHERE = ("--listen", "127.0.0.1:0")


def run(*options, environment=None):
    """Status and standard error of a start that fails."""
    done = subprocess.run([HTTPD, *options], capture_output=True, text=True, check=False,
                          timeout=DEADLINE_SECONDS, env=dict(os.environ, **(environment or {})))
    return done.returncode, done.stderr


def check_message(options, *words):
    status, text = run(*options)
    assert status in (1, 2), (options, status, text)
    for word in words:
        assert word in text, (options, word, text)
    assert "terminate" not in text and text.count("\n") == 1, (options, text)


# Option, value, and words of the reason.
WRONG = (
    ("listen", "127.0.0.1:99999", "port", "out of range"),
    ("listen", "127.0.0.1:-1", "port", "not a number"),
    ("listen", "127.0.0.1:http", "port", "not a number"),
    ("listen", "127.0.0.1", "port is missing"),
    ("listen", "127.0.0.1:", "port is missing"),
    ("listen", "8080", "host is missing"),
    ("listen", ":8080", "host is missing"),
    ("listen", "http://127.0.0.1:8080", "URL"),
    ("listen", "http://127.0.0.1:8080/", "URL"),
    ("listen", "::1:8080", "brackets"),
    ("listen", "[::1]", "port is missing"),
    ("listen", "300.1.1.1:80", "no IP address"),
    ("listen", "[::ffff:127.0.0.1]:80", "without ::ffff:"),
    ("listen", "[fe80::1%no-such-link]:80", "interface"),
    ("listen", "[::g]:80", "IPv6 address"),
    ("listen", "www.example.org:80", "no IP address"),
    ("listen", "unix:", "path is missing"),
    ("listen", "unix:" + "x" * 200, "too long"),
    ("listen", "", "missing"),
    ("metrics", "127.0.0.1", "port is missing"),
    ("metrics", "https://127.0.0.1:9", "URL"),
    ("threads", "-1", "out of range"),
    ("threads", "5000", "out of range"),
    ("threads", "two", "not a whole number"),
    ("threads", "1.5", "not a whole number"),
    ("threads", "", "missing"),
    ("sandbox", "maybe", "auto, on or off"),
    ("access-log-format", "xml", "common, combined or json"),
    ("head-timeout", "nan", "not a number"),
    ("head-timeout", "inf", "out of range"),
    ("idle-timeout", "-5", "out of range"),
    ("body-timeout", "0", "out of range"),
    ("send-timeout", "1e9", "not a number"),
    ("drain-timeout", "1d", "not a number"),
    ("max-connections", "0", "out of range"),
    ("max-connections", "99999999999999999999", "out of range"),
    ("max-body", "-1", "not a number of bytes"),
    ("max-body", "1X", "not a number of bytes"),
    ("content-cache", "99999999T", "out of range"),
    ("open-files", "0", "out of range"),
    ("min-send-rate", "fast", "not a number of bytes"),
    ("unix-mode", "999", "octal"),
    ("index", "a/b", "without a slash"),
    ("root", "/does/not/exist", "No such file"),
    ("root", HTTPD, "Not a directory"),
    ("user", "no-such-user-here", "there is no user"),
    ("unix-owner", "root:no-such-group", "there is no group"),
    ("header", "no colon", "Name: value"),
    ("header", "X Y: z", "Name: value"),
    ("header", "Last-Modified: x", "the server sets this field itself"),
    ("error-page", "404", "STATUS=FILE"),
    ("error-page", "200=/etc/passwd", "400 to 599"),
    ("error-page", "404=/", "directory"),
    ("error-page", "404=/does/not/exist", "No such file"),
    ("compress-type", "css", "media type"),
    ("compress-max", "2T", "out of range"),
    ("error-log", "/", "directory"),
    ("error-log", "/does/not/exist/log", "No such file"),
    ("error-log-level", "loud", "error, warning, notice"),
    ("proxy-protocol", "proxy.example.org", "an address or a network"),
    ("fallback", "../index.html", "below the root"),
    ("fallback", "/a/..", "below the root"),
    ("cors", "/x http://a/b", "without a path"),
    ("access-log", "/", "directory"),
    ("access-log", "/does/not/exist/log", "No such file"),
)


def test_a_wrong_option_is_named_with_value_and_reason():
    for name, value, *reason in WRONG:
        where = ANYWHERE if name not in ("listen",) else ()
        checked = ("--check-config",) if name == "unix-owner" else ()
        check_message((*where, *checked, f"--{name}={value}"), f"--{name} {value}", *reason)


def test_a_wrong_line_is_named_with_file_and_number():
    for name, value, *reason in WRONG:
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(f'# a comment\n\nforce-copy = true\n{name} = "{value}"\n')
            file.flush()
            where = ANYWHERE if name not in ("listen",) else ()
            checked = ("--check-config",) if name == "unix-owner" else ()
            check_message((*where, *checked, "--config", file.name),
                          f"{file.name}:4: {name} = {value}", *reason)


def test_a_malformed_file_is_named_with_the_line():
    for text, line, reason in (
            ("root\n", 1, "name = value"), ("\n= x\n", 2, "name = value"),
            ('root = "x\n', 1, "closing"), ('root = "x" y\n', 1, "more after the value"),
            ("no-such = 1\n", 1, "no such option"), ("treads = 1\n", 1, "did you mean threads"),
            ("\nthreads = 1\nthreads = 2\n", 3, "already on line 2"),
            ('threads = ["1", "2"]\n', 1, "not a list"), ('listen = ["127.0.0.1:0"\n', 1, "closing ]"),
            ('header = ["A: b" "C: d"]\n', 1, "commas"), ("[virtual x]\nroot = .\n", 1, "[host NAME...]"),
            ("[host]\nroot = .\n", 1, "[host NAME...]"), ("[host a b\n", 1, "closing ]"),
            ("[host a]\nthreads = 1\n", 2, "not for one host"), ("[host a/b]\n", 1, "no host name"),
            ("[host a]\n[host A]\n", 2, "has a section already"),
            ("[host a]\nroot = /does/not/exist\n", 2, "No such file")):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(text)
            file.flush()
            check_message(("--check-config", "--config", file.name), f"{file.name}:{line}:", reason)
    check_message(("--config", "/"), "--config /", "directory")
    check_message(("--config", "/does/not/exist"), "--config /does/not/exist", "No such file")


def test_wrong_arguments_are_named():
    check_message(("--no-such-option",), "--no-such-option", "no such option; see --help")
    check_message(("--treads", "1"), "--treads", "did you mean threads")
    check_message(("-x",), "-x")
    check_message(("--root",), "--root", "missing")
    check_message((".", ".."), "..", "one directory")
    check_message((".", "--root", "."), "--root is given as well")
    check_message(("-p", "70000"), "-p 70000", "out of range")
    check_message(("-p", "http"), "-p http", "not a whole number")
    check_message(("-p", "0", "--listen", "127.0.0.1:0"), "--listen is given as well")
    check_message(("--precompressed=perhaps",), "--precompressed perhaps", "true or false")


def test_unknown_values_of_the_environment_are_named():
    for variable, value in (("KEVRING_WITHOUT", "send_message,no_such_feature"),
                            ("KEVRING_SEND_PATH", "no_such_path")):
        status, text = run("--check-config", environment={variable: value})
        equal(status, 0)
        assert f"{variable}={value}" in text and "known are" in text, text
    equal(run("--check-config", environment={"KEVRING_WITHOUT": "send_message"}),
          (0, "httpd: the configuration is valid\n"))


def test_check_config_starts_nothing():
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("threads = 2\nlisten = 127.0.0.1:1\n[host a.example *.b.example]\nroot = /tmp\n")
        file.flush()
        equal(run("--check-config", "--config", file.name), (0, "httpd: the configuration is valid\n"))


def test_a_root_that_cannot_be_entered_is_named():
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "root")
        os.mkdir(root)
        os.chmod(root, 0)
        nobody = ("--user", "65534") if os.getuid() == 0 else ()
        check_message((*ANYWHERE, *nobody, "--root", root), f"--root {root}", "Permission denied")
        os.chmod(root, 0o700)


def test_a_port_and_a_directory_are_enough():
    """As with python -m http.server and miniserve."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "page"), "wb") as file:
            file.write(b"page")
        for arguments in (["-p", "0", folder], ["-p0", folder], [folder, "--port=0"],
                          ["--port", "0", "--", folder]):
            with Server(plain=arguments) as server:
                equal(server.ask("GET", "/page")[2], b"page")


if __name__ == "__main__":
    main(globals())
