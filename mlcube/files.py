"""Writes files so that nobody ever reads half of one, and reads and counts those that others may have put there."""

import os
from contextlib import suppress

from mlcube.errors import CubeError

__all__ = ["SMALL_BYTES", "end_of", "names", "read", "read_small", "size_of", "unnamed", "write", "write_all"]

_WRITTEN_BYTES = 32 << 10
"""Files are written in pieces of this size, each by one thread (several that write to one: `mlcube.bundling.parts`).

For what is written at once Linux takes pages as large as it has; those a virtual machine returns to its host first, and
gets them back slowly: pulling 2 GiB to a disk took 3.8 s in these pieces, 4.6 s in pieces of 128 KiB, and in those of
2 MiB nearly twice as long.
"""
SMALL_BYTES = 1 << 20
"""What a file can have that is meant to be small: of a longer one no more is read."""
_PIECE_BYTES = 1 << 16


def write(path: str, content: bytes, *, mode: int = 0o666, durable: bool = False) -> None:
    """Write a file anew, whole or not at all; `durable`: it survives a loss of power.

    Raises CubeError with one sentence when that is not possible.
    """
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise CubeError(f"`{path}` cannot be written: {error.strerror}") from error


def write_all(descriptor: int, content: "bytes | bytearray | memoryview") -> None:
    """Write all of it to what waits until it can be written. Raises OSError."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest[:_WRITTEN_BYTES]) :]


def unnamed(content: bytes) -> int:
    """A descriptor from which the content can be read, and which no other process of the machine finds by a name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("input")
    else:
        import tempfile

        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    write_all(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def end_of(descriptor: int, size: int) -> bytearray:
    """The last bytes of what was written there, after which it is closed."""
    try:
        return bytearray(os.pread(descriptor, size, max(0, os.fstat(descriptor).st_size - size)))
    finally:
        os.close(descriptor)


def read_small(path: str) -> bytes:
    """The content of a small file: no link is followed, no named pipe waited for. Raises OSError."""
    return _read(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), SMALL_BYTES)


def read(path: str) -> bytes:
    """The content of a file of ours, with as few calls as there can be: many are read. Raises OSError."""
    return _read(os.open(path, os.O_RDONLY))


def _read(descriptor: int, most: int | None = None) -> bytes:
    content = b""
    try:
        while piece := os.read(descriptor, _PIECE_BYTES):
            content += piece
            if most is not None and len(content) >= most:
                return content[:most]
    finally:
        os.close(descriptor)
    return content


def names(folder: str) -> list[str]:
    """What lies in a folder, in order; nothing where there is no such folder.

    Raises CubeError for one that cannot be read: what lies there may be needed.
    """
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CubeError(f"`{folder}` cannot be read: {(error.strerror or str(error)).lower()}") from error


def size_of(folder: str) -> int:
    """The bytes of all files in a folder, which may change meanwhile."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size
