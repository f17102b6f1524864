"""Several files at the same time, transferred, copied or read: the first error wins, and stops the others."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mlcube.errors import CubeError

__all__ = ["by_processors", "check_stopped", "in_parallel", "stopping"]

T = TypeVar("T")

_POLL_SECONDS = 0.1
_STOP_SECONDS = 5.0
_TURN_SECONDS = 0.0005
_here = threading.local()


class _Stopped(BaseException):
    """Ends a job whose result nobody waits for any more."""


class _ShortTurns:
    """A thread that unpacks or packs lets those in sooner that wait for nothing but to take the next piece.

    It is the whole process's: the first that enters changes it, the last that leaves changes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users, self._before = 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(_TURN_SECONDS)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                sys.setswitchinterval(self._before)


_short_turns = _ShortTurns()


def _nothing() -> None:
    """No reason to stop."""


def check_stopped() -> None:
    """End the job that runs in this thread if another one has failed."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    if stop is not None and stop.is_set():
        raise _Stopped


def stopping(check: Callable[[], None]) -> Callable[[], None]:
    """What asks `check`, and ends the job that runs in the thread if another one has failed."""

    def look() -> None:
        check_stopped()
        check()

    return look


def by_processors(most: int = 4) -> int:
    """How many jobs that compute are worth running at once: one for each processor that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(most, usable)


def in_parallel(*queues: Sequence[Callable[[], T]], workers: int = 4, check: Callable[[], None] = _nothing) -> list[T]:
    """The results of all jobs, in their order. `check` is asked in the calling thread, and may raise.

    Each queue has so many `workers`, who help at the others when theirs is empty: what one is full of does not keep
    another waiting. At the first error no further job begins, those that run end where they call `check_stopped`,
    and that error is raised.
    """
    jobs = [job for queue in queues for job in queue]
    if len(jobs) == 1:
        check()
        return [jobs[0]()]
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    stop = threading.Event()
    lock = threading.Lock()
    numbers = iter(range(len(jobs)))
    waiting = [[(next(numbers), job) for job in queue][::-1] for queue in queues]

    def work(own: int) -> None:
        _here.stop = stop
        while not stop.is_set():
            with lock:
                queue = waiting[own] or next((each for each in waiting if each), [])
                if not queue:
                    return
                number, job = queue.pop()
            try:
                results[number] = job()
            except _Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - raised where the jobs are waited for
                with lock:
                    errors.append(error)
                stop.set()

    owners = [own for _ in range(workers) for own in range(len(queues))][: len(jobs)]
    with _short_turns:
        _await([threading.Thread(target=work, args=(own,), daemon=True) for own in owners], stop, check)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(jobs))]


def _await(threads: Sequence[threading.Thread], stop: threading.Event, check: Callable[[], None]) -> None:
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            if not _starts(thread):
                break
            started.append(thread)
        if threads and not started:
            raise CubeError("no further thread can be started", hint="`ulimit -u` tells how many there may be")
        for thread in started:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                check()
                check_stopped()
    except BaseException:
        stop.set()
        end = time.monotonic() + _STOP_SECONDS
        for thread in started:  # what they hold is let go of first
            thread.join(max(0.0, end - time.monotonic()))
        raise


def _starts(thread: threading.Thread) -> bool:
    """Start it, if the system admits one more; those that run do the work of all."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
