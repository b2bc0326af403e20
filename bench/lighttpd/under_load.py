"""Rows of a few small requests that are sent while the server has other work."""
import contextlib
import json
import resource
import signal
import socket
import statistics
import subprocess

import measure
from measure import say

IDLE_RATE = 200  # requests a second while the idle connections are held
COLD_RATE = 500  # requests a second, for a small cached file, while cold files are sent
COLD_CONNECTIONS = 16
BESIDE_CONNECTIONS = 16


def measure_idle(context, count, server, port):
    """Memory for each idle connection, and the latency of other connections."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    pids = server.pids()
    path = context.documents.paths["1KiB"][0]
    # Memory that a server allocates for requests in flight is not that of idle connections: it is
    # allocated before, and then one after the other makes its request.
    measure.kevring_load(context.programs["load"], port,
                         ["--path", path, "--connections", 64, "--duration", 0.5], pids,
                         context.seconds_max(), context.cpus)
    before = measure.memory_kib(pids)
    request = (f"GET {path} HTTP/1.1\r\n"
               f"Host: {measure.HOST}:{port}\r\n\r\n").encode()
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(min(count, limit - 200)):
            peer = stack.enter_context(socket.create_connection((measure.HOST, port), timeout=10))
            peer.sendall(request)
            peer.recv(65536)  # the start of the answer is enough: it is alive
            held.append(peer)
        after = measure.memory_kib(pids)
        run = measure.kevring_load(
            context.programs["load"], port,
            ["--path", path, "--connections", 4, "--rate", IDLE_RATE, "--duration",
             max(1.0, context.seconds)], pids, context.seconds_max(), context.cpus)
        alive = 0
        for peer in held:
            peer.setblocking(False)
            with contextlib.suppress(OSError):
                while peer.recv(65536):
                    pass
                continue  # the end of the stream: the server has closed it
            alive += 1
    return {"requests": run["responses"], "requests_per_second": run["requests_per_second"],
            "p50_us": run["latency_us"]["p50"], "p99_us": run["latency_us"]["p99"],
            "errors": run["errors"]["total"] + len(held) - alive,
            "cpu_seconds": run["server_cpu_seconds"],
            "busy": run["server_cpu_seconds"] / run["seconds"],
            "memory_kib": after, "idle_count": len(held), "idle_held": alive,
            "idle_bytes_each": 1024 * max(after - before, 0) / max(len(held), 1)}


def measure_cold(context, document, server, port):
    """Files that are not in memory, each once; the latencies are those of a concurrent small request."""
    tree, program = context.documents, context.programs["load"]
    tree.forget(document)
    common = [program, "--target", f"{measure.HOST}:{port}"]
    with subprocess.Popen(
            common + ["--path", tree.paths["100B"][0], "--connections", "2", "--rate",
                      str(COLD_RATE), "--duration", str(context.seconds_max()), "--json", "-"],
            stdout=subprocess.PIPE, text=True) as probe:
        try:
            run = measure.kevring_load(
                program, port,
                ["--paths", tree.request_files[document], "--learn-by-head",
                 "--requests", len(tree.paths[document]), "--connections", COLD_CONNECTIONS,
                 "--duration", context.seconds_max(), "--timeout", 20],
                server.pids(), context.seconds_max() + 30)
            probe.send_signal(signal.SIGTERM)
            seen = json.loads(probe.communicate(timeout=10)[0])
        finally:
            if probe.poll() is None:
                probe.kill()
    return {"requests": run["responses"], "requests_per_second": run["requests_per_second"],
            "p50_us": seen["latency_us"]["p50"], "p99_us": seen["latency_us"]["p99"],
            "max_us": seen["latency_us"]["max"], "probe_requests": seen["responses"],
            "errors": run["errors"]["total"] + seen["errors"]["total"],
            "cpu_seconds": run["server_cpu_seconds"],
            "busy": run["server_cpu_seconds"] / run["seconds"],
            "megabytes_per_second": run["bytes"] / run["seconds"] / 1e6}


def measure_beside(context, document, server, port):
    """Downloads of one large file in memory; the latencies are those of a small request beside them."""
    tree, program = context.documents, context.programs["load"]
    with subprocess.Popen(
            [program, "--target", f"{measure.HOST}:{port}", "--path", tree.paths["1KiB"][0],
             "--connections", "1", "--duration", str(context.seconds_max()), "--json", "-"],
            stdout=subprocess.PIPE, text=True) as probe:
        try:
            run = measure.kevring_load(
                program, port,
                ["--paths", tree.request_files[document], "--connections", BESIDE_CONNECTIONS,
                 "--duration", context.seconds, "--warm-up", context.seconds / 5],
                server.pids(), context.seconds_max(), context.cpus)
            probe.send_signal(signal.SIGTERM)
            seen = json.loads(probe.communicate(timeout=10)[0])
        finally:
            if probe.poll() is None:
                probe.kill()
    return {"requests": run["responses"], "requests_per_second": run["requests_per_second"],
            "p50_us": seen["latency_us"]["p50"], "p99_us": seen["latency_us"]["p99"],
            "max_us": seen["latency_us"]["max"], "probe_requests": seen["responses"],
            "errors": run["errors"]["total"] + seen["errors"]["total"],
            "cpu_seconds": run["server_cpu_seconds"],
            "busy": run["server_cpu_seconds"] / run["seconds"]}


def print_idle(results):
    for result in results:
        for name, of in result["servers"].items():
            runs = [run for run in of["runs"] if "idle_count" in run]
            if runs:
                run = runs[0]  # later rounds find memory that the first made
                say(f"{name}: {run['idle_held']} of {run['idle_count']} idle connections held, "
                    f"{run['idle_bytes_each']:.0f} bytes of user memory each, "
                    f"a concurrent request: p99 {run['p99_us'] / 1000:.2f} ms")


def print_cold(results):
    for result in results:
        for name, of in result["servers"].items():
            runs = [run for run in of["runs"] if "megabytes_per_second" in run]
            if runs:
                say(f"{result['row']}: {name}: "
                    f"{statistics.median(run['megabytes_per_second'] for run in runs):.0f} MB/s; "
                    f"a concurrent small request: p50 {of['median']['p50_us'] / 1000:.2f} ms, "
                    f"p99 {of['median']['p99_us'] / 1000:.2f} ms, "
                    f"max {max(run['max_us'] for run in runs) / 1000:.1f} ms")
