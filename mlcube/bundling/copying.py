"""Copies content into a bundle and hashes it at the same time, in a thread of its own where it is much."""

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from mlcube.bundling.parts import Output
from mlcube.errors import CubeError, Damaged

__all__ = ["Copy", "Source"]

_CHUNK = 1 << 20
_BUFFERS = 4


class Source(Protocol):
    """What content is read from."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer, or less of it; 0 at the end."""


class Copy:
    """Copies content and hashes it at the same time, in a thread of its own where it is much."""

    def __init__(self, output: Output, check: Callable[[], None]) -> None:
        import hashlib

        self._output, self._check = output, check
        self._hash = hashlib.sha256()
        self._full: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()

    def run(self, source: Source, size: int) -> str:
        """The digest, in hexadecimal digits."""
        if size <= _CHUNK:
            content = memoryview(bytearray(size))
            self._fill(source, content)
            self._hash.update(content)
            self._output.write(content)
            return self._hash.hexdigest()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(_CHUNK))
        hashing = threading.Thread(target=self._hash_all, daemon=True)
        hashing.start()
        try:
            while size:
                self._check()
                buffer = self._free.get()
                chunk = memoryview(buffer)[: min(size, _CHUNK)]
                self._fill(source, chunk)
                self._full.put((buffer, len(chunk)))
                self._output.write(chunk)
                size -= len(chunk)
        finally:
            self._full.put(None)
            hashing.join()
        return self._hash.hexdigest()

    def _hash_all(self) -> None:
        while (found := self._full.get()) is not None:
            buffer, count = found
            self._hash.update(memoryview(buffer)[:count])
            self._free.put(buffer)

    def _fill(self, source: Source, buffer: memoryview) -> None:
        try:
            while buffer:
                count = source.readinto(buffer)
                if not count:
                    raise Damaged("a file became shorter while it was read", hint="run it again")
                buffer = buffer[count:]
        except OSError as error:
            raise CubeError(f"what goes into the bundle cannot be read: {error.strerror or error}") from error
