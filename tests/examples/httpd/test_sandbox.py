#!/usr/bin/env python3
"""Landlock: the loops give up all files outside the root."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, HTTPD, HUGE, wait_for, main)
from operations_fixture import ONE, Server, TWO


CONFINED = ONE.replace("sandbox = off", "sandbox = on")


def has_landlock():
    import ctypes
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def test_a_confined_server_serves_and_reloads():
    if not has_landlock():
        print("  (not tried: this kernel has no Landlock)")
        return
    files = {"one/below/page": b"one", "one/huge": HUGE}
    options = ("precompressed = true\ndirectory-listing = true\naccess-log = FOLDER/log\n"
               "error-page = 404=FOLDER/sorry\n")
    with Server(CONFINED + options, files={**files, "sorry": b"<p>sorry"}) as server:
        equal(server.ask("/page")[2], b"one")
        equal(server.ask("/huge")[2], HUGE)
        equal(server.ask("/missing")[2], b"<p>sorry")
        assert b'href="./page"' in server.ask("/")[2]
        server.write("one/page", b"two")
        equal(server.ask("/page")[2], b"two")  # changes are reported
        os.rename(server.path("log"), server.path("log.1"))
        server.reload((CONFINED + options).replace("/one", "/one/below"))
        wait_for(lambda: server.ask("/page")[2] == b"one", "the root below")
        wait_for(lambda: os.path.getsize(server.path("log")) > 0, "the log of that name")
        server.configure(TWO.replace("sandbox = off", "sandbox = on"))
        server.hand_over()
        wait_for(lambda: server.ask("/page")[2] == b"two", "the new root")


def reload_by_takeover(server):
    """SIGHUP; a new process takes over by itself."""
    os.kill(server.pid, signal.SIGHUP)
    server.pid = int(server.says(r"process (\d+) has taken over").group(1))


def test_a_reload_serves_a_root_outside_of_the_sandbox():
    """Of the configuration, behind a link that was swapped, and built again at the same path."""
    if not has_landlock():
        print("  (not tried: this kernel has no Landlock)")
        return
    with Server(CONFINED.replace("/one", "/current"), link=("current", "one")) as server:
        equal(server.ask("/page")[2], b"one")
        os.symlink("two", server.path("next"))
        os.rename(server.path("next"), server.path("current"))
        reload_by_takeover(server)
        wait_for(lambda: server.ask("/page")[2] == b"two", "the release of the new link")
        shutil.rmtree(server.path("two"))
        server.write("two/page", b"built again")
        reload_by_takeover(server)
        wait_for(lambda: server.ask("/page")[2] == b"built again", "the directory of that name")
        server.configure(CONFINED)
        reload_by_takeover(server)
        wait_for(lambda: server.ask("/page")[2] == b"one", "the other root")


def without_landlock():
    """In the child: the call that makes a ruleset is unknown, as in an older kernel."""
    import ctypes
    import struct
    program = b"".join(struct.pack("HBBI", *line) for line in (
        (0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)))
    code = ctypes.create_string_buffer(program)
    libc = ctypes.CDLL(None, use_errno=True)
    filter_of = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filter_of, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def test_a_kernel_without_landlock_is_named():
    for mode in ("auto", "on"):
        with tempfile.TemporaryDirectory(prefix="httpd-test-") as root:
            process = subprocess.Popen(
                [HTTPD, "--root", root, "--listen", "127.0.0.1:0", "--sandbox", mode],
                stderr=subprocess.PIPE, text=True, preexec_fn=without_landlock)
            try:
                line = process.stderr.readline()
                if mode == "on":
                    assert "CONFIG_SECURITY_LANDLOCK" in line and "lsm=" in line, line
                    equal(process.wait(DEADLINE_SECONDS), 1)
                else:
                    assert "not restricted" in line and "no Landlock" in line, line
                    assert "serving" in process.stderr.readline()
                    process.send_signal(signal.SIGTERM)
                    equal(process.wait(DEADLINE_SECONDS), 0)
            finally:
                process.kill()
                process.stderr.close()


if __name__ == "__main__":
    main(globals())
