"""Sends a blob: only if the registry lacks it, continued where it was cut as far as the registry can."""

import re
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from mlcube.errors import CubeError, Damaged, Unreachable
from mlcube.oci import Descriptor
from mlcube.registry.answers import failure, passing
from mlcube.registry.body import Body
from mlcube.registry.exchange import Exchange
from mlcube.registry.patience import Passing

if TYPE_CHECKING:
    from mlcube.registry.connections import Answer

__all__ = ["cancel", "has", "upload"]

_PIECE_BYTES = 1 << 20
_RANGE = re.compile(r"(?:bytes[= ])?0-([0-9]{1,18})")
_AT_ONCE_BYTES = 1 << 20
"""Up to this size a blob is sent with the request that names it, which saves one."""
_SMALLER_BYTES = (64 << 20, 16 << 20, 4 << 20, 1 << 20)
"""How much is sent with one request where more is refused as too large."""
_FINISH_BYTES_PER_SECOND = 16 << 20
"""How fast a registry looks at what it got before it answers, at the least."""
_ATTEMPTS = 5
"""How often a blob is sent from its beginning, at the most."""


def has(exchange: Exchange, digest: str) -> bool:
    """Whether the repository has a blob."""
    what = f"the blob `{digest}` of `{exchange.repository}`"
    with exchange.request("HEAD", f"blobs/{digest}", what, expected=(200, 404)) as answer:
        return answer.status == 200


def upload(
    exchange: Exchange, descriptor: Descriptor, source: Callable[[], BinaryIO], progress: Callable[[int], None]
) -> int:
    """Send a blob that the registry lacks. The number of bytes that were sent, those sent again too."""
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
        self._begun = 0
        self._most = descriptor.size
        self._smaller = iter(_SMALLER_BYTES)

    def run(self) -> int:
        patience = self._exchange.patience()
        unsure = False
        while True:
            before = self._sent
            try:
                if unsure and self._look():
                    return self._sent
                unsure = False
                self._go_on()
                return self._sent
            except Passing as fault:
                unsure = True
                patience.wait(fault, self._what, self._sent - before)
            except BaseException:
                if self._url is not None:
                    cancel(self._exchange, self._url, self._what)
                raise

    def _go_on(self) -> None:
        """Everything that is still to be done."""
        if self._url is None:
            self._begin()
        while self._descriptor.size - self._there > _AT_ONCE_BYTES:
            self._send()
        self._finish()

    def _begin(self) -> None:
        """Ask for a place to send it to."""
        self._settle(0)
        if self._begun == _ATTEMPTS:
            raise Unreachable(f"{self._what}: `{self._exchange.host}` lost the upload {_ATTEMPTS} times")
        with self._exchange.request("POST", "blobs/uploads/", self._what, content=b"", expected=(202,)) as answer:
            self._url = self._exchange.checked("blobs/uploads/", answer.header("Location"), self._what)
        self._begun += 1

    def _send(self) -> None:
        """Send all that the registry does not have yet, or as much as it takes at once."""
        start, size = self._there, min(self._most, self._descriptor.size - self._there)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{start + size - 1}",
        }
        with self._carry("PATCH", self._url or "", size, headers, None) as answer:
            if answer.status in (201, 202, 204):
                self._url = self._next(answer)
            elif answer.status == 413 and (smaller := next(self._smaller, None)):
                self._most = smaller
                self._settle(start)
            else:
                raise self._bad(answer)

    def _finish(self) -> None:
        """Send the last of it, if anything is left, and give the blob its name."""
        url = self._url or ""
        address = f"{url}{'&' if urlsplit(url).query else '?'}digest={self._descriptor.digest}"
        wait = self._exchange.limits.answer_seconds + self._descriptor.size / _FINISH_BYTES_PER_SECOND
        size, headers = self._descriptor.size - self._there, {"Content-Type": "application/octet-stream"}
        with self._carry("PUT", address, size, headers, wait) as answer:
            if answer.status not in (201, 204):
                raise self._bad(answer)

    def _carry(self, method: str, url: str, size: int, headers: dict[str, str], wait: float | None) -> "Answer":
        body = Body(self._source, self._there, size, self._exchange.check, self._moved)
        try:
            return self._exchange.once(
                method, url, self._what, headers=headers, content=body if size else b"", wait_seconds=wait
            )
        except Passing:
            if body.short:
                raise self._changed() from None
            raise

    def _bad(self, answer: "Answer") -> Passing | CubeError:
        """What a bad answer means: lost uploads begin again, and content that is another is said to be so."""
        host = self._exchange.host
        if (fault := passing(answer, host)) is not None:
            return fault
        if answer.status in (404, 416):
            return Passing(f"`{host}` has lost the upload ({answer.status})")
        if answer.status == 400 and not self._is_what_it_was():
            return self._changed()
        error = failure(answer, host, self._what)
        if answer.status == 400 and "digest" in str(error).lower():
            return Damaged(
                f"{self._what} is not what its digest says when it comes to `{host}`: it is changed on the way"
            )
        return error

    def _look(self) -> bool:
        """After a fault: whether the blob is there after all, else how much of it."""
        if self._there == self._descriptor.size and has(self._exchange, self._descriptor.digest):
            return True
        if self._url is None:
            return False
        with self._exchange.once("GET", self._url, self._what) as answer:
            if answer.status == 204:
                found = _RANGE.fullmatch(answer.header("Range"))
                end = int(found[1]) if found else 0
                there = end + 1 if end else 0  # `0-0` says nothing and one byte alike
                if there <= self._descriptor.size:
                    self._url = self._next(answer)
                    self._settle(there)
                    return False
            elif (fault := passing(answer, self._exchange.host)) is not None:
                raise fault
        self._url = None
        return False

    def _next(self, answer: "Answer") -> str:
        url, location = self._url or "", answer.header("Location")
        return self._exchange.checked(url, location, self._what) if location else url

    def _moved(self, count: int) -> None:
        self._sent += max(count, 0)
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
