"""Shared parts of the measuring scripts: a private network, servers, CPU time, rounds, disturbance.

Only processes started here are ever ended, each by its own number, and all of them are: on return,
on an exception, on a signal, and, by the kernel, when the script itself is killed.
"""
import contextlib
import ctypes
import fcntl
import glob
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 30
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# A measurement is called disturbed above these.
FOREIGN_SHARE_MAX = 0.05  # of all CPUs, used by processes that are not ours
STEAL_SHARE_MAX = 0.02  # of all CPUs, taken by the hypervisor
SPREAD_MAX = 0.10  # (largest - smallest) / median of CPU for each request, over the rounds


def say(text=""):
    print(text, flush=True)


def end_on_signals():
    """SIGTERM and SIGHUP end the script as an exception does: with everything cleaned up."""
    def leave(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


# The network.

network_is_private = False


def enter_private_network():
    """Runs the script again inside a network namespace of its own, as root; returns in there.

    Where that cannot be had, it returns in the network that there is. The benchmark is then seen
    by other programs of this machine, and the congestion control is the machine's own.
    """
    global network_is_private
    if os.environ.pop("KEVRING_BENCH_NETWORK", None) == "private":
        _loopback_up()
        network_is_private = True
        return
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        return
    probe = subprocess.run([unshare, "--net", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        return
    environment = dict(os.environ, KEVRING_BENCH_NETWORK="private")
    os.execve(unshare, [unshare, "--net", "--", sys.executable, *sys.argv], environment)


def _loopback_up():
    get_flags, set_flags, up = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14s", b"lo", flags | up, b""))


CONGESTION_CONTROLS = ("reno", "cubic", "bbr")
_CONTROL_PATH = "/proc/sys/net/ipv4/tcp_congestion_control"


_LOCAL_ROUTES = ("127.0.0.0/8", "127.0.0.1")


def congestion_control():
    """The algorithm that a server's connections get."""
    with socket.create_server((HOST, 0)) as listener, \
            socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        name = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        return name.split(b"\0")[0].decode("ascii")


def set_congestion_control(name="reno"):
    """Sets it for new connections of a private network, and returns the one in force.

    Linux lets a network namespace choose only the algorithms of tcp_allowed_congestion_control. Its
    routes may name any that is loaded.
    """
    if network_is_private:
        _route_congestion_control(None)
        with contextlib.suppress(OSError), open(_CONTROL_PATH, "w", encoding="ascii") as file:
            file.write(name)
        if congestion_control() != name:
            _route_congestion_control(name)
    return congestion_control()


def _route_congestion_control(name):
    program = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        return
    for route in _LOCAL_ROUTES:
        subprocess.run([program, "route", "replace", "local", route, "dev", "lo", "proto", "kernel",
                        "scope", "host", "src", HOST, "table", "local",
                        *(["congctl", name] if name else [])], capture_output=True, check=False)


def free_port():
    with socket.socket() as any_socket:
        any_socket.bind((HOST, 0))
        return any_socket.getsockname()[1]


# Processes.

def _child_setup(cpus):
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork
    parent = os.getpid()

    def setup():
        os.setpgid(0, 0)  # lighttpd with several workers ends its whole process group
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        if cpus:
            os.sched_setaffinity(0, cpus)
    return setup


def descendants(pid):
    """`pid` and all of its children, theirs, and so on."""
    found = [pid]
    for parent in found:
        for path in glob.glob(f"/proc/{parent}/task/*/children"):
            with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
                found.extend(int(child) for child in file.read().split())
    return found


def cpu_ns(pids):
    """The CPU time of whole processes: user and system, all threads, also those that have ended.

    This is what /proc/PID/stat says in its utime and stime, from the same counters of the kernel,
    but in nanoseconds instead of hundredths of a second. The io_uring workers of a process
    (iou-wrk-PID) are threads of it, and so are in the sum.
    """
    total = 0
    for pid in pids:
        clock = ((~pid) << 3) | 2  # what clock_getcpuclockid(3) makes of a process number
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns(clock)
    return total


def cpu_ticks(pids):
    """The same as /proc/PID/stat says it, in clock ticks; to check cpu_ns() against."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total


def memory_kib(pids):
    """Proportional set size: memory that several of the processes share counts once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), \
                open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total


def raise_fd_limit():
    """As many descriptors as this process may have, for its connections and those of servers."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def sampling(sample, period_seconds=0.02):
    """Calls `sample` again and again, on a thread of its own, and once at the end."""
    ended = threading.Event()

    def work():
        while not ended.wait(period_seconds):
            sample()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sample()


class server:
    """A server under measurement, for a with statement."""

    def __init__(self, name, argv, port, cpus=None, log=None):
        self.name, self.argv, self.port, self.cpus, self.log = name, argv, port, cpus, log
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        output = open(self.log, "ab") if self.log else subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=_child_setup(self.cpus))
        finally:
            if self.log:
                output.close()
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} does not start: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self):
        if not self.log:
            return " ".join(self.argv)
        with contextlib.suppress(OSError), open(self.log, errors="replace", encoding="utf-8") as f:
            return f.read()[-1000:]
        return ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def pids(self):
        return descendants(self.process.pid) if self.alive() else []

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in reversed(self.pids()):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
        self.process.wait()


def run_load(argv, seconds_max, cpus=None):
    """Runs a load to its end and returns its output; ends it when it takes too long."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace",
                               preexec_fn=_child_setup(cpus))
    try:
        output, problem = process.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        name = " ".join(os.path.basename(str(part)) for part in argv[:2])  # of a script the interpreter is no name
        raise RuntimeError(f"{name} did not end within {seconds_max:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its children too, which hold the pipe; it leads a group of its own
            process.communicate()
    return process.returncode, output, problem


def kevring_load(program, target_port, options, server_pids=(), seconds_max=60, cpus=None):
    """Runs kevring-load and returns its report; errors of the load are in the report."""
    argv = [program, "--target", f"{HOST}:{target_port}", "--json", "-", *map(str, options)]
    if cpus:
        for cpu in sorted(cpus):
            argv += ["--cpu", str(cpu)]
    for pid in server_pids:
        argv += ["--pid", str(pid)]
    code, output, problem = run_load(argv, seconds_max)
    if code not in (0, 3):
        raise RuntimeError(problem.strip() or f"kevring-load ended with {code}")
    return json.loads(output)


# The machine.

class disturbance:
    """Measures what else the machine did between begin() and end()."""

    def begin(self):
        self.stat = self._read()
        self.own = self._own_ticks()
        return self

    def end(self, server_ticks):
        """`server_ticks` is the CPU time of processes that still run, which wait(2) has not told."""
        busy, steal, total = (now - then for now, then in zip(self._read(), self.stat))
        own = self._own_ticks() - self.own + server_ticks
        total = max(total, 1)
        return {"foreign_share": round(max(busy - own, 0) / total, 4),
                "steal_share": round(steal / total, 4),
                "load_average": os.getloadavg()[0]}

    @staticmethod
    def _read():
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:]]
        user, nice, system, idle, iowait, irq, softirq, steal = fields[:8]
        busy = user + nice + system + irq + softirq
        return busy, steal, busy + idle + iowait + steal

    @staticmethod
    def _own_ticks():
        times = os.times()
        return sum(times[:4]) * TICKS_PER_SECOND


def is_disturbed(facts, seconds):
    """In words, or None. In a short run one tick is much, so the bounds are widened by two."""
    ticks_all = max(seconds * TICKS_PER_SECOND * os.cpu_count(), 1)
    reasons = []
    if facts["foreign_share"] > FOREIGN_SHARE_MAX + 2 / ticks_all:
        reasons.append(f"other processes used {facts['foreign_share']:.0%} of the CPUs")
    if facts["steal_share"] > STEAL_SHARE_MAX + 2 / ticks_all:
        reasons.append(f"{facts['steal_share']:.0%} of the CPUs was stolen")
    return "; ".join(reasons) or None


def spread(values):
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def machine():
    """The properties of the machine that a reader needs to judge the figures."""
    model = "unknown"
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file
                      if line.startswith("model name")), model)
    mitigations = {}
    for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*")):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            mitigations[os.path.basename(path)] = file.read().strip()
    return {"kernel": os.uname().release, "cpu": model, "cpus": sorted(os.sched_getaffinity(0)),
            "mitigations": mitigations}


def compiler_of(build):
    """Name and version of the C++ compiler of a build folder, as "gcc 12.2.0"; meson 1.0 has no introspection of it."""
    with open(os.path.join(build, "meson-info", "intro-targets.json"), encoding="utf-8") as file:
        sources = (part for target in json.load(file) for part in target["target_sources"])
        argv = next(part["compiler"] for part in sources if part.get("language") == "cpp")
    if os.path.basename(argv[0]) == "ccache":  # which may have a prefix that waits for other compilers
        argv = argv[1:]
    text = subprocess.run([*argv, "--version"], capture_output=True, text=True, check=True).stdout
    name = "clang" if "clang" in text.partition("\n")[0] else "gcc"
    option = "-dumpversion" if name == "clang" else "-dumpfullversion"
    return f"{name} {subprocess.run([*argv, option], capture_output=True, text=True, check=True).stdout.strip()}"


def split_cpus(workers):
    """CPUs for a server with this number of workers, and for the load; None, None if both share all."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < workers + 1:
        return None, None
    return set(cpus[:workers]), set(cpus[workers:workers + max(1, workers)])
