"""A process in a session of its own, attended until it ends: its output carried, signals and deadlines noticed."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from mlcube.signals import Signals
from mlcube.stream import Route

if TYPE_CHECKING:
    import subprocess

__all__ = ["Attended", "Child", "attend", "kill"]

_LINGER_SECONDS = 0.5
"""How long output is waited for after the process has ended, when something in the background keeps its pipe."""

_LONGEST_POLL = 86400.0
"""The kernel counts in milliseconds, and not very far."""


class Attended(Protocol):
    """What goes on by itself and prints: a process that was started, or a job somewhere else."""

    gone: bool
    """Whether it has been seen to have ended."""
    impatient: bool
    """Do not wait for a reader who does not read."""

    def finished(self, now: float) -> bool:
        """Whether it has ended and everything that it printed was carried."""

    def signal(self, number: int) -> None:
        """Send a signal to what is attended."""

    def register(self, poller: select.poll) -> dict[int, Callable[[], object]]:
        """What to wait for; gives what is to be done then, by descriptor."""

    def wait_seconds(self, now: float) -> float | None:
        """How long to wait at most before looking again."""

    def reap(self) -> int:
        """The exit status."""

    def close(self) -> None:
        """Let go of everything."""


class Child:
    """A started process and the routes of what it prints."""

    __slots__ = ("_drain_by", "_watch", "gone", "impatient", "process", "routes")

    def __init__(self, process: "subprocess.Popen[bytes]", routes: tuple[Route, ...] = ()) -> None:
        self.process = process
        self.routes = list(routes)
        self.gone = False
        """Whether it has been seen to have ended."""
        self.impatient = False
        """Do not wait for a reader who does not read."""
        self._drain_by: float | None = None
        self._watch = _end_of(process.pid)

    def ended(self) -> bool:
        """Whether the process has ended. It stays a zombie until `reap`, so that its group's number stays its own."""
        if not self.gone:
            self.gone = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self.gone

    def finished(self, now: float) -> bool:
        """Whether the process has ended and everything that it printed was carried."""
        if not self.ended():
            return False
        if self._drain_by is None:
            self._drain_by = now + _LINGER_SECONDS
        elif now >= self._drain_by:
            for route in self.routes[:]:
                if route.left is None:
                    route.finish_with_what_is_there()
                if self.impatient:
                    route.give_up()
                if route.left == 0 and not route.pending:
                    self._drop(route)
        return not self.routes

    def signal(self, number: int) -> None:
        """Send a signal to the process and to everything in its group."""
        with suppress(ProcessLookupError, PermissionError):  # all have ended; some systems say so with the second
            os.killpg(self.process.pid, number)

    def reap(self) -> int:
        """The exit status; 128+n when a signal ended it."""
        status = self.process.wait()
        return 128 - status if status < 0 else status

    def close(self) -> None:
        """Let go of everything; a process that has ended leaves no zombie."""
        if self.gone:
            self.process.wait()
        for route in self.routes[:]:
            self._drop(route)
        if self._watch >= 0:
            os.close(self._watch)
            self._watch = -1

    def register(self, poller: select.poll) -> dict[int, Callable[[], object]]:
        """What to wait for; gives what is to be done then, by descriptor."""
        waiting: dict[int, Callable[[], object]] = {}
        for route in self.routes:
            outlet = route.waited_for()
            descriptor = route.source if outlet is None else outlet
            poller.register(descriptor, select.POLLIN if outlet is None else select.POLLOUT)
            waiting[descriptor] = partial(self._carry, route)
        self.register_end(poller)
        return waiting

    def register_end(self, poller: select.poll) -> None:
        """Wait for the process's end alone."""
        if not self.gone and self._watch >= 0:
            poller.register(self._watch, select.POLLIN)

    def wait_seconds(self, now: float) -> float | None:
        """How long to wait at most before looking again."""
        if not self.gone:
            return None
        if self._drain_by is None or now >= self._drain_by:
            return None
        return self._drain_by - now

    def _carry(self, route: Route) -> None:
        if not route.carry():
            self._drop(route)

    def _drop(self, route: Route) -> None:
        self.routes.remove(route)
        route.close()


def _end_of(process: int) -> int:
    """A descriptor that is readable once a child has ended."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return _told_by_thread(process)


def _told_by_thread(process: int) -> int:
    """Where the kernel has no descriptor for that: a pipe whose other end is closed then."""
    import threading

    reading, writing = os.pipe()

    def wait() -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        os.close(writing)

    threading.Thread(target=wait, daemon=True).start()
    return reading


def attend(
    child: Attended, *, signals: Signals | None = None, deadline: float | None = None, beside: Child | None = None
) -> Literal["ended", "signal", "late", "beside"]:
    """Carry the child's output until it has ended, another signal comes, time is up, or the one `beside` has ended."""
    while True:
        now = time.monotonic()
        if signals is not None and signals.arrived():
            return "signal"
        if child.finished(now):
            return "ended"
        if beside is not None and beside.ended():
            return "beside"
        if deadline is not None and now >= deadline and not child.gone:
            return "late"
        poller = select.poll()
        waiting = child.register(poller)
        if signals is not None:
            poller.register(signals.descriptor, select.POLLIN)
        limits = [child.wait_seconds(now), None if deadline is None or child.gone else deadline - now]
        if beside is not None:
            beside.register_end(poller)
            limits.append(beside.wait_seconds(now))
        shortest = min((limit for limit in limits if limit is not None), default=None)
        limit = None if shortest is None else min(max(0.0, shortest), _LONGEST_POLL) * 1000 + 1
        for descriptor, _ in poller.poll(limit):
            if descriptor in waiting:
                waiting[descriptor]()


def kill(child: Attended) -> None:
    """End a process and its group at once, and take what it printed."""
    child.impatient = True
    child.signal(signal.SIGKILL)
    attend(child, deadline=time.monotonic() + 5)
