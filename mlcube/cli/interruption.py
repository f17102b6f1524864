"""What Ctrl-C means while `cube` starts, while a command is performed, and when its status is known."""

import os
import signal

__all__ = ["ends_at_once", "is_ignored", "is_raised"]


def ends_at_once() -> None:
    """Nothing has begun. Of the exceptions that Python raises while it imports, it swallows some, and prints them."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def is_raised() -> None:
    """From here on there is something to be ended in order."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_ignored() -> None:
    """What Python does at its end is too short to be interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(_number: int, _frame: object) -> None:
    os._exit(130)
