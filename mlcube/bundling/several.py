"""Copies several large files into a bundle at the same time, each to a place of its own, and hashes what came there."""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from mlcube.bundling.parts import Output
from mlcube.errors import CubeError, Damaged
from mlcube.parallel import by_processors, check_stopped, in_parallel

__all__ = ["Copies", "Large", "distinct"]

_CHUNK = 512 << 10
"""What is read at once, written and hashed while a processor has it at hand."""
_BEGINNING = 64 << 10
_LOOK_SECONDS = 0.1


class Large(NamedTuple):
    """A file, its size, and where in the output it belongs."""

    open: Callable[[], Any]
    size: int
    place: int = 0


class Copies:
    """Files that are being copied to their places, while whoever began it writes elsewhere. To be used as a context."""

    def __init__(self, output: Output, files: Sequence[Large], check: Callable[[], None]) -> None:
        self._check, self._stopped = check, threading.Event()
        self._found: list[str] = []
        self._error: BaseException | None = None
        jobs = [partial(_copied, output, file) for file in files]
        self._thread = threading.Thread(target=self._copy, args=(jobs,), daemon=True)

    def digests(self) -> list[str]:
        """Of each file, in hexadecimal digits, once all is copied. Raises Damaged for one of another size."""
        while self._thread.is_alive():
            self._check()
            self._thread.join(_LOOK_SECONDS)
        if self._error:
            raise self._error
        return self._found

    def __enter__(self) -> "Copies":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _copy(self, jobs: Sequence[Callable[[], str]]) -> None:
        try:
            self._found = in_parallel(jobs, workers=by_processors(), check=self._look)
        except BaseException as error:  # noqa: BLE001 - raised where the digests are waited for
            self._error = error

    def _look(self) -> None:
        if self._stopped.is_set():
            raise CubeError("nobody waits for the copies any more")


def distinct(files: Sequence[Large]) -> bool:
    """Whether it is plain, without reading all, that no two of them are the same."""
    beginnings = set()
    for file in files:
        with file.open() as opened:
            beginnings.add((file.size, os.pread(opened.fileno(), _BEGINNING, 0)))
    return len(beginnings) == len(files)


def _copied(output: Output, file: Large) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    place, left = file.place, file.size
    with file.open() as source:
        try:
            while left:
                check_stopped()
                count = source.readinto(buffer[: min(left, _CHUNK)])
                if not count:
                    break
                output.write_at(place, buffer[:count])
                digest.update(buffer[:count])
                place, left = place + count, left - count
            if left or source.read(1):
                message = f"a file became {'shorter' if left else 'longer'} while it was read"
                raise Damaged(message, hint="run it again when nothing writes there")
        except OSError as error:
            raise CubeError(f"what goes into the bundle cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
