"""Interleaved rounds of jobs: order, time limit, progress, and the state file by which an interrupted run continues.

Each round runs all jobs once, so that a disturbance that lasts falls on all of them, and a run that ends early has
measured each row. The state file has one JSON object for each line: the key of the run, then one record for each job of each round.
"""
import dataclasses
import json
import statistics
import time
import typing


@dataclasses.dataclass
class Job:
    """One program that is run once in each round, and returns samples; see report.py for their form."""

    name: str
    seconds: float  # that one round takes, as a first estimate
    run: typing.Callable[[float], list]  # gets the seconds after which it must have ended
    rounds_max: int | None = None
    rows: tuple = ()  # the names of the rows for which it has samples


class State:
    """The records of a run. A file with another key belongs to another run and is replaced."""

    def __init__(self, path, key):
        self.path = path
        self.records = []
        lines = self._read()
        if lines and lines[0] == {"key": key} and not any("complete" in line for line in lines):
            self.records = lines[1:]
        with open(path, "w", encoding="utf-8") as file:
            for line in [{"key": key}, *self.records]:
                file.write(json.dumps(line) + "\n")

    def _read(self):
        lines = []
        try:
            with open(self.path, encoding="utf-8") as file:
                for line in file:
                    lines.append(json.loads(line))
        except FileNotFoundError:
            pass
        except json.JSONDecodeError:
            pass  # the last line of a run that was killed while it wrote
        return lines

    def add(self, record):
        self.records.append(record)
        self._append(record)

    def complete(self):
        self._append({"complete": True})

    def _append(self, line):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def has(self, job, number):
        return any(record["job"] == job.name and record["round"] == number for record in self.records)

    def seconds(self):
        """The time that the recorded jobs took."""
        return sum(record["seconds"] for record in self.records)

    def estimate(self, job):
        """The seconds of one round of a job: as it took before, or its own estimate."""
        took = [record["seconds"] for record in self.records if record["job"] == job.name]
        return statistics.median(took) if took else job.seconds


def duration(seconds):
    seconds = max(0, round(seconds))
    return f"{seconds // 60} min {seconds % 60:02} s" if seconds >= 60 else f"{seconds} s"


def run_rounds(jobs, rounds, state, say, seconds_max=None, clock=time.monotonic):
    """Runs what the state does not have yet. Returns the (job, round) pairs that the time limit left out."""
    plan = [(job, number) for number in range(rounds) for job in jobs
            if job.rounds_max is None or number < job.rounds_max]
    pending = [pair for pair in plan if not state.has(*pair)]
    spent = state.seconds()
    began = clock()
    if len(pending) < len(plan):
        say(f"continues: {len(plan) - len(pending)} of {len(plan)} measurements are in {state.path}")
    left_out = []
    for at, (job, number) in enumerate(pending):
        elapsed = spent + clock() - began
        left = sum(state.estimate(other) for other, _ in pending[at:])
        if seconds_max is not None:
            left = min(left, seconds_max - elapsed)
            if state.estimate(job) > seconds_max - elapsed:
                left_out.append((job.name, number))
                continue
        say(f"[{len(plan) - len(pending) + at + 1}/{len(plan)}] round {number + 1} of {rounds}: {job.name}; {duration(left)} left")
        start = clock()
        record = {"job": job.name, "round": number}
        try:
            limit = 10 * job.seconds + 60
            record["samples"] = job.run(limit if seconds_max is None else min(limit, seconds_max - elapsed))
        except Exception as problem:  # of any kind: the other jobs still have to run
            record["failed"] = f"{type(problem).__name__}: {problem}"[-500:]
            say(f"    failed: {record['failed']}")
        state.add({**record, "seconds": round(clock() - start, 3)})
    state.complete()
    return left_out
