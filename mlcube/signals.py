"""Signals that ask a run to stop, noticed without a race: kept until somebody looks, never raised in between."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlcube.errors import Interrupted
from mlcube.watching import doze

__all__ = ["Signals", "catching"]

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """The signals that came, in order, and a descriptor that is readable when another has come."""

    __slots__ = ("answered", "descriptor", "received")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.received: list[int] = []
        self.answered = False
        """Whether somebody made an error of them."""

    def arrived(self) -> bool:
        """Whether another signal has come since this was last asked."""
        try:
            numbers = [number for number in os.read(self.descriptor, 512) if number in _STOPPING]
        except BlockingIOError:
            return False
        self.received += numbers
        return bool(numbers)

    def check(self) -> None:
        """Raise Interrupted if any signal has come."""
        self.arrived()
        if self.received:
            raise self.interrupted()

    def pause(self, seconds: float, *events: int) -> None:
        """Sleep, but not beyond an event, a readable descriptor, nor a signal, which is raised as Interrupted."""
        doze(seconds, self.descriptor, *events)
        self.check()

    def interrupted(self) -> Interrupted:
        """The error that tells of the first signal."""
        self.answered = True
        return Interrupted(self.received[0], signal.Signals(self.received[0]).name)


@contextmanager
def catching() -> Iterator[Signals]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying from them.

    Outside the main thread Python can install no handlers: there nothing is ever collected. What the caller ignores
    (`nohup`) stays ignored. A signal that nobody acted upon is delivered again at the end.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signals = Signals(reading)
    try:
        if threading.current_thread() is not threading.main_thread():
            yield signals
            return
        # The handlers do nothing: the C level has by then written the signal's number into the pipe.
        handled = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.getsignal(number) for number in handled}
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # With an inherited `trap '' CHLD` the kernel throws the status of every child away.
            before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        waker = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            for number in handled:
                signal.signal(number, _notice)
            yield signals
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            signal.set_wakeup_fd(waker)
        signals.arrived()
        if signals.received and not signals.answered:
            signal.raise_signal(signals.received[0])
    finally:
        os.close(reading)
        os.close(writing)


def _notice(_number: int, _frame: object) -> None:
    """Nothing: see `catching`."""
