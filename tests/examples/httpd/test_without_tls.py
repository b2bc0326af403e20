#!/usr/bin/env python3
"""A build without OpenSSL: https is refused, and http is served."""
import os
import subprocess

from fixture import DEADLINE_SECONDS, HTTPD, Server, equal, main


def test_options_of_https_are_refused_with_the_reason():
    done = subprocess.run([HTTPD, '--root', os.devnull, '--listen-tls', '127.0.0.1:0', '--tls-cert', os.devnull],
                          capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode != 0 and '--listen-tls' in done.stderr, done
    assert 'this httpd was built without TLS' in done.stderr, done


def test_http_is_served():
    with Server(files={'page': b'one'}) as server:
        equal(server.ask('GET', '/page')[2], b'one')


if __name__ == '__main__':
    main(globals())
