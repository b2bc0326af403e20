"""The servers under comparison, each as its makers would set it up for static files.

Logging is off everywhere, connections are kept for as many requests as the server allows, and each
has sendfile and its caches of files where it knows any. nginx listens twice: tcp_nopush saves it a
fifth of its CPU time for small files and costs it as much again for large ones, so each row is
measured against the better of the two. Over TLS it does not use sendfile, and one port is enough.
"""
import os
import resource
import shutil
import subprocess

import measure

OPEN_FILES = 11000  # to be cached: more than there are
CONTENT_CACHE = "64M"  # ours: of small files, for each loop
DESCRIPTORS = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)


def _find(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _version(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    return (done.stdout + done.stderr).strip().split("\n")[0]


class contestant(measure.server):
    """`ports` are what a row may be measured at; the best for it is chosen beforehand. Rows of https
    are measured at `tls_port`; None: not at all."""

    def __init__(self, name, version, argv, ports, cpus, log, tls_port=None):
        super().__init__(name, argv, next(iter(ports.values())), cpus, log)
        self.version, self.ports, self.tls_port = version, ports, tls_port


def make_certificate(folder):
    """The PEM file of a certificate with its key, for P-256."""
    path = os.path.join(folder, "server.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", path, "-out", path + ".crt", "-days", "2", "-subj", "/CN=localhost"],
                   check=True, capture_output=True, timeout=60)
    with open(path + ".crt", encoding="ascii") as certificate, open(path, "a", encoding="ascii") as file:
        file.write(certificate.read())
    return path


def httpd(program, root, workers, cpus, folder, certificate=None):
    port = measure.free_port()
    argv = [program, "--root", root, "--listen", f"{measure.HOST}:{port}",
            "--threads", str(workers)]
    if os.path.basename(program) == "httpd":
        argv += ["--open-files", str(OPEN_FILES), "--content-cache", CONTENT_CACHE,
                 "--precompressed"]
        version = _version([program, "--version"])
    else:  # a stand-in
        version, certificate = os.path.basename(program), None
    tls_port = measure.free_port() if certificate else None
    if certificate:
        argv += ["--listen-tls", f"{measure.HOST}:{tls_port}", "--tls-cert", certificate]
    return contestant("httpd", version, argv, {"": port}, cpus,
                      os.path.join(folder, "httpd.log"), tls_port)


def liburing(program, root, workers, cpus, folder):
    port = measure.free_port()
    argv = [program, "--root", root, "--listen", f"{measure.HOST}:{port}",
            "--threads", str(workers)]
    return contestant("liburing", "bench/support/httpd_liburing", argv, {"": port}, cpus,
                      os.path.join(folder, "liburing.log"))


def lighttpd(root, workers, cpus, folder):
    program = _find("lighttpd")
    if program is None:
        return None
    port = measure.free_port()
    config = os.path.join(folder, "lighttpd.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'''server.document-root = "{root}"
server.bind = "{measure.HOST}"
server.port = {port}
server.event-handler = "linux-sysepoll"
server.network-backend = "sendfile"
server.max-fds = {DESCRIPTORS}
server.max-connections = {DESCRIPTORS // 2}
server.listen-backlog = 4096
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 120
server.errorlog = "{folder}/lighttpd.log"
mimetype.assign = ( ".html" => "text/html" )
''')
        if workers > 1:
            file.write(f"server.max-worker = {workers}\n")
    return contestant("lighttpd", _version([program, "-v"]), [program, "-D", "-f", config],
                      {"": port}, cpus, os.path.join(folder, "lighttpd.log"))


def nginx(root, workers, cpus, folder, certificate=None):
    program = _find("nginx")
    if program is None:
        return None
    ports = {"tcp_nopush on": measure.free_port(), "tcp_nopush off": measure.free_port()}
    tls_port = measure.free_port() if certificate else None
    listening = [(port, "", choice) for choice, port in ports.items()]
    if certificate:
        listening.append((tls_port, " ssl", f"ssl_certificate {certificate};\n        "
                          f"ssl_certificate_key {certificate};\n        ssl_protocols TLSv1.2 TLSv1.3"))
    listen = "".join(
        f'''    server {{
        listen {measure.HOST}:{port}{kind} backlog=4096{" reuseport" if workers > 1 else ""};
        {choice};
        root {root};
    }}
''' for port, kind, choice in listening)
    temporary = "".join(f"    {kind}_temp_path {folder}/nginx-{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'''daemon off;
worker_processes {workers};
worker_rlimit_nofile {DESCRIPTORS};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{
    use epoll;
    worker_connections {DESCRIPTORS - 256};
}}
http {{
    types {{ text/html html; text/css css; text/javascript js; image/svg+xml svg; image/jpeg jpg; image/png png; }}
    access_log off;
    sendfile on;
    gzip_static on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 120s;
    open_file_cache max={OPEN_FILES} inactive=600s;
    open_file_cache_valid 600s;
    open_file_cache_min_uses 1;
{temporary}{listen}}}
''')
    argv = [program, "-p", folder, "-e", os.path.join(folder, "nginx.log"), "-c", config]
    return contestant("nginx", _version([program, "-v"]), argv, ports, cpus,
                      os.path.join(folder, "nginx.log"), tls_port)
