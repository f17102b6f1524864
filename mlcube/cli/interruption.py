"""What Ctrl-C means while `cube` starts, while a command is performed, and when its status is known."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ends_at_once", "is_hinted", "is_ignored", "is_raised", "is_told"]

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ends_at_once() -> None:
    """Nothing has begun. Of the exceptions that Python raises while it imports, it swallows some, and prints them."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def is_raised() -> None:
    """From here on there is something to be ended in order."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Stopped(KeyboardInterrupt):
    """No error that anybody on the way could take for one of what is being done."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def is_hinted(hint: str) -> Iterator[None]:
    """Tell of what was stopped here what becomes of it."""
    from mlcube.errors import Interrupted

    try:
        yield
    except Interrupted as stopped:
        number = stopped.status - 128
        raise Interrupted(number, signal.Signals(number).name, hint=hint) from None


@contextmanager
def is_told(left: Callable[[], str], hint: str | None = None) -> Iterator[None]:
    """What is done here may be stopped at any place; then an error says so, and what is `left`.

    What the caller ignores (`nohup`) stays ignored.
    """
    from mlcube.errors import Interrupted

    def stop(number: int, _frame: object) -> None:
        raise _Stopped(number)

    before = {each: signal.getsignal(each) for each in _STOPPING}
    before = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    except (_Stopped, Interrupted) as stopped:
        number = stopped.number if isinstance(stopped, _Stopped) else stopped.status - 128
        raise Interrupted(number, signal.Signals(number).name, left=left(), hint=hint) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def is_ignored() -> None:
    """What Python does at its end is too short to be interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(_number: int, _frame: object) -> None:
    os._exit(130)
