"""The standard streams, of which any may be closed, full, or without a reader: none of that stops a run."""

import errno
import io
import os
import sys
from collections.abc import Collection
from typing import Any

from mlcube.errors import Unwritten

__all__ = ["guard", "unwritten"]


class _Standard(io.FileIO):
    """A standard stream to which writing never fails: what went wrong first is kept, and the rest goes nowhere."""

    def __init__(self, descriptor: int, shut: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.error: OSError | None = None
        self._shut = shut

    def write(self, chunk: Any) -> int:
        """As if all were written."""
        size = memoryview(chunk).nbytes
        if self._shut:
            self.error = OSError(errno.EBADF, "it is closed")
        while self.error is None:
            try:
                if (written := super().write(chunk)) is not None:
                    return written
                _wait(self.fileno())  # whoever shares the stream has made it non-blocking
            except OSError as error:  # noqa: PERF203 - a second turn is rare
                self.error = error
        return size


def guard(closed: Collection[int]) -> None:
    """Make Python's standard streams such that writing there never fails.

    `closed` are those that the caller had closed; the null device stands there now.
    """
    sys.stdout = _guarded(sys.stdout, 1, 1 in closed)
    sys.stderr = _guarded(sys.stderr, 2, 2 in closed)


def unwritten() -> Unwritten | None:
    """What kept a result from its reader, if anything did; to be asked when all is written."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, _Standard) else None
    return Unwritten(error) if error else None


def _guarded(before: Any, descriptor: int, closed: bool) -> Any:
    """The same stream, as far as there was one."""
    raw = _Standard(descriptor, closed)
    encoding = getattr(before, "encoding", None) or "utf-8"
    # A path may hold any byte, and an encoding may lack any letter: neither must be an error.
    result = descriptor == 1 and encoding.lower().replace("-", "") == "utf8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="surrogateescape" if result else "backslashreplace",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
        write_through=getattr(before, "write_through", False),
    )


def _wait(descriptor: int) -> None:
    import select

    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    poller.poll()
