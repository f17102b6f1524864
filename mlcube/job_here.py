"""Follows a job whose directory is on this host, without a process: as `sh job follow` does, while all goes well."""

import os
import select
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial

from mlcube import locks, watching
from mlcube.child import Child, attend, kill
from mlcube.failures import CannotStart
from mlcube.plan import command
from mlcube.redaction import hiding
from mlcube.starting import start
from mlcube.stream import CHUNK, Delivery, Log, Outlet

__all__ = ["JobHere"]

_WATCHED_PAUSE, _WATCHED_SECONDS = 4.0, 300.0
"""How long the pauses between two looks become at first, and how long after the last output that is."""

_CALM_SECONDS = 0.1
"""How long nothing is heard after a look: of a task that prints without end, not every word is looked for."""

_FIRST_QUESTION, _RAREST_QUESTION = 4.0, 30.0
"""How long after the beginning, and how long after the one before, whoever schedules the job is asked about it."""

_ASKING_SECONDS = 60.0
"""Whoever has asked for so long was killed."""

_CLOSING_SECONDS = 2.0

_DEAD = 1
"""The status of the script that was asked whether its task lives, if not; any other but 0 means nothing."""

_LINGER_SECONDS = 0.5
"""How long a reader who does not read is waited for after the task has ended, if nobody is patient any more."""


class JobHere:
    """A job in a directory. It has ended, too, when only its script can tell how: see `known`."""

    __slots__ = (
        "_asking",
        "_calm_until",
        "_dead",
        "_directory",
        "_drain_by",
        "_due",
        "_events",
        "_interval",
        "_more",
        "_next_question",
        "_opened",
        "_outputs",
        "_pause",
        "_quiet_since",
        "_scheduled",
        "_status",
        "_watched",
        "_words",
        "gone",
        "impatient",
    )

    def __init__(
        self, directory: str, log: Log, secrets: Mapping[str, str], outlets: tuple[int | None, int | None]
    ) -> None:
        self.gone = False
        self.impatient = False
        self._directory = directory
        self._outputs = tuple(
            _Output(
                os.path.join(directory, name),
                Delivery(log, None if outlet is None else Outlet(outlet), redaction=hiding(secrets)),
            )
            for name, outlet in zip(("stdout", "stderr"), outlets, strict=True)
        )
        self._status: int | None = None
        self._more = False
        """Whether more is there than was carried."""
        now = time.monotonic()
        self._due = self._calm_until = self._quiet_since = self._drain_by = now
        self._pause = watching.FIRST_PAUSE
        self._scheduled = os.path.exists(os.path.join(directory, "scheduler"))
        self._dead = self._watched = False
        self._asking: Child | None = None
        self._interval, self._next_question = _FIRST_QUESTION, now + _FIRST_QUESTION
        self._opened = ExitStack()
        self._events: tuple[int, ...] = ()
        self._words: str | None = os.path.join(directory, f"words.{os.uname().nodename}.{os.getpid()}")
        self._listen()

    @property
    def known(self) -> bool:
        """Whether it is known how the task ended. If not, the job's script finds out when it follows on."""
        return self._status is not None

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Of its output and of its errors."""
        return tuple(output.delivery for output in self._outputs)

    @property
    def carried(self) -> tuple[int, int]:
        """How many bytes of its output and of its errors were taken."""
        output, errors = self.deliveries
        return output.carried, errors.carried

    def finished(self, now: float) -> bool:
        """Whether the task has ended and everything that it printed was carried."""
        if self._asking is not None and self._asking.ended():
            self._dead = self._asking.reap() == _DEAD
            self._close_asking()
            self._due = now
        if self.gone:
            if self.impatient and now >= self._drain_by:
                for delivery in self.deliveries:
                    delivery.give_up()
            self._carry()
        elif now >= self._due:
            self._look(now)
        return self.gone and not self._more and not self._pending()

    def signal(self, number: int) -> None:
        """Follow no more: the task itself is told by its plan."""
        if not self.gone:
            self._end(128 + number)

    def register(self, poller: select.poll) -> dict[int, Callable[[], object]]:
        """What to wait for; gives what is to be done then, by descriptor."""
        waiting: dict[int, Callable[[], object]] = {}
        for delivery in self.deliveries:
            if (outlet := delivery.waited_for()) is not None:
                poller.register(outlet, select.POLLOUT)
                waiting[outlet] = partial(self._offer, delivery)
        if not self.gone:
            if time.monotonic() >= self._calm_until:
                for event in self._events:
                    poller.register(event, select.POLLIN)
                    waiting[event] = partial(self._hear, event)
            if self._asking is not None:
                self._asking.register_end(poller)
        return waiting

    def wait_seconds(self, now: float) -> float | None:
        """How long to wait at most before looking again."""
        if self._more:
            return 0.0
        if self.gone:
            return self._drain_by - now if self.impatient else None
        return (self._calm_until if now < self._calm_until else self._due) - now

    def reap(self) -> int:
        """The task's exit status, if it is known."""
        return 1 if self._status is None else self._status

    def close(self) -> None:
        """Let go of everything."""
        if self._asking is not None:
            # Whoever is ended while asking keeps all others from asking for a while.
            attend(self._asking, deadline=time.monotonic() + _CLOSING_SECONDS)
            kill(self._asking)
            self._close_asking()
        self._opened.close()
        self._events = ()
        if self._words is not None:
            with suppress(OSError):
                os.unlink(self._words)
            self._words = None
        for delivery in self.deliveries:
            delivery.close()

    # What comes

    def _listen(self) -> None:
        """Where the task runs on this host, it tells of its beginning and of its end."""
        try:
            assert self._words is not None  # noqa: S101 - nothing is closed yet
            with suppress(FileNotFoundError):
                os.unlink(self._words)
            os.mkfifo(self._words)
            event = os.open(self._words, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            self._words = None
            return
        self._opened.callback(os.close, event)
        self._events += (event,)

    def _close_asking(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _offer(self, delivery: Delivery) -> None:
        delivery.offer()
        if not delivery.pending:
            self._due = time.monotonic()

    def _pending(self) -> bool:
        return any(delivery.pending for delivery in self.deliveries)

    def _hear(self, event: int) -> None:
        with suppress(BlockingIOError):
            os.read(event, 1 << 16)
        self._due = time.monotonic()

    # Looking

    def _look(self, now: float) -> None:
        status = self._ended()
        if self._carry():
            self._pause, self._quiet_since = watching.FIRST_PAUSE, now
        if status is not None:  # what the task printed was there before it
            self._end(self._plain(status))
        elif not os.path.exists(os.path.join(self._directory, "job")):
            message = f"error: the directory of the task is gone: {self._directory}\n"
            self.deliveries[1].take(message.encode(errors="surrogateescape"))
            self._end(137)
        elif not self._lives(now):
            if self._ended() is None:
                self._end(None)
            else:
                self._due = now
        elif not self._more:
            longest = _WATCHED_PAUSE if now - self._quiet_since < _WATCHED_SECONDS else watching.LONGEST_PAUSE
            self._due, self._calm_until = now + self._pause, now + _CALM_SECONDS
            self._pause = watching.grown(self._pause, longest)

    def _carry(self) -> bool:
        """Move a piece of each output; whether there was any."""
        self._more = False
        for output in self._outputs:
            self._more |= output.carry()
        return self._more

    def _ended(self) -> str | None:
        """What the file with the status says; None while it says nothing."""
        return self._line("status").strip() or None

    def _plain(self, status: str) -> int | None:
        """The status, unless whatever schedules jobs may have a word to say about it."""
        if not status.isascii() or not status.isdecimal():
            return None
        noted = ("state", "terminated")
        if self._scheduled and (
            status == "137" or any(os.path.exists(os.path.join(self._directory, name)) for name in noted)
        ):
            return None
        return int(status)

    def _end(self, status: int | None) -> None:
        self.gone, self._status = True, status
        self._drain_by = time.monotonic() + _LINGER_SECONDS
        for output in self._outputs:
            output.ends_here()
        self._more = True  # perhaps

    def _line(self, name: str) -> str:
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                return file.read(4096).partition(b"\n")[0].decode(errors="replace")
        except OSError:
            return ""

    # Whether it lives

    def _lives(self, now: float) -> bool:
        """Whether the task can still end of itself, for all that is known here; its script knows better."""
        runs = self._runs()
        if runs:
            if not self._watched:
                self._watched = True
                self._events += self._opened.enter_context(watching.growing(self._directory))
            return True
        if not self._scheduled:
            return runs is None
        return self._queued(now)

    def _runs(self) -> bool | None:
        """Whether the process runs that performs the task; None when only another host can tell."""
        match self._line("runner").split():
            case [pid, host, boot, began]:
                if host != os.uname().nodename:
                    return None
                if not (pid.isdecimal() and began.isdecimal()):  # as systems without /proc say it
                    return False
                boot = "" if boot == "-" else boot
                return locks.alive(locks.Holder(pid=int(pid), host=host, boot=boot, start=int(began)))
        return False

    def _queued(self, now: float) -> bool:
        """Whether the job is in the queue, as far as somebody has asked lately; nobody's answer is no end."""
        if self._dead or self._asking is not None or now < self._next_question:
            return not self._dead
        self._interval = watching.grown(self._interval, _RAREST_QUESTION)
        self._next_question = now + self._interval
        oldest = int(self._interval / 2) + 1
        if not self._answered(oldest):
            ask = command("sh", os.path.join(self._directory, "job"), "alive", str(oldest))
            with suppress(CannotStart):
                self._asking = start(ask, Log(None), {}, None)
        return True

    def _answered(self, oldest: int) -> bool:
        """Whether the answer that all jobs share says so, or is just being asked for."""
        try:
            with open(os.path.join(self._directory, "alive"), "rb") as file:
                path, beginning = file.read(8192).splitlines()
            with open(path, "rb") as file:
                asked, _, lines = file.read().partition(b"\n")
            if 0 <= time.time() - int(asked) < oldest and b"\n" + beginning in b"\n" + lines:
                return True
            return time.time() - os.stat(path + b".asking").st_mtime < _ASKING_SECONDS
        except (OSError, ValueError):
            return False


class _Output:
    """A file of what the task prints, as far as it was carried."""

    __slots__ = ("_most", "_path", "delivery")

    def __init__(self, path: str, delivery: Delivery) -> None:
        self._path = path
        self.delivery = delivery
        self._most = float("inf")
        """How many bytes of it are the task's."""

    def ends_here(self) -> None:
        """What comes to it from now on is none of the task's."""
        try:
            self._most = os.stat(self._path).st_size
        except OSError:
            self._most = 0

    def carry(self) -> bool:
        """Move one piece; whether there was one."""
        if self.delivery.pending or self.delivery.carried >= self._most:
            return False
        try:
            # Opened anew, so that a network file system asks what another host has written.
            descriptor = os.open(self._path, os.O_RDONLY)
        except OSError:
            return False
        try:
            piece = os.pread(descriptor, int(min(CHUNK, self._most - self.delivery.carried)), self.delivery.carried)
        finally:
            os.close(descriptor)
        if piece:
            self.delivery.take(piece)
        return bool(piece)
