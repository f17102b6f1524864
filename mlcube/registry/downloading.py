"""Brings a blob into a file: verified while it arrives, continued where it was cut, there all at once."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from mlcube.errors import CubeError, Damaged
from mlcube.oci import Descriptor
from mlcube.registry.exchange import Exchange
from mlcube.registry.patience import Passing, Patience

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["download"]

_PIECE_BYTES = 1 << 20


def download(exchange: Exchange, descriptor: Descriptor, path: str, progress: Callable[[int], None]) -> None:
    """Bring a blob to `path`, by way of `path + ".part"`. Raises Damaged when it is not what its digest says."""
    part = f"{path}.part"
    try:
        with open(part, "a+b", buffering=0) as file:
            resumed = _Download(exchange, descriptor, file, progress).run()
            if not resumed:
                # What lay here from before was of something else: once more, from the beginning.
                _Download(exchange, descriptor, file, progress).run()
        os.replace(part, path)
    except Damaged:
        with suppress(OSError):
            os.unlink(part)
        raise
    except OSError as error:
        raise CubeError(f"`{part}` cannot be written: {(error.strerror or str(error)).lower()}") from error


class _Download:
    """The download of one blob, from what its file holds already."""

    def __init__(
        self, exchange: Exchange, descriptor: Descriptor, file: BinaryIO, progress: Callable[[int], None]
    ) -> None:
        self._exchange, self._descriptor, self._file, self._progress = exchange, descriptor, file, progress
        self._what = f"the blob `{descriptor.digest}` of `{exchange.repository}`"
        self._path = f"blobs/{descriptor.digest}"
        self._had = self._got = 0
        self._buffer = bytearray(_PIECE_BYTES)
        self._hash: _Hash

    def run(self) -> bool:
        """Whether the file is what it must be; False: what it held at first was wrong, and is gone."""
        self._take_up()
        patience = self._exchange.patience()
        while self._got < self._descriptor.size:
            before = self._got
            try:
                self._attempt(patience)
            except Passing as fault:
                if self._got > before:
                    patience.progressed()
                patience.wait(fault, self._what)
        if f"sha256:{self._hash.hexdigest()}" == self._descriptor.digest:
            return True
        if not self._had:
            raise Damaged(f"{self._what} is not what its digest says: it was changed at the registry or on the way")
        self._start_anew()
        return False

    def _take_up(self) -> None:
        """Read what is there already."""
        import hashlib

        self._hash = hashlib.sha256()
        self._file.seek(0)
        while count := self._file.readinto(self._buffer):  # type: ignore[attr-defined]
            self._exchange.check()
            self._hash.update(memoryview(self._buffer)[:count])
            self._got += count
        if self._got > self._descriptor.size:
            self._start_anew()
        self._had = self._got
        self._progress(self._got)

    def _start_anew(self) -> None:
        import hashlib

        self._file.truncate(0)
        self._progress(-self._got)
        self._hash, self._got, self._had = hashlib.sha256(), 0, 0

    def _attempt(self, patience: Patience) -> None:
        """One request for what is missing."""
        headers = {"Range": f"bytes={self._got}-"} if self._got else {}
        with self._exchange.request(
            "GET", self._path, self._what, headers=headers, expected=(200, 206, 416), patience=patience
        ) as answer:
            if answer.status == 416 or (answer.status == 200 and self._got):
                self._start_anew()  # it cannot continue in the middle, or not there
                if answer.status == 416:
                    return
            elif answer.status == 206 and not self._continues(answer.header("Content-Range")):
                self._start_anew()
                raise Passing(f"`{self._exchange.host}` sends another part than was asked for")
            piece = memoryview(self._buffer)
            while count := answer.readinto(piece):
                self._exchange.check()
                self._keep(piece[:count])
        if self._got < self._descriptor.size:
            raise Passing(f"`{self._exchange.host}` ended the transfer early")

    def _continues(self, text: str) -> bool:
        unit, _, rest = text.strip().partition(" ")
        return unit.lower() == "bytes" and rest.partition("-")[0].strip() == str(self._got)

    def _keep(self, piece: memoryview) -> None:
        if self._got + len(piece) > self._descriptor.size:
            raise Damaged(f"{self._what} is longer than the {self._descriptor.size} bytes that it is declared with")
        written = 0
        while written < len(piece):
            written += self._file.write(piece[written:])
        self._hash.update(piece)
        self._got += len(piece)
        self._progress(len(piece))
