"""Carries what a process prints to the user and into the log, byte for byte, while it runs."""

import os
import stat
import sys
from contextlib import suppress

from mlcube import files
from mlcube.redaction import Redaction

__all__ = ["CHUNK", "Delivery", "Log", "Outlet", "Route"]

CHUNK = 1 << 17
"""How much is moved at once."""

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031


class Log:
    """The file that keeps what was printed. A full disk ends the log, not the run."""

    __slots__ = ("descriptor", "error")

    def __init__(self, path: str | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.descriptor = None if path is None else os.open(path, flags, 0o600)
        self.error: OSError | None = None

    def write(self, chunk: bytes) -> None:
        """Append, as long as that works."""
        if self.descriptor is None:
            return
        try:
            files.write_all(self.descriptor, chunk)
        except OSError as error:
            self.error = error
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Outlet:
    """Where the user sees output: a terminal, a pipe, a file.

    A terminal that is paused or a reader that is slow must not keep us from noticing signals, and making the caller's
    own descriptor non-blocking would change it for everybody who shares it. So it is opened a second time.
    """

    __slots__ = ("_own", "descriptor", "error")

    def __init__(self, descriptor: int) -> None:
        self.error: OSError | None = None
        self.descriptor: int | None = descriptor
        self._own = False
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
                self.descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
                self._own = True
        except OSError:
            pass  # not Linux, or another user's terminal: then a write may block

    def write(self, chunk: bytes | memoryview) -> memoryview:
        """Write what can be written now; gives what is left. A reader that went away takes everything."""
        rest = memoryview(chunk)
        try:
            while rest and self.descriptor is not None:
                rest = rest[os.write(self.descriptor, rest) :]
        except BlockingIOError:
            return rest
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.error = error
            self.close()
        return memoryview(b"")

    def close(self) -> None:
        """Write no more."""
        if self._own and self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor = None


class Delivery:
    """Takes what was printed into the log and on to an outlet."""

    __slots__ = ("_log", "_redaction", "carried", "keep", "kept", "outlet", "pending")

    def __init__(self, log: Log, outlet: Outlet | None, keep: int = 0, redaction: Redaction | None = None) -> None:
        self.outlet = outlet
        self.carried = 0
        """How many bytes were taken."""
        self.keep = keep
        self.kept = bytearray()
        """At least the last `keep` bytes."""
        self.pending = memoryview(b"")
        """What the outlet could not take yet; nothing more is to be taken before it has."""
        self._log = log
        self._redaction = redaction
        """Keeps secrets out of the log and of what is kept; the user sees what the task prints as it is."""

    def take(self, chunk: bytes) -> None:
        """Deliver what was printed."""
        self.carried += len(chunk)
        self._record(self._redaction.feed(chunk) if self._redaction else chunk)
        if self.outlet is not None:
            self.pending = self.outlet.write(chunk)

    def offer(self) -> None:
        """Offer the outlet what it could not take."""
        if self.outlet is not None:
            self.pending = self.outlet.write(self.pending)

    def waited_for(self) -> int | None:
        """The descriptor of an outlet that must take something first; None when there is none."""
        return self.outlet.descriptor if self.pending and self.outlet else None

    def give_up(self) -> None:
        """Show no more; the log still gets everything."""
        self.pending = memoryview(b"")
        if self.outlet is not None:
            self.outlet.close()

    def close(self) -> None:
        """Let go of the outlet."""
        if self._redaction:
            self._record(self._redaction.end())
        if self.outlet is not None:
            self.outlet.close()

    def _record(self, text: bytes) -> None:
        self._log.write(text)
        if self.keep:
            self.kept += text
            if len(self.kept) > 2 * self.keep:
                del self.kept[: -self.keep]


class Route(Delivery):
    """One output of a process: from its pipe into the log and on to an outlet."""

    __slots__ = ("left", "source")

    def __init__(
        self, source: int, log: Log, outlet: Outlet | None, keep: int = 0, redaction: Redaction | None = None
    ) -> None:
        super().__init__(log, outlet, keep, redaction)
        self.source = source
        self.left: int | None = None
        """How much may still be read; None: until the end."""
        _enlarge(source)

    def carry(self) -> bool:
        """Move one chunk. False when nothing more will come."""
        if self.pending:
            self.offer()
        else:
            chunk = os.read(self.source, CHUNK if self.left is None else min(CHUNK, self.left))
            if not chunk:
                return False
            if self.left is not None:
                self.left -= len(chunk)
            self.take(chunk)
        return bool(self.pending) or self.left != 0

    def finish_with_what_is_there(self) -> None:
        """Read only what lies in the pipe now: whoever still holds the other end is not waited for."""
        import fcntl
        import termios

        waiting = fcntl.ioctl(self.source, termios.FIONREAD, b"\0\0\0\0")
        self.left = int.from_bytes(waiting, sys.byteorder)

    def close(self) -> None:
        """Let go of the pipe and of the outlet."""
        os.close(self.source)
        super().close()


def _enlarge(pipe: int) -> None:
    """A larger pipe wakes us less often when much is printed."""
    import fcntl

    with suppress(OSError):  # the user's share of pipe memory is used up, or this is not Linux
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_SIZE)
