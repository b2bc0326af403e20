"""The loads: kevring-load, and the wrk, ab and httperf of other people's measurements. Those named tls
are of wrk over https: with connections that stay, and with a handshake for each request.

Each returns what it saw, with the server's CPU time over the same requests. kevring-load takes both
within the run; for the others, CPU time is read before and after, so that it includes what a
server does as the connections open and close.
"""
import re
import shutil

import measure

WRK_SCRIPT = """
local paths, at = {}, 0
for line in io.lines("%s") do paths[#paths + 1] = line end
request = function()
    at = at %% #paths + 1
    return wrk.format("GET", paths[at])
end
"""


# The header of a browser's requests for the parts of a page.
BROWSER_HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Connection: keep-alive",
    "Referer: http://localhost/site/index.html",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
)


class failed_run(Exception):
    pass


def connections_for(document):
    return 16 if document in ("1MiB", "16MiB", "large") else 64


WRK_CONNECTIONS = 64
WRK_BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def available(build):
    """Names of loads, and the program of each; those that are not installed are missing."""
    found = {name: shutil.which(name) for name in ("wrk", "ab", "httperf")}
    found["load"] = f"{build}/bench/load/kevring-load"
    found["tls"] = found["wrk"] if shutil.which("openssl") else None
    return {name: program for name, program in found.items() if program}


class load_context:
    def __init__(self, programs, documents, folder, seconds, cpus):
        self.programs, self.documents, self.folder = programs, documents, folder
        self.seconds, self.cpus = seconds, cpus

    def seconds_max(self):
        return self.seconds * 3 + 30

    def url(self, port, document, scheme="http"):
        return f"{scheme}://{measure.HOST}:{port}{self.documents.paths[document][0]}"


def run(context, row, port, pids):
    kind, _, how = row.load.partition("-")
    return {"load": kevring_load, "wrk": wrk, "tls": tls, "ab": ab, "httperf": httperf}[kind](
        context, row.document, how, port, pids)


def kevring_load(context, document, how, port, pids):
    options = ["--paths", context.documents.request_files[document],
               "--connections", connections_for(document),
               "--duration", context.seconds, "--warm-up", context.seconds / 5]
    if context.cpus:
        options += ["--threads", len(context.cpus)]
    if how == "close":
        options += ["--close", "--source-count", 4]
    elif how:
        options += ["--requests-per-connection", how, "--source-count", 4]
    if document == "site":
        for line in BROWSER_HEADERS:
            options += ["--header", line]
    report = measure.kevring_load(context.programs["load"], port, options, pids,
                                  context.seconds_max(), context.cpus)
    return {"requests": report["responses"],
            "requests_per_second": report["requests_per_second"],
            "p50_us": report["latency_us"]["p50"], "p99_us": report["latency_us"]["p99"],
            "errors": report["errors"]["total"], "cpu_seconds": report["server_cpu_seconds"],
            "busy": report["server_cpu_seconds"] / report["seconds"],
            "load_busy": report["load_cpu_seconds"] / report["seconds"]}


def _run(context, argv, pids):
    before = measure.cpu_ns(pids)
    code, output, problem = measure.run_load([str(part) for part in argv], context.seconds_max(),
                                             context.cpus)
    spent = (measure.cpu_ns(pids) - before) / 1e9
    if code != 0:
        raise failed_run((problem or output).strip()[-300:])
    return output, spent


def _field(pattern, text, otherwise=None):
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        if otherwise is None:
            raise failed_run(f"no {pattern!r} in: {text[-300:]}")
        return otherwise
    return float(found.group(1))


def tls(context, document, how, port, pids):
    # wrk resumes no session, so that each connection costs a whole handshake.
    more = ["-H", "Connection: close"] if how == "close" else []
    return wrk(context, document, how, port, pids, "https", [f"-c{connections_for(document)}", *more])


def wrk(context, document, _how, port, pids, scheme="http", more=()):
    argv = [context.programs["wrk"], "-t1", f"-c{WRK_CONNECTIONS}",
            f"-d{max(1, round(context.seconds))}s", "--latency", "--timeout", "10s", *more]
    if len(context.documents.paths[document]) > 1:
        script = f"{context.folder}/wrk-{document}.lua"
        with open(script, "w", encoding="ascii") as file:
            file.write(WRK_SCRIPT % context.documents.request_files[document])
        argv += ["-s", script]
    text, spent = _run(context, argv + [context.url(port, document, scheme)], pids)

    def percentile(name):
        found = re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s) *$", text, re.MULTILINE)
        if found is None:
            raise failed_run(f"no latency in: {text[-300:]}")
        return float(found.group(1)) * {"us": 1, "ms": 1e3, "s": 1e6}[found.group(2)]

    errors = sum(int(number) for number in re.findall(
        r"(?:connect|read|write|timeout) (\d+)", text)) + _field(
            r"Non-2xx or 3xx responses: (\d+)", text, 0.0)
    requests = _field(r"^\s+(\d+) requests in", text)
    per_second = _field(r"^Requests/sec:\s+([\d.]+)", text)
    if document == "16MiB":  # in a short run most responses are cut off by its end: by bytes
        read = re.search(r"requests in .*, ([\d.]+)([KMG]?B) read", text)
        seconds = requests / per_second if per_second else context.seconds
        requests = float(read.group(1)) * WRK_BYTES[read.group(2)] / (16 << 20)
        per_second = requests / seconds
    return {"requests": requests, "requests_per_second": per_second,
            "p50_us": percentile("50"), "p99_us": percentile("99"), "errors": int(errors),
            "cpu_seconds": spent, "busy": spent / (requests / per_second) if requests else 0}


def ab(context, document, how, port, pids):
    argv = [context.programs["ab"], "-q", "-c", connections_for(document), "-s", 10,
            "-t", max(1, round(context.seconds)), "-n", 10_000_000]
    if how == "keep":
        argv.append("-k")
    text, spent = _run(context, argv + [context.url(port, document)], pids)
    requests = _field(r"^Complete requests:\s+(\d+)", text)
    per_second = _field(r"^Requests per second:\s+([\d.]+)", text)
    return {"requests": int(requests), "requests_per_second": per_second,
            "p50_us": 1000 * _field(r"^\s+50%\s+(\d+)", text),
            "p99_us": 1000 * _field(r"^\s+99%\s+(\d+)", text),
            "errors": int(_field(r"^Failed requests:\s+(\d+)", text)
                          + _field(r"^Non-2xx responses:\s+(\d+)", text, 0.0)),
            "cpu_seconds": spent, "busy": spent / (requests / per_second) if requests else 0}


# httperf opens connections at a rate, whether or not the server keeps up, as in 2006. The rates
# are below what any of the servers can do, so that its figure is CPU time, not requests a second.
HTTPERF_CONNECTIONS_PER_SECOND = {"close": 3000, "keep": 300}
HTTPERF_CALLS = {"close": 1, "keep": 50}


def httperf(context, document, how, port, pids):
    rate = HTTPERF_CONNECTIONS_PER_SECOND[how]
    argv = [context.programs["httperf"], "--hog", "--server", measure.HOST, "--port", port,
            "--uri", context.documents.paths[document][0], "--rate", rate,
            "--num-conns", max(1, round(rate * context.seconds)),
            "--num-calls", HTTPERF_CALLS[how], "--timeout", 5]
    text, spent = _run(context, argv, pids)
    requests = _field(r"replies (\d+) test-duration", text)
    seconds = _field(r"test-duration ([\d.]+) s", text)
    good = _field(r"^Reply status: 1xx=\d+ 2xx=(\d+)", text)
    return {"requests": int(requests), "requests_per_second": requests / seconds,
            "p50_us": None, "p99_us": None,  # httperf gives a mean only
            "errors": int(_field(r"^Errors: total (\d+)", text) + requests - good),
            "cpu_seconds": spent, "busy": spent / seconds}
