"""Streams that were compressed, read as what they were before."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

from mlcube.errors import Damaged

__all__ = ["Kind", "most_unpacked", "opened", "zstd"]

Kind = Literal["none", "gzip", "zstd"]
_MOST_UNPACKED, _MOST_TIMES = 1 << 28, 1000


def most_unpacked(size: int) -> int:
    """To how many bytes a file may unpack that is so large: more is only ever meant to fill the disk."""
    return _MOST_UNPACKED + _MOST_TIMES * size


def zstd() -> Any:
    """The module of the standard library, or the one that brings it to earlier Pythons."""
    if sys.version_info >= (3, 14):
        from compression import zstd as found
    else:
        from backports import zstd as found
    return found


@contextmanager
def opened(file: IO[bytes], kind: Kind) -> Iterator[IO[bytes]]:
    """What a compressed file says. Raises Damaged, also while it is read, when it is cut or no such file."""
    import zlib

    errors: tuple[type[Exception], ...] = (EOFError, zlib.error, OSError)
    try:
        if kind == "gzip":
            import gzip

            errors = (EOFError, zlib.error, gzip.BadGzipFile)
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                yield stream  # type: ignore[misc]
        elif kind == "zstd":
            module = zstd()
            errors = (EOFError, module.ZstdError)
            with module.ZstdFile(file, "rb") as stream:
                yield stream
        else:
            errors = ()
            yield file
    except errors as error:
        raise Damaged(f"the {kind} stream is cut or damaged: {error}") from None
