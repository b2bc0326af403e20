"""Runs the tests of one file, and waits for other processes: shared by the fixtures."""
import resource
import sys
import time

DEADLINE_SECONDS = 40  # the idle time (60 s) would end lost connections


def wait_for(claim, what, step_seconds=0.01):
    """Waits for an action of another process. Polls, because no event reports it."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not claim():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(step_seconds)


def run_tests(tests, wanted):
    """Runs each test of a module, or those that `wanted` names, and exits."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # some tests open many connections
    failed = 0
    for name, test in list(tests.items()):
        if not name.startswith("test_") or (wanted and name not in wanted):
            continue
        print(name[5:].replace("_", " "), flush=True)
        begin = time.monotonic()
        try:
            test()
        except Exception as failure:  # the tests that follow still run
            failed += 1
            print(f"  FAILED: {type(failure).__name__}: {failure}", flush=True)
        print(f"  ({time.monotonic() - begin:.1f} s)", flush=True)
    sys.exit(1 if failed else 0)
