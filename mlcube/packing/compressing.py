"""Large files packed with zstd: their digest is that of the packed bytes, so they are packed before they are sent."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import msgspec

from mlcube import directories
from mlcube.compression import zstd
from mlcube.errors import CubeError
from mlcube.files import write_all
from mlcube.known_digests import KnownDigests

__all__ = ["Changed", "Compressed", "compressed"]

_LEVEL = 9
_PIECE_BYTES = 1 << 20


class Changed(Exception):
    """The file is no more what it was when it was looked at."""


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """What a file becomes."""

    digest: str
    size: int
    open: Callable[[], BinaryIO]
    """Packs it once more if what was packed is gone, and then raises Changed too."""
    discard: Callable[[], None]
    """It is not needed any more."""


def compressed(path: str, digest: str, known: KnownDigests, check: Callable[[], None]) -> Compressed:
    """A file with that digest, packed with zstd. What was packed lies in the cache until it is discarded.

    Raises OSError when the file cannot be read, Changed when it has another digest by now, CubeError when there is no
    room for it.
    """
    module = zstd()
    key = f"zstd:2:{_LEVEL}:{module.zstd_version}:{digest}"
    kept = os.path.join(directories.cache(), "compressed", hashlib.sha256(key.encode()).hexdigest())
    found = known.look(key, [])
    if found is None:
        found = _compress(path, digest, kept, module, check)
        known.note(key, [], *found, begun=0)

    def opened() -> BinaryIO:
        if not os.path.exists(kept):
            _compress(path, digest, kept, module, check)
        return open(kept, "rb")

    def discard() -> None:
        with suppress(OSError):
            os.unlink(kept)

    return Compressed(digest=found[0], size=found[1], open=opened, discard=discard)


def _compress(path: str, digest: str, kept: str, module: Any, check: Callable[[], None]) -> tuple[str, int]:
    """Pack a file to its place in the cache; the digest and the size of what came out."""
    temporary = f"{kept}.{os.getpid()}.{os.urandom(4).hex()}"
    read, written, size = hashlib.sha256(), hashlib.sha256(), 0
    packer = module.ZstdCompressor(level=_LEVEL)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source:
            with _writing(kept):
                os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
                target = open(temporary, "xb", buffering=0)  # noqa: SIM115 - closed below, whatever happens
            with target:
                while True:
                    check()
                    piece = source.read(_PIECE_BYTES)
                    read.update(piece)
                    packed = packer.compress(piece) if piece else packer.flush()
                    written.update(packed)
                    with _writing(kept):
                        write_all(target.fileno(), packed)
                    size += len(packed)
                    if not piece:
                        break
        if f"sha256:{read.hexdigest()}" != digest:
            raise Changed
        with _writing(kept):
            os.replace(temporary, kept)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return f"sha256:{written.hexdigest()}", size


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CubeError(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None
