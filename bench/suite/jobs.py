"""The jobs of scripts/bench: each runs an existing benchmark for one round, and returns its samples."""
import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

SUITE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.dirname(SUITE)
sys.path += [os.path.join(BENCH, "support"), os.path.join(BENCH, "lighttpd")]  # last: both folders have a report.py
import documents  # noqa: E402  (all found by the line above, or beside this file)
import measure  # noqa: E402
import rows  # noqa: E402
import servers  # noqa: E402
from schedule import Job  # noqa: E402

STREAM_SERVERS = (("kevring", "stream_kevring"), ("epoll", "stream_epoll"), ("liburing-8K", "stream_liburing"),
                  ("asio", "stream_asio"), ("libuv", "stream_libuv"), ("libevent", "stream_libevent"))
CONNECTIONS = 64


class Context:
    """Paths and lengths that all jobs share."""

    def __init__(self, build, seconds, full):
        self.build, self.seconds, self.full = build, seconds, full
        self.server_cpus, self.load_cpus = measure.split_cpus(1)

    def program(self, *path):
        return os.path.join(self.build, *path)

    def has(self, *path):
        return os.access(self.program(*path), os.X_OK)


def output_of(argv, seconds_max, cpus=None):
    code, output, problem = measure.run_load([str(part) for part in argv], seconds_max, cpus)
    if code != 0:
        lines = (problem or output).strip().splitlines() or [f"{argv[0]} ended with {code}"]
        raise RuntimeError(lines[-1][-300:])  # of a script: the exception without its traceback
    return output


def json_of(argv, seconds_max):
    """Runs a script of this tree that writes its results by --json."""
    with tempfile.TemporaryDirectory(prefix="kevring-bench-") as folder:
        path = os.path.join(folder, "results.json")
        output_of([sys.executable, *argv, "--json", path], seconds_max)
        with open(path, encoding="utf-8") as file:
            return json.load(file)["results"]


# Streams.

def stream_sample(row, series, run):
    return {"row": row, "series": series, "value": run["cpu_ns"] / 1000, "p50_us": run["p50_us"], "p99_us": run["p99_us"],
            "per_second": run["messages_per_second"], "disturbed": run["disturbed"]}


def echo_job(context, name, control):
    row = rows.memory_row(name) if name.startswith("memory/") else rows.echo_row(name, control)

    def run(seconds_max):
        results = json_of([os.path.join(BENCH, "run-echo"), "--build", context.build, "--rows", name, "--rounds", 1,
                           "--seconds", context.seconds, "--congestion", control], seconds_max)
        samples = []
        for result in results:
            if "bytes" in result:
                samples += [{"row": row.name, "series": series, "value": value} for series, value in result["bytes"].items()]
            else:
                samples += [stream_sample(row.name, series, run) for series, runs in result["rounds"].items() for run in runs]
        return samples
    return Job(row.name, 20 if "memory" in name else 8 * (1.2 * context.seconds + 0.5), run, 1 if "memory" in name else None), [row]


@contextlib.contextmanager
def stream_servers(context, control):
    with contextlib.ExitStack() as stack:
        started = []
        for name, program in STREAM_SERVERS:
            if not context.has("bench", "support", program):
                continue
            port = measure.free_port()
            size = "8192" if name.endswith("8K") else "65536"
            argv = [context.program("bench", "support", program), "--listen", f"{measure.HOST}:{port}", "--buffer-bytes", size,
                    "--congestion", control]
            started.append(stack.enter_context(measure.server(name, argv, port, context.server_cpus)))
        yield started


@contextlib.contextmanager
def file_servers(context, _control):
    """httpd, lighttpd and nginx with one file of 1 KiB."""
    with tempfile.TemporaryDirectory(prefix="kevring-bench-") as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        root = os.path.join(folder, "root")
        os.mkdir(root)
        documents.document_tree(root, 1, 1, set())
        started = []
        for make in (lambda: servers.httpd(context.program("examples", "httpd", "httpd"), root, 1, context.server_cpus, folder),
                     lambda: servers.nginx(root, 1, context.server_cpus, folder),
                     lambda: servers.lighttpd(root, 1, context.server_cpus, folder)):
            if (made := make()) is not None:
                started.append(stack.enter_context(made))
        yield started


def load_options(kind):
    return ["--echo", "--message-bytes", 64] if kind == "echo" else ["--path", "/1KiB.html"]


def time_left(deadline):
    """At least a second, so that a job ends by the program's own time limit rather than at once."""
    return max(1.0, deadline - time.monotonic())


class NoResponses(RuntimeError):
    """The load had errors, or ended before the first response."""


def load(context, kind, server, options, seconds_max):
    report = measure.kevring_load(context.program("bench", "load", "kevring-load"), server.port,
                                  [*load_options(kind), "--connections", CONNECTIONS, *options], server.pids(), seconds_max,
                                  context.load_cpus)
    if report["errors"]["total"] or not report["responses"]:
        raise NoResponses(f"{server.name}: {report['errors']}, {report['responses']} responses")
    return report


def rate_job(context, kind, rate, control):
    row = rows.rate_row(kind, rate)

    def run(seconds_max):
        samples, deadline = [], time.monotonic() + seconds_max
        with (stream_servers if kind == "echo" else file_servers)(context, control) as started:
            for server in started:
                watch = measure.disturbance().begin()
                ticks = measure.cpu_ticks(server.pids())
                try:
                    report = load(context, kind, server, ["--rate", rate, "--duration", 2 * context.seconds, "--warm-up", 0.2],
                                  time_left(deadline))
                except NoResponses as problem:  # the others are measured
                    samples.append({"row": row.name, "series": server.name, "failed": str(problem)})
                    continue
                facts = watch.end(measure.cpu_ticks(server.pids()) - ticks)
                samples.append({"row": row.name, "series": server.name, "value": report["latency_us"]["p99"],
                                "p50_us": report["latency_us"]["p50"], "per_second": report["requests_per_second"],
                                "disturbed": measure.is_disturbed(facts, 2 * context.seconds)})
        return samples
    return Job(row.name, 6 * (2 * context.seconds + 0.6), run), [row]


# System calls.

def attached(pids):
    """True when a tracer is attached to each process."""
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as file:
            if "TracerPid:\t0\n" in file.read():
                return False
    return True


def count_calls(pids, work):
    """The system calls that processes make during work(), and its result."""
    with tempfile.NamedTemporaryFile("r") as file:
        argv = ["strace", "-f", "-c", "-o", file.name]
        for pid in pids:
            argv += ["-p", str(pid)]
        tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 5
            while not attached(pids):
                if tracer.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("strace cannot attach; ptrace is not allowed here")
                time.sleep(0.01)
            result = work()
        finally:
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(10)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
        found = re.search(r"^\s*100\.00\s+[\d.]+\s+(?:\d+\s+)?(\d+)\s+(?:\d+\s+)?total$", file.read(), re.M)
        return int(found[1]) if found else 0, result


def calls_job(context, kind, row, control):
    """System calls for each operation: the difference of a long and a short run, so that the connections do not count."""
    def run(seconds_max):
        samples, deadline = [], time.monotonic() + seconds_max
        with (stream_servers if kind == "echo" else file_servers)(context, control) as started:
            for server in started:
                try:
                    counts = [count_calls(server.pids(), functools.partial(
                        load, context, kind, server, ["--duration", seconds, "--warm-up", 0], time_left(deadline)))
                        for seconds in (0.2, 0.8)]
                except NoResponses:
                    continue  # a busy machine, on which the traced server did not come to an end
                (few_calls, few), (many_calls, many) = counts
                more = many["responses"] - few["responses"]
                if more > 0:
                    samples.append({"row": row, "series": server.name, "calls": (many_calls - few_calls) / more})
        return samples
    return Job(f"system calls, {row}", 12, run, 1)


# Static files.

def http_job(context, names, control, seconds, rounds_max=None):
    made = [rows.http_row(name, control) for name in names]

    def run(seconds_max):
        results = json_of([os.path.join(BENCH, "lighttpd", "run"), "--build", context.build, "--rows", ",".join(names), "--rounds", 1,
                           "--seconds", context.seconds, "--workers", 1, "--congestion", control], seconds_max)
        samples = []
        for result in results:
            for series, entry in result["servers"].items():
                for one in entry["runs"]:
                    if "failed" in one:
                        samples.append({"row": f"{result['row']}/{control}", "series": series, "failed": one["failed"]})
                        continue
                    kind = result["row"].partition(":")[0]
                    value = one["idle_bytes_each"] if kind == "idle" else one["p99_us"] if kind == "cold" else one["cpu_us"]
                    samples.append({"row": f"{result['row']}/{control}", "series": series, "value": value, "p50_us": one["p50_us"],
                                    "p99_us": one["p99_us"], "per_second": one["requests_per_second"], "disturbed": one["disturbed"]})
        return samples
    return Job(f"httpd, nginx and lighttpd: {', '.join(names)}; {control}", seconds, run, rounds_max), made


# Programs of Google Benchmark, and the ports.

def watched(work):
    """The result of work() and the reason that makes it doubtful."""
    watch = measure.disturbance().begin()
    began = time.monotonic()
    result = work()
    seconds = time.monotonic() - began
    return result, measure.is_disturbed(watch.end(0), seconds)


def benchmark_job(context, name, program, wanted, made, seconds, cpus=True):
    """`wanted` has (benchmark, row, series, key of the value) for each sample; a key that is missing is left out."""
    pattern = "^(" + "|".join(sorted({re.escape(one[0]).replace("\\", "\\") for one in wanted})) + ")$"

    def run(seconds_max):
        def work():
            return output_of([context.program("bench", *program), f"--benchmark_filter={pattern}", "--benchmark_format=json",
                              f"--benchmark_min_time={0.2 if context.full else 0.03}"], seconds_max,
                             context.server_cpus if cpus else None)
        text, reason = watched(work)
        found = {one["name"]: one for one in json.loads(text[text.index("{"):])["benchmarks"]}
        samples = []
        for benchmark, row, series, key in wanted:
            if key not in found.get(benchmark, {}):
                continue
            count = 64 if benchmark.startswith("suspend_and_resume") else 1  # its time is that of all its coroutines
            samples.append({"row": row, "series": series, "value": found[benchmark][key] / count, "disturbed": reason})
            if "enters" in found[benchmark]:
                samples.append({"row": row, "series": series, "calls": found[benchmark]["enters"] + 2})  # and the write and the read
        return samples
    return Job(name, seconds, run), made


def ports_job(context):
    made = [row for burst in (1, 32, 512) for row in rows.port_rows(burst)]

    def run(seconds_max):
        text, reason = watched(lambda: output_of([context.program("bench", "kevent", "bench_kevent_ports"), "--once", "pipes"],
                                                 seconds_max))
        samples, burst = [], None
        for line in text.splitlines():
            if heading := re.search(r"bursts of (\d+)$", line):
                burst = heading[1]
                found = {}
            elif burst and (fields := line[26:].split()) and re.fullmatch(r"\d+", fields[0]):
                found[line[:26].strip()] = float(fields[0]), float(fields[-1])
                series = line[:26].strip()
                for ours, (_, baseline) in rows.PORTS.items():
                    row = f"queue/{ours}/{burst}"
                    if series == ours:
                        ours_ns, calls = found[ours]
                        samples.append({"row": row, "series": ours, "value": ours_ns, "disturbed": reason})
                        samples.append({"row": row, "series": baseline, "value": found[baseline][0], "disturbed": reason})
                        samples += [{"row": row, "series": name, "calls": count}
                                    for name, count in ((ours, calls), (baseline, found[baseline][1])) if count >= 0]
        return samples
    return Job("kevent ports", 15, run), made


def program_jobs(context):
    steps = rows.STEP_ROWS
    yield benchmark_job(context, "coroutines", ("runtime", "bench_coroutines"), [
        ("await_ready", "coroutines/await_ready", "kevring", "cpu_time"), ("function_call", "coroutines/await_ready", "function call", "cpu_time"),
        ("suspend_and_resume/coroutines:64", "coroutines/resume", "kevring", "cpu_time"),
        ("function_call", "coroutines/resume", "function call", "cpu_time"),
        ("child_task", "coroutines/child_task", "kevring", "cpu_time"),
        ("child_with_malloc", "coroutines/child_task", "frame by malloc", "cpu_time")],
        [steps[name] for name in ("await_ready", "resume", "child_task")], 1)
    yield benchmark_job(context, "mutex and channel", ("runtime", "bench_sync"), [
        ("mutex_free", "coroutines/mutex", "kevring", "cpu_time"), ("std_mutex", "coroutines/mutex", "std::mutex", "cpu_time"),
        ("channel_item/capacity:64", "coroutines/channel", "kevring", "cpu_time"),
        ("function_call", "coroutines/channel", "function call", "cpu_time")], [steps[name] for name in ("mutex", "channel")], 1)
    yield benchmark_job(context, "other threads", ("runtime", "bench_threads"), [
        ("blocking_round_trip/real_time", "threads/blocking", "kevring", "real_time"),
        ("std_async_round_trip/real_time", "threads/blocking", "std::async", "real_time"),
        ("resume_on_round_trip/real_time", "threads/resume_on", "kevring", "real_time"),
        ("asio_pool_and_back/real_time", "threads/resume_on", "Asio pool and back", "real_time"),
        ("submit_and_join/real_time", "threads/submit", "kevring", "real_time"),
        ("asio_pool_future_round_trip/real_time", "threads/submit", "Asio pool, future", "real_time")],
        [steps[name] for name in ("blocking", "resume_on", "submit")], 2, cpus=False)
    timers = [(f"{name}<{program}>/active:100000" + ("/first:0" if name == "arm_and_disarm" else ""), f"timers/{name}", series, "cpu_time")
              for name in rows.TIMER_ROWS
              for program, series in (("wheel", "timer wheel"), ("binary_heap", "binary heap"), ("multimap", "std::multimap"))]
    yield benchmark_job(context, "timers", ("runtime", "bench_timer_queue"), timers, list(rows.TIMER_ROWS.values()), 4)
    pairs = [(count, batch) for count in (1, 2) for batch in (64, 16, 1)] if context.full else [(1, 64), (1, 1)]
    ring = [(f"hand_over/pairs:{count}/batch:{batch}/manual_time", f"ring/{count}/{batch}", series, f"{series}_ns")
            for count, batch in pairs for series in ("event_ring", "moodycamel", "boost_lockfree", "mutex_deque")]
    yield benchmark_job(context, "event_ring", ("kevent", "bench_kevent_event_ring"), ring,
                        [rows.ring_row(count, batch) for count, batch in pairs], 3, cpus=False)
    awaited = [(f"{program}_eventfd/descriptors:1000/burst:{burst}", f"queue/awaited/{burst}", series, "cpu_time")
               for burst in (1, 32, 512) for program, series in (("queue", "kevring"), ("streams", "poll_stream"))]
    job, made = benchmark_job(context, "awaited queue", ("kevent", "bench_kevent_loop"), awaited,
                              [rows.loop_row(burst) for burst in (1, 32, 512)], 2)
    yield per_event(job), made
    yield ports_job(context)


def per_event(job):
    """bench_kevent_loop reports the time of a burst, and its row ends with the size."""
    def run(seconds_max):
        samples = job_run(seconds_max)
        for sample in samples:
            if "value" in sample:
                sample["value"] /= int(sample["row"].rpartition("/")[2])
        return samples
    job_run, job.run = job.run, run
    return job


ECHO_QUICK = ("echo/64B/64", "echo/16KiB/64", "sink/64KiB/64")
ECHO_FULL = (*(f"echo/{size}/64" for size in ("64B", "4KiB", "16KiB", "64KiB", "256KiB", "1MiB")), "echo/64B/1", "echo/64B/1000",
             *(f"{work}/{size}/64" for work in ("sink", "source", "proxy") for size in ("4KiB", "64KiB")))
HTTP_QUICK = ("load:1KiB", "load:64KiB", "load-close:1KiB", "wrk:1KiB", "ab-keep:100B", "httperf-close:100B")
HTTP_FULL = ("load:1KiB", "load:16KiB", "load:64KiB", "load:1MiB", "load:16MiB", "load:tree", "load-close:1KiB", "load-10:1KiB", "wrk:1KiB",
             "wrk:16KiB", "wrk:1MiB", "beside:16MiB", "cold:1MiB")
HTTP_2006 = ("ab-close:100B", "ab-keep:100B", "ab-close:2.7KB", "ab-keep:2.7KB", "httperf-close:100B", "httperf-keep:100B",
             "httperf-close:2.7KB", "httperf-keep:2.7KB")


def all_jobs(context, controls):
    """(jobs, rows) of the quick or the full run; `controls` are congestion controls, of which a quick run has the first."""
    first = controls[0]
    pairs = list(program_jobs(context))
    if context.full:
        for control in controls:
            pairs += [echo_job(context, name, control) for name in (ECHO_FULL if control == first else ECHO_QUICK)]
            pairs.append(http_job(context, HTTP_FULL, control, 120))
        pairs.append(echo_job(context, "memory/idle/9000", first))
        pairs.append(http_job(context, HTTP_2006, first, 60))
    else:
        pairs += [echo_job(context, name, first) for name in ECHO_QUICK]
        pairs.append(http_job(context, HTTP_QUICK, first, 25))
    # Later rounds find memory that the first one has allocated.
    pairs.append(http_job(context, ("idle:9000",) if context.full else ("idle:5000",), first, 12, rounds_max=1))
    pairs += [rate_job(context, "echo", rate, first) for rate in ((5000, 20000, 50000) if context.full else (20000,))]
    pairs += [rate_job(context, "http", rate, first) for rate in ((2000, 10000, 30000) if context.full else (10000,))]
    for job, made in pairs:
        job.rows = tuple(row.name for row in made)
    jobs = [job for job, _ in pairs]
    jobs.append(calls_job(context, "echo", f"echo/64B/64/{first}", first))
    jobs.append(calls_job(context, "http", f"load:1KiB/{first}", first))
    return jobs, [row for _, made in pairs for row in made]
