"""Waiting until a file is gone or grows, or a process has ended, without looking all the time."""

import os
import select
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "WATCHED_PAUSE", "Pause", "doze", "growing", "grown", "passing"]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""How long to wait between two looks, where nothing tells of a change: of other machines, for instance."""

WATCHED_PAUSE = 2.0
"""How long it becomes at most where somebody looks at what is waited for, and a look costs nobody else anything."""

_IN_MODIFY, _IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x4, 0x400, 0x800


def grown(pause: float, longest: float = LONGEST_PAUSE) -> float:
    """The pause after this one."""
    return min(pause * 1.5, longest)


class Pause(Protocol):
    """What waits for some seconds, but not beyond an event: `doze`, or what also looks whether it is to end."""

    def __call__(self, seconds: float, /, *events: int) -> object:
        """Come back after the seconds, or once one of the descriptors is readable."""


def doze(seconds: float, /, *events: int) -> bool:
    """Sleep, but not beyond an event: a descriptor that is readable. Whether one was."""
    poller = select.poll()
    for event in events:
        poller.register(event, select.POLLIN)
    return bool(poller.poll(min(max(0.0, seconds), 86400.0) * 1000))  # the kernel does not count very far


def passing(path: str, process: int | None = None) -> AbstractContextManager[tuple[int, ...]]:
    """Descriptors that are readable once the file at `path` is removed, or a process of this machine has ended.

    Whoever waits looks again after this: what went before is told by nobody. Where the system has no such descriptors
    there are fewer, or none.
    """
    return _watching(path, _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF, process)


def growing(path: str, process: int | None = None) -> AbstractContextManager[tuple[int, ...]]:
    """The same for a file that is written to."""
    return _watching(path, _IN_MODIFY | _IN_DELETE_SELF, process)


@contextmanager
def _watching(path: str, what: int, process: int | None) -> Iterator[tuple[int, ...]]:
    opened: list[int] = []
    try:
        if (watch := _watch(path, what)) is not None:
            opened.append(watch)
        if process is not None and process != os.getpid() and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                opened.append(os.pidfd_open(process))
        yield tuple(opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _watch(path: str, what: int) -> int | None:
    """A descriptor of Linux's inotify, which Python's own library does not know."""
    try:
        import ctypes  # some builds of Python lack it

        system = ctypes.CDLL(None, use_errno=True)
        descriptor = int(system.inotify_init1(os.O_CLOEXEC))
    except (ImportError, OSError, AttributeError):
        return None
    if descriptor < 0:
        return None
    if system.inotify_add_watch(descriptor, os.fsencode(path), what) < 0:
        os.close(descriptor)
        return None
    return descriptor
