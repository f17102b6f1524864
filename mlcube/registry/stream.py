"""A socket that is never waited for longer than was granted, and always with an eye on whether to go on at all."""

import io
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlcube.errors import Unreachable
from mlcube.registry.limits import Limits
from mlcube.registry.patience import Passing

if TYPE_CHECKING:
    import ssl

__all__ = ["AnsweredEarly", "Stream"]

_SLICE_SECONDS = 0.1
_SEND_BYTES = 256 << 10
_FILLED_BYTES = 256 << 10
"""Who reads so much at once is woken when it is there, or a slice of time has passed, and not for each packet."""
_MOST_AROUND = 1 << 20
"""How many bytes may come without any that was asked for: headers, what precedes them, and trailers."""


class AnsweredEarly(Exception):
    """The other side answers before all was sent."""


class Stream:
    """What `http.client` needs of a socket, on one that does not block.

    Waiting is cut in slices, so that `check` can end it. Silence, an answer that dribbles and a pace below the least
    are faults that may pass.
    """

    def __init__(
        self, connected: "socket.socket | ssl.SSLSocket", limits: Limits, host: str, check: Callable[[], None]
    ) -> None:
        import ssl

        connected.setblocking(False)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(_SLICE_SECONDS * 1e6)))
        self._socket, self._limits, self._host, self._check = connected, limits, host, check
        self._wants_read = (BlockingIOError, ssl.SSLWantReadError)
        self._wants_write = (BlockingIOError, ssl.SSLWantWriteError)
        self._tls = isinstance(connected, ssl.SSLSocket)
        self._readers, self._closing = 0, False
        self.expect(limits.answer_seconds)

    def expect(self, seconds: float) -> None:
        """The beginning of an answer is to be there within so many seconds."""
        self._around = 0
        self._seconds = seconds
        self._end: float | None = time.monotonic() + seconds

    def taken(self) -> None:
        """What came was, in part at least, what was asked for."""
        self._around = 0

    def flow(self) -> None:
        """From now on bytes are to come, or to go, no slower than the least pace."""
        self._around = 0
        self._end = None
        self._moved, self._began = 0, time.monotonic()

    def stale(self) -> bool:
        """Whether an idle connection has been closed by the other side."""
        return bool(self._poll(select.POLLIN, 0))

    def recv_into(self, target: "memoryview | bytearray") -> int:
        """As a socket's; 0 at the end."""
        receive = self._filled if len(target) >= _FILLED_BYTES and not self._tls else self._socket.recv_into
        while True:
            try:
                count = receive(target)
            except self._wants_read:  # noqa: PERF203 - each time anew
                self._wait(select.POLLIN)
            except self._wants_write:
                self._wait(select.POLLOUT)
            else:
                self._count(count)
                self._around += count
                if self._around > _MOST_AROUND + len(target):
                    raise Unreachable(f"`{self._host}` sends headers without end")
                return count

    def _filled(self, target: "memoryview | bytearray") -> int:
        """All of it if that comes within a slice of time. Raises BlockingIOError when nothing does."""
        self._socket.setblocking(True)
        try:
            return self._socket.recv_into(target, 0, socket.MSG_WAITALL)
        finally:
            self._socket.setblocking(False)

    def sendall(self, content: "bytes | bytearray | memoryview") -> None:
        """As a socket's. Raises AnsweredEarly when the other side speaks before it has heard all."""
        left = memoryview(content)
        while left:
            try:
                count = self._socket.send(left[:_SEND_BYTES])
            except self._wants_write:  # noqa: PERF203 - each time anew
                self._wait(select.POLLOUT, early=not self._tls)
            except self._wants_read:
                self._wait(select.POLLIN)
            else:
                self._count(count)
                left = left[count:]

    def makefile(self, *_: object) -> io.BufferedReader:
        """What is read from it."""
        self._readers += 1
        return _Buffered(_Reader(self))

    def close(self) -> None:
        """Close it once nobody reads it any more."""
        self._closing = True
        self._close_unread()

    def left(self) -> None:
        """One that read it does so no more."""
        self._readers -= 1
        self._close_unread()

    def _close_unread(self) -> None:
        if self._closing and self._readers <= 0:
            self._socket.close()

    def _poll(self, events: int, milliseconds: float) -> int:
        poller = select.poll()
        poller.register(self._socket, events)
        found = poller.poll(milliseconds)
        return found[0][1] if found else 0

    def _wait(self, events: int, *, early: bool = False) -> None:
        """Until it can be read or written."""
        began = time.monotonic()
        while True:
            self._check()
            found = self._poll(events | (select.POLLIN if early else 0), _SLICE_SECONDS * 1000)
            if found:
                if early and found & select.POLLIN and not found & select.POLLOUT:
                    raise AnsweredEarly
                return
            self._count(0)
            now = time.monotonic()
            if self._end is None and now - began >= self._limits.answer_seconds:
                raise Passing(
                    f"`{self._host}` was silent for {self._limits.answer_seconds:g} seconds (`CUBE_REGISTRY_TIMEOUT`)",
                    slow=True,
                )

    def _count(self, count: int) -> None:
        """So many bytes were moved. Raises Passing when the answer is late, or what comes is too little."""
        now = time.monotonic()
        if self._end is not None:
            if now >= self._end:
                raise Passing(
                    f"`{self._host}` gave no answer within {self._seconds:g} seconds (`CUBE_REGISTRY_TIMEOUT`)",
                    slow=True,
                )
            return
        self._moved += count
        passed = now - self._began
        if passed < self._limits.pace_seconds:
            return
        pace = self._moved / passed
        if pace < self._limits.pace_bytes:
            raise Passing(
                f"`{self._host}` moved {pace:.0f} bytes a second over {passed:.1f} seconds,"
                f" less than the {self._limits.pace_bytes:g} of `CUBE_REGISTRY_PACE`",
                slow=True,
            )
        self._moved, self._began = 0, now


class _Buffered(io.BufferedReader):
    """Gives what has arrived instead of waiting for more, so that nothing is lost when no more comes."""

    def readinto(self, target: "memoryview | bytearray") -> int:  # type: ignore[override]
        return self.readinto1(target)


class _Reader(io.RawIOBase):
    """The reading side of a stream, as a file."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, target: "memoryview") -> int:  # type: ignore[override]
        return self._stream.recv_into(target)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.left()
