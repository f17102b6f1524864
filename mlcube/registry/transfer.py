"""Moves bytes in pieces, and watches that they keep coming."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from mlcube.registry.limits import Limits
from mlcube.registry.parallel import check_stopped
from mlcube.registry.patience import Passing

if TYPE_CHECKING:
    from requests import Response

__all__ = ["PIECE_BYTES", "Body", "Pace", "fault_of", "pieces"]

PIECE_BYTES = 1 << 20


class Pace:
    """Watches a transfer: no less than `limits.pace_bytes` a second over each `limits.pace_seconds`."""

    def __init__(self, limits: Limits, host: str) -> None:
        self._limits, self._host = limits, host
        self._bytes, self._began = 0, time.monotonic()

    def moved(self, count: int) -> None:
        """So many bytes were moved. Raises Passing when they are too few."""
        self._bytes += count
        now = time.monotonic()
        passed = now - self._began
        if passed < self._limits.pace_seconds:
            return
        pace = self._bytes / passed
        if pace < self._limits.pace_bytes:
            raise Passing(
                f"`{self._host}` moved {pace:.0f} bytes a second over {passed:.1f} seconds,"
                f" less than the {self._limits.pace_bytes:g} of `CUBE_REGISTRY_PACE`"
            )
        self._bytes, self._began = 0, now


class Body:
    """What is sent of a file: `size` bytes from where it stands. A file that is shorter ends the request."""

    def __init__(
        self, file: BinaryIO, size: int, pace: Pace, check: Callable[[], None], progress: Callable[[int], None]
    ) -> None:
        self._file, self._size, self._pace, self._check, self._progress = file, size, pace, check, progress
        self.sent = 0
        self.short = False

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < self._size:
            self._check()
            check_stopped()
            piece = self._file.read(min(PIECE_BYTES, self._size - self.sent))
            if not piece:
                self.short = True
                raise OSError("the content is shorter than it was")
            yield piece
            self.sent += len(piece)
            self._pace.moved(len(piece))
            self._progress(len(piece))


def pieces(response: "Response", pace: Pace | None = None) -> Iterator[bytes]:
    """The body as it arrives. Raises Passing when it is cut, or too slow."""
    raw = response.raw
    try:
        while piece := raw.read1(PIECE_BYTES, decode_content=False):
            if pace is not None:
                pace.moved(len(piece))
            yield piece
    except Exception as error:
        fault = fault_of(error, "the registry")
        if fault is None:
            raise
        raise fault from None


def fault_of(error: BaseException, host: str) -> Passing | None:
    """A fault of the connection that may pass; None for every other error."""
    import http.client

    import requests
    import urllib3

    kinds = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
    if not isinstance(error, kinds):
        return None
    return Passing(f"the connection to `{host}` failed: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The innermost reason, in the system's words."""
    seen: set[int] = set()
    deepest = error
    while id(deepest) not in seen:
        seen.add(id(deepest))
        inner = [each for each in deepest.args if isinstance(each, BaseException)]
        reason = getattr(deepest, "reason", None)
        following = inner[0] if inner else reason if isinstance(reason, BaseException) else deepest.__cause__
        deepest = following or deepest
    text = getattr(deepest, "strerror", None) or str(deepest) or type(deepest).__name__
    return " ".join(str(text).split()).lower().rstrip(".")[:200]
