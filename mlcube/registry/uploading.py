"""Sends a blob: only if the registry lacks it, continued where it was cut as far as the registry can."""

import re
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from mlcube.errors import CubeError, Damaged
from mlcube.oci import Descriptor
from mlcube.registry.answers import failure, passing
from mlcube.registry.body import Body
from mlcube.registry.exchange import Exchange
from mlcube.registry.patience import Passing

if TYPE_CHECKING:
    from mlcube.registry.connections import Answer

__all__ = ["cancel", "upload"]

_PIECE_BYTES = 1 << 20
_RANGE = re.compile(r"(?:bytes[= ])?0-([0-9]+)")
_FINISH_BYTES_PER_SECOND = 16 << 20
"""How fast a registry looks at what it got before it answers, at the least."""


def upload(
    exchange: Exchange, descriptor: Descriptor, source: Callable[[], BinaryIO], progress: Callable[[int], None]
) -> int:
    """Send a blob that the registry lacks. The number of bytes that were sent."""
    return _Upload(exchange, descriptor, source, progress).run()


def cancel(exchange: Exchange, url: str, what: str) -> None:
    """Tell the registry that an upload goes no further; it forgets it some day in any case."""
    with suppress(CubeError, Passing):
        exchange.once("DELETE", url, what).close()


class _Upload:
    """The upload of one blob."""

    def __init__(
        self,
        exchange: Exchange,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        progress: Callable[[int], None],
    ) -> None:
        self._exchange, self._descriptor, self._source, self._progress = exchange, descriptor, source, progress
        self._what = f"the blob `{descriptor.digest}` for `{exchange.repository}`"
        self._url: str | None = None
        """Where to continue; None: no upload has begun."""
        self._there = 0
        """What the registry has, as far as is known."""
        self._sent = 0

    def run(self) -> int:
        patience = self._exchange.patience()
        while True:
            before = self._there
            try:
                if self._url is None:
                    self._begin()
                if self._there < self._descriptor.size:
                    self._send()
                if self._finish():
                    return self._sent
            except Passing as fault:
                self._look()
                if self._there > before:
                    patience.progressed()
                patience.wait(fault, self._what)
            except BaseException:
                if self._url is not None:
                    cancel(self._exchange, self._url, self._what)
                raise

    def _begin(self) -> None:
        """Ask for a place to send it to."""
        url = "blobs/uploads/"
        with self._exchange.request("POST", url, self._what, content=b"", expected=(202,)) as answer:
            self._url = self._next(url, answer)
        self._settle(0)

    def _send(self) -> None:
        """Send everything that the registry does not have yet."""
        url = self._url or ""
        size = self._descriptor.size - self._there
        with closing(self._source()) as file:
            if self._there:
                file.seek(self._there)
            body = Body(file, size, self._exchange.check, self._moved)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{self._there}-{self._descriptor.size - 1}",
            }
            try:
                answer = self._exchange.once("PATCH", url, self._what, headers=headers, content=body)
            except Passing:
                if body.short:
                    raise self._changed() from None
                raise
        with answer:
            if answer.status not in (202, 204, 201):
                raise self._bad(answer)
            self._url = self._next(url, answer)
        self._settle(self._descriptor.size)

    def _finish(self) -> bool:
        """Give the blob its name. False: the registry lost the upload."""
        url = self._url or ""
        address = f"{url}{'&' if urlsplit(url).query else '?'}digest={self._descriptor.digest}"
        wait = self._exchange.limits.answer_seconds + self._descriptor.size / _FINISH_BYTES_PER_SECOND
        headers = {"Content-Type": "application/octet-stream"}
        with self._exchange.once("PUT", address, self._what, headers=headers, content=b"", wait_seconds=wait) as answer:
            if answer.status in (201, 204):
                return True
            raise self._bad(answer)

    def _bad(self, answer: "Answer") -> Passing | CubeError:
        """What a bad answer means: lost uploads begin again, content that changed is said to be so."""
        if (fault := passing(answer, self._exchange.host)) is not None:
            return fault
        if answer.status in (404, 416):
            return Passing(f"`{self._exchange.host}` has lost the upload ({answer.status})")
        if answer.status == 400 and not self._is_what_it_was():
            return self._changed()
        return failure(answer, self._exchange.host, self._what)

    def _look(self) -> None:
        """After a fault: what the registry has of the upload. What it does not know any more begins again."""
        if self._url is None:
            return
        with suppress(Passing), self._exchange.once("GET", self._url, self._what) as answer:
            if answer.status == 204:
                found = _RANGE.fullmatch(answer.header("Range"))
                end = int(found[1]) if found else 0
                there = end + 1 if end else 0  # `0-0` says nothing and one byte alike
                if there <= self._descriptor.size:
                    self._url = self._next(self._url, answer)
                    self._settle(there)
                    return
            if answer.status < 500:
                self._url = None
                self._settle(0)

    def _next(self, url: str, answer: "Answer") -> str:
        location = answer.header("Location")
        return self._exchange.checked(url, location, self._what) if location else url

    def _moved(self, count: int) -> None:
        self._sent += count
        self._there += count
        self._progress(count)

    def _settle(self, there: int) -> None:
        """So much is at the registry: what was said of the progress is put right."""
        if there != self._there:
            self._progress(there - self._there)
            self._there = there

    def _is_what_it_was(self) -> bool:
        import hashlib

        found = hashlib.sha256()
        with closing(self._source()) as file:
            while piece := file.read(_PIECE_BYTES):
                self._exchange.check()
                found.update(piece)
        return f"sha256:{found.hexdigest()}" == self._descriptor.digest

    def _changed(self) -> Damaged:
        return Damaged(f"{self._what} is not what its digest says: the file was changed while it was published")
