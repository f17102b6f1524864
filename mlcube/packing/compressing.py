"""Large files packed with zstd: their digest is that of the packed bytes, so they are packed before they are sent."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import msgspec

from mlcube import directories
from mlcube.compression import zstd
from mlcube.known_digests import KnownDigests

__all__ = ["Compressed", "compressed"]

_LEVEL = 9
_PIECE_BYTES = 1 << 20


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """What a file becomes."""

    digest: str
    size: int
    open: Callable[[], BinaryIO]
    discard: Callable[[], None]
    """It is not needed any more."""


def compressed(
    path: str, known: KnownDigests, check: Callable[[], None], progress: Callable[[int], None]
) -> Compressed:
    """A file packed with zstd. What was packed lies in the cache until it is discarded. Raises OSError."""
    module = zstd()
    own, size = known.of_file(path, check, progress)
    key = f"zstd:{_LEVEL}:{module.zstd_version}:{own}:{size}"
    kept = os.path.join(directories.cache(), "compressed", hashlib.sha256(key.encode()).hexdigest())
    found = known.look(key, [])
    if found is None:
        found = _compress(path, kept, module, check)
        known.note(key, [], *found, begun=0)
    digest, length = found

    def opened() -> BinaryIO:
        if not os.path.exists(kept):
            _compress(path, kept, module, check)
        return open(kept, "rb")

    def discard() -> None:
        with suppress(OSError):
            os.unlink(kept)

    return Compressed(digest=digest, size=length, open=opened, discard=discard)


def _compress(path: str, kept: str, module: Any, check: Callable[[], None]) -> tuple[str, int]:
    """Pack a file to its place in the cache; the digest and the size of what came out."""
    os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
    temporary = f"{kept}.{os.getpid()}.{os.urandom(4).hex()}"
    digest, size = hashlib.sha256(), 0
    packer = module.ZstdCompressor(level=_LEVEL)
    try:
        with (
            os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source,
            open(temporary, "xb") as target,
        ):
            while True:
                check()
                piece = source.read(_PIECE_BYTES)
                packed = packer.compress(piece) if piece else packer.flush()
                digest.update(packed)
                size += target.write(packed)
                if not piece:
                    break
        os.replace(temporary, kept)
    except BaseException:
        os.unlink(temporary)
        raise
    return f"sha256:{digest.hexdigest()}", size
