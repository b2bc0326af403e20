"""The rows of scripts/bench: for each, the thing it measures, the things it excludes, and its baseline."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    section: str
    title: str
    unit: str
    baseline: str  # the series to which the ratio of `ours` refers
    measures: str
    excludes: str
    ours: str = "kevring"


SECTIONS = {
    "echo": "Messages on TCP",
    "rate": "Latency at a fixed rate",
    "http": "Static files",
    "http2006": "The rows of 2006",
    "queue": "The kevent queue",
    "ring": "event_ring",
    "timers": "Timers",
    "coroutines": "Coroutines",
    "threads": "Work on other threads",
}

ECHO_EXCLUDES = ("The CPU time of the client, a network between them, and TLS. On loopback the sender's CPU also does the "
                 "receiver's part of TCP, for all servers alike.")
HTTP_EXCLUDES = ("The CPU time of the client, a network, disks (unless the row is cold), TLS, and logs, which are off. "
                 "nginx runs with the better of its settings of tcp_nopush.")
LOOP_EXCLUDES = "The kernel: no system call is made. The caches are warm, and one task does nothing else."


def echo_row(name, control):
    work, size, connections = name.split("/")
    texts = {
        "echo": "each connection sends a message, and the next one when it is back (ping-pong)",
        "sink": "the server receives a stream and discards it",
        "source": "the server sends a stream, which the client discards",
        "proxy": "each message passes through the server to an echo server, and back",
    }
    baseline = "liburing-8K" if (work, size) in (("echo", "64B"), ("echo", "4KiB")) else "epoll"
    return Row(f"{name}/{control}", "echo", f"{work} of {size}, {connections} connections, {control}", "us", baseline,
               f"CPU time of the server for each message of {size}: {texts[work]}.", ECHO_EXCLUDES)


def memory_row(name):
    return Row(name, "echo", "memory of 9000 idle connections", "B", "epoll",
               "User memory of an echo server for each of 9000 connections that have had a message.",
               "Memory of the kernel, such as socket buffers, which is the larger part.")


def rate_row(kind, rate):
    server = "kevring" if kind == "echo" else "httpd"
    item = "echo messages of 64 B" if kind == "echo" else "requests for a file of 1 KiB"
    return Row(f"rate/{kind}/{rate}", "rate", f"{rate:,} {item} per second".replace(",", " "), "us",
               "epoll" if kind == "echo" else "nginx",
               f"99th percentile of the latency of {item} on 64 connections. Requests are sent when they are due, and the latency of a "
               "delayed one counts from its due time: no coordinated omission.",
               "Saturation: the rate is fixed, and below the capacity of each server. The client shares the caches of the machine.", server)


def http_row(name, control):
    load, document = name.split(":")
    section, unit = "http", "us"
    measures = {
        "load": f"CPU time of the server for a response of {document}, 64 kept connections (16 from 1 MiB), kevring-load",
        "load-close": f"CPU time of the server for a connection with one response of {document} (connection churn)",
        "load-10": f"CPU time of the server for a response of {document}, a new connection for each 10 requests",
        "wrk": f"CPU time of the server for a response of {document}, 64 kept connections, wrk",
        "beside": f"CPU time of the server for a response of {document} to 16 clients; the latencies are those of a concurrent 1 KiB request",
    }.get(load)
    if load == "idle":
        unit = "B"
        measures = f"User memory of the server for each of {document} idle connections; the latencies are those of other requests"
    elif load == "cold":
        measures = (f"99th percentile of the latency of a small request while files of {document} that are not in the page cache "
                    "are sent to 16 clients")
    elif measures is None:
        section = "http2006"
        tool, _, how = load.partition("-")
        kept = "one connection for each request" if how == "close" else "kept connections"
        measures = f"CPU time of the server for a response of {document} to {tool}, {kept}, as in the reports of 2006"
    titles = {"load": "file of", "load-close": "one connection for", "load-10": "ten requests each,", "wrk": "wrk, file of",
              "beside": "downloads of", "idle": "idle connections:", "cold": "files not in memory,"}
    return Row(f"{name}/{control}", section, f"{titles.get(load, load + ',')} {document}, {control}", unit, "nginx", measures + ".",
               HTTP_EXCLUDES, "httpd")


PORTS = {  # series of ours: how it collects; its baseline is an epoll loop, or hand-written multishot polls
    "epoll_port, get_events": ("kevent_get_events", "epoll"),
    "epoll_port, wait": ("kevent_wait and the ring", "epoll"),
    "ring_port, get_events": ("one thread, kevent_get_events", "ring, identity"),
    "ring_port, wait": ("one thread, kevent_wait and the ring", "ring, identity"),
    "driver_port, wait": ("driver thread, kevent_wait and the ring", "epoll"),
    "modify: epoll_port": ("MODIFY after each event", "modify: epoll"),
    "modify: ring_port": ("one thread, MODIFY after each event", "modify: epoll"),
}


def port_rows(burst):
    for series, (how, baseline) in PORTS.items():
        yield Row(f"queue/{series}/{burst}", "queue", f"{how}, bursts of {burst}", "ns", baseline,
                  f"CPU time of the process for an event: of 1000 pipes {burst} become ready, and one thread collects them by {how}.",
                  "Other event types and several collecting threads. The write and the read of the pipe are included, for the baseline too.",
                  series)


def loop_row(burst):
    return Row(f"queue/awaited/{burst}", "queue", f"event_queue awaited by a loop, bursts of {burst}", "ns", "poll_stream",
               f"CPU time for an event of an eventfd, {burst} at a time, that a coroutine awaits from one event_queue.",
               "The C interface. The baseline awaits one poll_stream for each descriptor.")


def ring_row(pairs, batch):
    return Row(f"ring/{pairs}/{batch}", "ring", f"{pairs} producer{'s' * (pairs > 1)}, {pairs} consumer{'s' * (pairs > 1)}, batches of {batch}", "ns", "mutex_deque",
               "CPU time of all threads for an event of 40 bytes from thread to thread, through a queue of 4096.",
               "Sleeping: a thread that finds nothing yields. Baselines whose header is not installed are left out.", "event_ring")


def timer_row(name, title, measures):
    return Row(f"timers/{name}", "timers", title, "ns", "binary heap", measures, "The kernel's timer: expiry is simulated.", "timer wheel")


TIMER_ROWS = {
    "arm_and_disarm": timer_row("arm_and_disarm", "arm and disarm, 100 000 active",
                                "CPU time to arm a timer and disarm it again, as a timeout that does not expire."),
    "arm_and_fire": timer_row("arm_and_fire", "arm and fire, 100 000 active", "CPU time to arm a timer that expires."),
    "message_moves_idle_timeout": timer_row("message_moves_idle_timeout", "move an idle timeout, 100 000 active",
                                            "CPU time to postpone a timeout, as each message of a connection does."),
}


def step_row(name, title, baseline, measures, section="coroutines", excludes=LOOP_EXCLUDES):
    return Row(f"{section}/{name}", section, title, "ns", baseline, measures, excludes)


STEP_ROWS = {
    "await_ready": step_row("await_ready", "an await that is ready", "function call", "CPU time to await a buffered item."),
    "resume": step_row("resume", "a resumption, of 64 coroutines", "function call",
                       "CPU time to suspend a coroutine and to resume it by the loop."),
    "child_task": step_row("child_task", "a child task", "frame by malloc", "CPU time to create, run and destroy a child task."),
    "mutex": step_row("mutex", "a mutex that is free", "std::mutex", "CPU time to lock and unlock."),
    "channel": step_row("channel", "an item through a channel of 64", "function call",
                        "CPU time for an item from one task to another task of the same loop."),
    "blocking": step_row("blocking", "blocking() and back", "std::async",
                         "Wall-clock time of a call on another thread whose result the caller awaits.", "threads",
                         "The work of the call, which is empty, and waiting for a busy pool."),
    "resume_on": step_row("resume_on", "resume_on(pool) and back", "Asio pool and back",
                          "Wall-clock time of a coroutine that moves to a pool thread and returns.", "threads",
                          "The work on the pool, which is empty."),
    "submit": step_row("submit", "submit() and join()", "Asio pool, future",
                       "Wall-clock time of a task that is submitted to another loop and joined.", "threads",
                       "The work of the task, which is empty."),
}
