"""Brings a blob into a file: verified while it arrives, continued where it was cut, there all at once."""

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from mlcube import files, locks
from mlcube.errors import CubeError, Damaged, Unreachable
from mlcube.oci import Descriptor
from mlcube.registry.exchange import Exchange
from mlcube.registry.patience import Passing, Patience

if TYPE_CHECKING:
    from io import FileIO

    from mlcube.registry.connections import Answer

__all__ = ["download"]

_PIECE_BYTES = 2 << 20
_BEGINNINGS = 5
"""How often a blob is fetched from its beginning, at the most."""
_PART = re.compile(r"bytes\s+([0-9]{1,18})-[0-9]+/", re.IGNORECASE)
_WHOLE = re.compile(r"bytes\s+\*/([0-9]{1,18})", re.IGNORECASE)
_WAIT_SECONDS = 3600.0
"""How long another process that fetches the same is waited for."""


def download(exchange: Exchange, descriptor: Descriptor, path: str, progress: Callable[[int], None]) -> None:
    """Bring a blob to `path`, by way of `path + ".part"`. Raises Damaged when it is not what its digest says."""
    part = f"{path}.part"
    try:
        # Whoever fetches the same blob at the same time waits, and finds it there.
        with locks.exclusive(
            f"{path}.lock", wait_seconds=_WAIT_SECONDS, waiting=exchange.report, pause=exchange.pause, target=path
        ):
            if _is_there(exchange, descriptor, path):
                progress(descriptor.size)
                return
            try:
                with open(part, "a+b", buffering=0) as file:
                    _Download(exchange, descriptor, file, progress).run()
            except BaseException:
                with suppress(OSError):
                    if os.path.getsize(part) == 0:  # nothing to continue
                        os.unlink(part)
                raise
            os.replace(part, path)
    except Damaged:
        with suppress(OSError):
            os.unlink(part)
        raise
    except OSError as error:
        raise CubeError(f"`{part}` cannot be written: {(error.strerror or str(error)).lower()}") from error


def _is_there(exchange: Exchange, descriptor: Descriptor, path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != descriptor.size:
                return False
            found = hashlib.sha256()
            piece = bytearray(_PIECE_BYTES)
            while count := file.readinto(piece):
                exchange.check()
                found.update(memoryview(piece)[:count])
            return f"sha256:{found.hexdigest()}" == descriptor.digest
    except OSError:
        return False


class _Download:
    """The download of one blob, from what its file holds already."""

    def __init__(
        self, exchange: Exchange, descriptor: Descriptor, file: "FileIO", progress: Callable[[int], None]
    ) -> None:
        self._exchange, self._descriptor, self._file, self._progress = exchange, descriptor, file, progress
        self._what = f"the blob `{descriptor.digest}` of `{exchange.repository}`"
        self._piece = memoryview(bytearray(max(1, min(_PIECE_BYTES, descriptor.size))))
        self._hash = hashlib.sha256()
        self._got = self._beginnings = 0

    def run(self) -> None:
        """Until the file is what it must be. Raises Damaged if it comes out as another."""
        found_here = self._take_up()
        self._fetch()
        if found_here and not self._is_right():
            self._start_anew()  # what lay here from before was of something else
            self._fetch()
        if not self._is_right():
            raise Damaged(f"{self._what} is not what its digest says: it was changed at the registry or on the way")

    def _take_up(self) -> bool:
        """Read what is there already. Whether there was anything."""
        self._file.seek(0)
        while count := self._file.readinto(self._piece):
            self._exchange.check()
            self._hash.update(self._piece[:count])
            self._got += count
        self._progress(self._got)
        if self._got > self._descriptor.size:
            self._start_anew()
        return self._got > 0

    def _fetch(self) -> None:
        """Everything that is missing."""
        patience = self._exchange.patience()
        while self._got < self._descriptor.size:
            before = self._got
            try:
                self._attempt(patience)
            except Passing as fault:
                patience.wait(fault, self._what, self._got - before)

    def _is_right(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self._descriptor.digest

    def _start_anew(self) -> None:
        self._beginnings += 1
        if self._beginnings > _BEGINNINGS:
            raise Unreachable(
                f"{self._what} was cut {self._beginnings} times, and `{self._exchange.host}` does not continue"
            )
        self._file.truncate(0)
        self._progress(-self._got)
        self._hash, self._got = hashlib.sha256(), 0

    def _attempt(self, patience: Patience) -> None:
        """One request for what is missing."""
        headers = {"Range": f"bytes={self._got}-"} if self._got else {}
        path = f"blobs/{self._descriptor.digest}"
        with self._exchange.request(
            "GET", path, self._what, headers=headers, expected=(200, 206, 416), patience=patience
        ) as answer:
            if answer.status == 416:
                self._check_size(_WHOLE.match(answer.header("Content-Range")), 0)
                self._start_anew()
                raise Passing(f"`{self._exchange.host}` does not continue where the transfer was cut")
            if answer.status == 206:
                found = _PART.match(answer.header("Content-Range"))
                if found is None or int(found[1]) != self._got:
                    self._start_anew()
                    raise Passing(f"`{self._exchange.host}` sends another part than was asked for")
            elif self._got:
                self._start_anew()  # it sends all of it
            self._check_size(re.fullmatch("([0-9]{1,18})", answer.header("Content-Length")), self._got)
            self._receive(answer)

    def _check_size(self, found: "re.Match[str] | None", before: int) -> None:
        """Raises Damaged when the registry itself says that its content is of another size."""
        if found is not None and (size := int(found[1]) + before) != self._descriptor.size:
            raise Damaged(f"{self._what} is {size} bytes at the registry, not {self._descriptor.size}")

    def _receive(self, answer: "Answer") -> None:
        while count := answer.readinto(self._piece):
            self._exchange.check()
            if self._got + count > self._descriptor.size:
                raise Damaged(f"{self._what} is longer than the {self._descriptor.size} bytes that it is declared with")
            files.write_all(self._file.fileno(), self._piece[:count])
            self._hash.update(self._piece[:count])
            self._got += count
            self._progress(count)
        if self._got < self._descriptor.size:
            raise Passing(f"`{self._exchange.host}` ended the transfer early")
