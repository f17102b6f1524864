"""Puts a cube together from its layers, in any order and while others still arrive."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from mlcube import files, oci
from mlcube.artifact import CARD, FILE, FILE_ZSTD, MODE, PACK, TITLE, read_config
from mlcube.errors import Damaged
from mlcube.oci import Descriptor, Manifest
from mlcube.packing import tar
from mlcube.store.kept import About
from mlcube.store.tree import sha256_of
from mlcube.unpacking import Unpacking, unpack_tar
from mlcube.unpacking.folder import Readable, refused

if TYPE_CHECKING:
    from mlcube.store.content import Store

__all__ = ["Building"]

_PIECE_BYTES = 1 << 20
_MOST_MEMBERS = 2_000_000
_MOST_PACKED = 1 << 50


class Building:
    """A cube that is being put together. Threads may add layers at the same time."""

    def __init__(self, store: "Store", unpacking: Unpacking, check: Callable[[], None]) -> None:
        self._store, self._unpacking, self._check = store, unpacking, check
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def of(
        cls, store: "Store", digest: str, manifest: Manifest, origin: str | None, check: Callable[[], None]
    ) -> "Iterator[Building]":
        """The cube of a manifest, whose configuration is there; it is kept when the context ends well."""
        config_content = store.read(manifest.config.digest)
        config = read_config(config_content)
        about = About(digest=digest, title=config.name, version=config.version, origin=origin)
        beside = {"manifest.json": store.read(digest), "config.json": config_content}
        folder = store.folder(digest)
        packed = any(each.media_type == FILE_ZSTD for each in manifest.layers)
        most_bytes = _MOST_PACKED if packed else sum(each.size for each in manifest.layers)
        with folder.filled(about, beside, most_bytes=most_bytes, most_members=_MOST_MEMBERS, check=check) as unpacking:
            building = cls(store, unpacking, check)
            yield building
            building.check_file(config.file, config.digest)

    def add(self, layer: Descriptor, *, verified: bool = False) -> None:
        """Put what a layer holds where it belongs. `verified`: the blob was read and found right just now."""
        match layer.media_type:
            case media_type if media_type == PACK:
                self._pack(layer)
            case media_type if media_type == FILE:
                self._file(layer, verified)
            case media_type if media_type == FILE_ZSTD:
                self._zstd(layer)
            case media_type if media_type == CARD:
                if not verified:
                    self._verify(layer)  # the card itself also lies in a pack or a layer of its own
            case _:
                pass  # of a later format: what it is for is said in the configuration's version

    def add_pack(self, content: bytes) -> None:
        """Put the files of a pack where they belong, which was read and found right just now."""
        import io

        members = tar.plain(content)
        with self._lock:
            if members is None:
                unpack_tar(self._unpacking, io.BytesIO(content))
                return
            self._check()
            for name, mode, file in members:
                self._unpacking.small_file(name, int(mode, 8), file)

    def check_file(self, path: str, digest: str) -> None:
        """The cube's own file must be the one that the configuration tells of."""
        found = next((each.sha256 for each in self._unpacking.placed if each.path == path), None)
        if found is None:
            raise Damaged(f"the cube's file `{path}` is in none of its layers")
        if f"sha256:{found}" != digest:
            raise Damaged(f"the cube's file `{path}` is not the one that its configuration tells of")

    def _pack(self, layer: Descriptor) -> None:
        with open(self._store.blob_path(layer.digest), "rb") as file:
            stream = _Hashed(file)
            with self._lock:
                unpack_tar(self._unpacking, stream)
            while stream.read(_PIECE_BYTES):
                self._check()
        if stream.digest != layer.digest:
            raise self._damaged(layer)

    def _file(self, layer: Descriptor, verified: bool) -> None:
        """A link to the blob; where its mode is another already, or links are not possible, a copy."""
        if not verified:
            self._verify(layer)
        name, mode = _title(layer), 0o555 if layer.annotations.get(MODE) == "755" else 0o444
        source = self._store.blob_path(layer.digest)
        with self._lock:
            target = self._unpacking.reserve(name)
            status = os.stat(source)
            if stat.S_IMODE(status.st_mode) != mode and status.st_nlink == 1:
                os.chmod(source, mode)
            linked = stat.S_IMODE(os.stat(source).st_mode) == mode and _linked(source, target)
        if not linked:
            _copy(source, target, mode, self._check)
        with self._lock:
            self._unpacking.note(name, layer.digest.partition(":")[2])

    def _zstd(self, layer: Descriptor) -> None:
        """A file that travelled compressed; how long it is, it says itself."""
        from mlcube.compression import most_unpacked, opened

        name, mode = _title(layer), 0o755 if layer.annotations.get(MODE) == "755" else 0o644
        self._verify(layer)
        with self._lock:
            target = self._unpacking.reserve(name)
        digest = None
        with open(self._store.blob_path(layer.digest), "rb") as packed, opened(packed, "zstd") as content:
            bounded = _Bounded(content, name, most_unpacked(layer.size))
            digest = _written(bounded, target, 0o555 if mode & 0o100 else 0o444, self._check)
        with self._lock:
            self._unpacking.note(name, digest)

    def _verify(self, layer: Descriptor) -> None:
        if f"sha256:{sha256_of(self._store.blob_path(layer.digest), self._check)}" != layer.digest:
            raise self._damaged(layer)

    def _damaged(self, layer: Descriptor) -> Damaged:
        self._store.forget(layer.digest)
        return Damaged(f"the blob `{layer.digest}` is not what its digest says", hint="`cube pull` brings it anew")


class _Bounded:
    """A stream that may not become longer than what somebody would pack so small."""

    def __init__(self, content: IO[bytes], name: str, most: int) -> None:
        self._content, self._name, self._left = content, name, most

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        piece = self._content.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise refused(self._name, "unpacks to so much that it can only be meant to fill the disk")
        return piece


class _Hashed:
    """A stream that knows the digest of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        import hashlib

        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        piece = self._file.read(size)
        self._hash.update(piece)
        return piece

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return f"sha256:{self._hash.hexdigest()}"


def _title(layer: Descriptor) -> str:
    name = layer.annotations.get(TITLE, "")
    if not name:
        raise Damaged(f"the layer `{oci.check_digest(layer.digest)}` does not say which file it is")
    return name


def _linked(source: str, target: str) -> bool:
    try:
        os.link(source, target)
    except OSError:  # too many links, or a file system without them
        return False
    return True


def _copy(source: str, target: str, mode: int, check: Callable[[], None]) -> None:
    with open(source, "rb") as file:
        _written(file, target, mode, check)


def _written(content: Readable, target: str, mode: int, check: Callable[[], None]) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb", buffering=0) as file:
        while piece := content.read(_PIECE_BYTES):
            check()
            digest.update(piece)
            files.write_all(file.fileno(), piece)
    return digest.hexdigest()
