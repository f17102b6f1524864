"""Writes files so that nobody ever reads half of one, and reads those that others may have put there."""

import os

from mlcube.errors import CubeError

__all__ = ["end_of", "read_small", "unnamed", "write"]

_MOST_BYTES = 1 << 20


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


def unnamed(content: bytes) -> int:
    """A descriptor from which the content can be read, and which no other process of the machine finds by a name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("input")
    else:
        import tempfile

        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
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
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(_MOST_BYTES)
