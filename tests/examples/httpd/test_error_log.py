#!/usr/bin/env python3
"""The server's own messages: to standard error, the journal or a file, by level."""
import os
import re
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, HTTPD, wait_for, main


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def start(folder, *options):
    return subprocess.Popen([HTTPD, "--root", folder, "--listen", "127.0.0.1:0", "--threads", "1",
                             *options], stderr=subprocess.PIPE, text=True)


def stop(process):
    process.terminate()
    process.wait(DEADLINE_SECONDS)
    process.stderr.close()


def test_a_file_gets_time_level_and_message_and_is_reopened():
    with tempfile.TemporaryDirectory() as folder:
        log, moved = os.path.join(folder, "errors"), os.path.join(folder, "errors.1")
        process = start(folder, "--error-log", log)
        wait_for(lambda: os.path.exists(log) and lines_of(log), "the first line")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ notice: serving .* at http://127.*",
                            lines_of(log)[-1]), lines_of(log)
        os.rename(log, moved)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: os.path.exists(log) and "has been read again" in "".join(lines_of(log)),
                 "the new file")
        assert "read again" not in "".join(lines_of(moved)), lines_of(moved)
        stop(process)


def test_less_severe_messages_are_dropped():
    with tempfile.TemporaryDirectory() as folder:
        conf, log, where = (os.path.join(folder, name) for name in ("conf", "errors", "socket"))

        def configure(more=""):
            with open(conf, "w", encoding="utf-8") as file:
                file.write(f'root = "{folder}"\nlisten = "unix:{where}"\nthreads = 1\n'
                           f'error-log = "{log}"\nerror-log-level = "error"\n{more}')
        configure()
        process = subprocess.Popen([HTTPD, "--config", conf])
        wait_for(lambda: os.path.exists(where), "the socket")

        def failed():
            process.send_signal(signal.SIGHUP)
            return os.path.exists(log) and lines_of(log)
        configure("no-such = 1\n")
        wait_for(failed, "the error")
        process.terminate()
        equal(process.wait(DEADLINE_SECONDS), 0)
        assert all(" error: reload failed" in line for line in lines_of(log)), lines_of(log)


def test_the_journal_gets_the_level_of_each_line():
    with tempfile.TemporaryDirectory() as folder:
        process = start(folder, "--error-log", "journal")
        while not (line := process.stderr.readline()).startswith("<5>serving "):
            assert line, "the server has ended"
        stop(process)
        # Standard error that systemd has connected to the journal is known by JOURNAL_STREAM.
        for offset, begin in ((0, "<3>--no-such: "), (1, "httpd: --no-such: ")):
            with open(os.path.join(folder, "stream"), "w+", encoding="utf-8") as stream:
                known = os.fstat(stream.fileno())
                environment = dict(os.environ,
                                   JOURNAL_STREAM=f"{known.st_dev}:{known.st_ino + offset}")
                subprocess.run([HTTPD, "--no-such"], stderr=stream, env=environment,
                               timeout=DEADLINE_SECONDS, check=False)
                stream.seek(0)
                equal(stream.read()[:len(begin)], begin)


def test_an_error_at_the_start_is_on_standard_error_too():
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "errors")
        with tempfile.TemporaryFile("w+") as said:
            ended = subprocess.run([HTTPD, "--root", folder, "--listen", "192.0.2.1:1",
                                    "--error-log", log], stderr=said, timeout=DEADLINE_SECONDS,
                                   check=False)
            said.seek(0)
            text = said.read()
        equal((ended.returncode, "--listen 192.0.2.1:1" in text), (1, True))


def test_closed_standard_descriptors_are_not_used_for_clients():
    """A socket with the number of standard error would receive the server's messages."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "page"), "wb") as file:
            file.write(b"page")
        log = os.path.join(folder, "log")
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", HTTPD, "--root", folder, "--listen",
             "127.0.0.1:0", "--threads", "1", "--error-log", log, "--access-log", "-"])
        wait_for(lambda: os.path.exists(log) and "serving" in "".join(lines_of(log)), "the start")
        for number in range(3):
            equal(os.readlink(f"/proc/{process.pid}/fd/{number}"), "/dev/null")
        process.terminate()
        equal(process.wait(DEADLINE_SECONDS), 0)


if __name__ == "__main__":
    main(globals())
