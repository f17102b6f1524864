"""Waiting until a file is gone or a process has ended, without looking all the time."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "doze", "grown", "passing"]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""How long to wait between two looks, where nothing tells of a change: of other machines, for instance."""

_IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x4, 0x400, 0x800
_IN_CLOEXEC = 0o2000000


def grown(pause: float) -> float:
    """The pause after this one."""
    return min(pause * 1.5, LONGEST_PAUSE)


def doze(seconds: float, *events: int) -> None:
    """Sleep, but not beyond an event: a descriptor that is readable."""
    poller = select.poll()
    for event in events:
        poller.register(event, select.POLLIN)
    poller.poll(max(0.0, seconds) * 1000)


@contextmanager
def passing(path: str, process: int | None = None) -> Iterator[tuple[int, ...]]:
    """Descriptors that are readable once the file at `path` is removed, or a process of this machine has ended.

    Whoever waits looks again after this: what went before is told by nobody. Where the system has no such descriptors
    there are fewer, or none.
    """
    opened: list[int] = []
    try:
        if (watch := _watch(path)) is not None:
            opened.append(watch)
        if process is not None and process != os.getpid() and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                opened.append(os.pidfd_open(process))
        yield tuple(opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _watch(path: str) -> int | None:
    """A descriptor of Linux's inotify, which Python's own library does not know."""
    import ctypes

    try:
        system = ctypes.CDLL(None, use_errno=True)
        descriptor = int(system.inotify_init1(_IN_CLOEXEC))
    except (OSError, AttributeError):
        return None
    if descriptor < 0:
        return None
    events = _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF
    if system.inotify_add_watch(descriptor, os.fsencode(path), events) < 0:
        os.close(descriptor)
        return None
    return descriptor
