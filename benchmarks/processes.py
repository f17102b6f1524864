"""Measures whole processes, in pairs: what was measured a moment apart can be compared on a busy machine."""

import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Call", "Failed", "Sample", "pairs", "peak_mib", "sample", "spread"]


class Failed(Exception):
    """A process that was to be measured did not succeed."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What to start, and in what environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str | None = None
    leaves: str | None = None
    """A directory that it makes, which is removed afterwards, out of the time: memory or disk that one side gives
    back must not be what the other side finds ready."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one process took, the processes that it waited for included."""

    wall: float
    cpu: float


def sample(call: Call) -> Sample:
    """Start a process, wait for it, and ask the kernel what it took."""
    begun = time.perf_counter()
    process = _start(call)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - begun
    if call.leaves:
        shutil.rmtree(call.leaves, ignore_errors=True)
    _check(call, status)
    return Sample(wall=wall, cpu=usage.ru_utime + usage.ru_stime)


def pairs(ours: Call, theirs: Call, runs: int) -> list[tuple[Sample, Sample]]:
    """Both in turn, after one of each that does not count: caches are warm, bytecode is compiled."""
    sample(ours)
    sample(theirs)
    return [(sample(ours), sample(theirs)) for _ in range(runs)]


def peak_mib(call: Call) -> float:
    """The most memory that the process itself had resident.

    `ru_maxrss` will not do: Linux gives the largest of the process, of every process that it waited for, and of its
    parent at the moment of the fork. `VmHWM` is the process's own, and can be read until it ends.
    """
    process = _start(call)
    peak = 0
    while True:
        ended, status, _ = os.wait4(process, os.WNOHANG)
        if ended:
            _check(call, status)
            return peak / 1024
        peak = _resident_peak(process) or peak
        time.sleep(0.002)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _start(call: Call) -> int:
    argv = (shutil.which(call.argv[0], path=call.environment.get("PATH")) or call.argv[0], *call.argv[1:])
    if call.directory:  # posix_spawn knows no directory; `env` replaces itself, so that nothing is measured but this
        argv = ("/usr/bin/env", f"--chdir={call.directory}", *argv)
    to_nowhere = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
    return os.posix_spawn(argv[0], argv, dict(call.environment), file_actions=to_nowhere)


def _check(call: Call, status: int) -> None:
    if status:
        raise Failed(f"status {os.waitstatus_to_exitcode(status)} of: {' '.join(call.argv)}")


def _resident_peak(process: int) -> int:
    """In KiB; 0 when the process has ended."""
    try:
        with open(f"/proc/{process}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0
