"""The servers under comparison, each as its makers would set it up for static files.

Logging is off everywhere, connections are kept for as many requests as the server allows, and each
has sendfile and its caches of files where it knows any. nginx listens twice: tcp_nopush saves it a
fifth of its CPU time for small files and costs it as much again for large ones, so each row is
measured against the better of the two.
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
    """`ports` are what a row may be measured at; the best for it is chosen beforehand."""

    def __init__(self, name, version, argv, ports, cpus, log):
        super().__init__(name, argv, next(iter(ports.values())), cpus, log)
        self.version, self.ports = version, ports


def httpd(program, root, workers, cpus, folder):
    port = measure.free_port()
    argv = [program, "--root", root, "--listen", f"{measure.HOST}:{port}",
            "--threads", str(workers)]
    if os.path.basename(program) == "httpd":
        argv += ["--open-files", str(OPEN_FILES), "--content-cache", CONTENT_CACHE,
                 "--precompressed"]
        version = _version([program, "--version"])
    else:  # a stand-in
        version = os.path.basename(program)
    return contestant("httpd", version, argv, {"": port}, cpus,
                      os.path.join(folder, "httpd.log"))


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


def nginx(root, workers, cpus, folder):
    program = _find("nginx")
    if program is None:
        return None
    ports = {"tcp_nopush on": measure.free_port(), "tcp_nopush off": measure.free_port()}
    listen = "".join(
        f'''    server {{
        listen {measure.HOST}:{port} backlog=4096{" reuseport" if workers > 1 else ""};
        {choice};
        root {root};
    }}
''' for choice, port in ports.items())
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
                      os.path.join(folder, "nginx.log"))
