#!/usr/bin/env python3
"""The address of the client in a PROXY header."""
import json
import os
import socket
import struct
import sys

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import DEADLINE_SECONDS, equal, receive_all, receive_some, Server, wait_for, main

REQUEST = b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FILES = {"page": b"the page"}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_1(client):
    family = "TCP6" if ":" in client else "TCP4"
    other = "2001:db8::2" if ":" in client else "192.0.2.9"
    return f"PROXY {family} {client} {other} 4711 80\r\n".encode()


def version_2(client, extension=b"", command=0x21):
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    rest = socket.inet_pton(family, client) * 2 + struct.pack("!HH", 4711, 80) + extension
    kind = 0x21 if ":" in client else 0x11
    return SIGNATURE + struct.pack("!BBH", command, kind, len(rest)) + rest


def exchange(server, sent, pieces=None):
    """The response, or nothing if the server ends the connection without one."""
    with server.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces or [sent]:
                peer.sendall(piece)
            return receive_all(peer)
        except ConnectionError:
            return b""


def logged(server):
    """The clients in the access log."""
    with open(os.path.join(server.folder.name, "log"), encoding="utf-8") as log:
        return [json.loads(line)["client"] for line in log]


def test_a_named_proxy_names_the_client():
    with Server("--proxy-protocol", "127.0.0.1", "--access-log", "FOLDER/log",
                "--access-log-format", "json", files=FILES) as server:
        clients = []
        for client in ("192.0.2.1", "2001:db8::1"):
            for header in (version_1(client), version_2(client), version_2(client, b"\4\0\1x")):
                assert exchange(server, header + REQUEST).endswith(b"the page"), header
                whole = header + REQUEST
                pieces = [whole[at:at + 1] for at in range(len(whole))]
                assert exchange(server, None, pieces).endswith(b"the page"), header
                clients += [client] * 2
        for header in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"):
            assert exchange(server, header + REQUEST).endswith(b"the page"), header
            clients.append("127.0.0.1")
        wait_for(lambda: logged(server) == clients, lambda: f"{logged(server)}")


def test_requests_follow_the_header_on_one_connection():
    with Server("--proxy-protocol", "127.0.0.0/8", files=FILES) as server, server.connect() as peer:
        keep = REQUEST.replace(b"Connection: close\r\n", b"")
        peer.sendall(version_2("192.0.2.1") + keep + keep)
        receive_some(peer, lambda received: received.count(b"the page") == 2)
        peer.sendall(keep + version_1("192.0.2.2"))  # a second header is no request
        received = receive_all(peer)
        assert b"the page" in received and b"HTTP/1.1 400 " in received, received


def test_a_named_proxy_without_a_header_is_not_served():
    with Server("--proxy-protocol", "127.0.0.1", "--head-timeout", "0.3", files=FILES) as server:
        for sent in (REQUEST, b"PROXY TCP4 x y 1 2\r\n" + REQUEST, version_2("192.0.2.1")[:-1],
                     version_2("192.0.2.1", command=0x22) + REQUEST, b"PROX", b""):
            equal(exchange(server, sent), b"")


def test_others_have_no_header():
    with Server("--proxy-protocol", "192.0.2.0/24", files=FILES) as server:
        assert exchange(server, REQUEST).endswith(b"the page")
        assert exchange(server, version_1("192.0.2.1") + REQUEST).startswith(b"HTTP/1.1 400 ")


def test_rules_and_limits_are_for_the_client():
    with Server("--proxy-protocol", "127.0.0.1", "--deny", "192.0.2.0/24",
                "--max-connections-per-address", "2", files=FILES) as server:
        assert exchange(server, version_1("192.0.2.1") + REQUEST).startswith(b"HTTP/1.1 403 ")
        assert exchange(server, version_1("198.51.100.1") + REQUEST).endswith(b"the page")
        keep = REQUEST.replace(b"Connection: close\r\n", b"")
        held = [server.connect() for _ in range(2)]
        for peer in held:
            peer.sendall(version_2("198.51.100.2") + keep)
            receive_some(peer, lambda received: b"the page" in received)
        equal(exchange(server, version_1("198.51.100.2") + REQUEST), b"")
        assert exchange(server, version_1("198.51.100.3") + REQUEST).endswith(b"the page")
        for peer in held:
            peer.close()
        wait_for(lambda: exchange(server, version_1("198.51.100.2") + REQUEST).endswith(b"the page"),
                 "room for a connection of the address")


def test_a_proxy_at_a_unix_socket():
    with Server("--proxy-protocol", "unix", "--allow", "192.0.2.1", files=FILES,
                listen=("127.0.0.1:0", "unix:FOLDER/http.sock")) as server:
        for client, status in (("192.0.2.1", b"200"), ("192.0.2.2", b"403")):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(DEADLINE_SECONDS)
                peer.connect(os.path.join(server.folder.name, "http.sock"))
                peer.sendall(version_2(client) + REQUEST)
                equal(receive_all(peer)[9:12], status)


if __name__ == "__main__":
    main(globals())
