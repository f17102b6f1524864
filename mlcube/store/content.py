"""The store of this machine: blobs by their digests, and the cubes that were unpacked from them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO

from mlcube import directories, files, oci
from mlcube.errors import CubeError, Damaged, MissingInput
from mlcube.locks import exclusive
from mlcube.oci import Manifest
from mlcube.parallel import stopping
from mlcube.store import beside, listing, pruning
from mlcube.store.building import Building
from mlcube.store.kept import About, Folder, Kept, read_manifest
from mlcube.store.listing import Entry
from mlcube.store.tree import sha256_of
from mlcube.unpacking import Unpacking, remove
from mlcube.watching import doze

__all__ = ["Store"]

_PIECE_BYTES = 1 << 20
_LOCK_SECONDS = 24 * 3600.0


def _nothing(*_: object) -> None:
    """Neither a reason to stop, nor anybody to tell."""


class Store:
    """What is kept, `store` in the cache directory. Safe for several processes, and for threads, at once.

    Whoever brings blobs that no kept cube needs yet does so within `using`, so that `prune` spares them.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        check: Callable[[], None] = _nothing,
        report: Callable[[str], None] = _nothing,
    ) -> None:
        self.path = path or os.path.join(directories.cache(), "store")
        self._check, self._report = check, report

    def blob_path(self, digest: str) -> str:
        """Where a blob lies once it is whole and verified; `.part` beside it until then."""
        return os.path.join(self.path, "blobs", "sha256", oci.check_digest(digest).partition(":")[2])

    def has(self, digest: str) -> bool:
        """Whether a blob is there, as a file."""
        return os.path.isfile(self.blob_path(digest))

    def read(self, digest: str) -> bytes:
        """A small blob, verified. Raises Damaged; then it is there no more."""
        with open(self.blob_path(digest), "rb") as file:
            content = file.read()
        if oci.digest_of(content) != digest:
            self.forget(digest)
            raise _damaged(digest)
        return content

    def forget(self, digest: str) -> None:
        """Remove a blob, if it is there."""
        if self.has(digest):
            with suppress(FileNotFoundError):
                os.unlink(self.blob_path(digest))

    def add(self, content: bytes) -> str:
        """Keep a small blob; its digest. One that was damaged is replaced."""
        digest = oci.digest_of(content)
        with suppress(Damaged):
            if self.has(digest) and self.read(digest) == content:
                return digest
        files.write(self.made(digest), content, mode=0o444)
        return digest

    def add_file(self, path: str, digest: str, *, move: bool = False) -> None:
        """Keep a file as a blob: a copy of it, or, on the same file system, the file itself. Raises Damaged."""
        if self.has(digest):
            return
        if move:
            if f"sha256:{sha256_of(path, self._check)}" != digest:
                raise _damaged(digest)
            try:
                os.rename(path, self.made(digest))
            except OSError:
                pass  # another file system
            else:
                self.seal(digest)
                return
        with open(path, "rb") as file:
            self.add_stream(file, digest)

    def add_stream(self, stream: IO[bytes], digest: str, size: int | None = None) -> None:
        """Keep what a stream says, `size` bytes of it or all, as a blob. Raises Damaged."""
        import hashlib

        found = hashlib.sha256()
        temporary = f"{self.made(digest)}.{os.getpid()}.{os.urandom(4).hex()}.part"
        try:
            with open(temporary, "xb", buffering=0) as file:
                left = size
                while left is None or left:
                    self._check()
                    piece = stream.read(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
                    if not piece:
                        break
                    found.update(piece)
                    files.write_all(file.fileno(), piece)
                    left = None if left is None else left - len(piece)
            if left or f"sha256:{found.hexdigest()}" != digest:
                raise _damaged(digest)
            os.replace(temporary, self.blob_path(digest))
            self.seal(digest)
        except OSError as error:
            raise CubeError(f"`{temporary}` cannot be written: {(error.strerror or str(error)).lower()}") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def made(self, digest: str) -> str:
        """The path of a blob, in a folder that is there; what lies at it and is no file is removed."""
        path = self.blob_path(digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.isdir(path):
            remove(path)
        return path

    def seal(self, digest: str) -> None:
        """Make a blob read-only."""
        os.chmod(self.blob_path(digest), 0o444)

    def cube(self, digest: str) -> Kept | None:
        """A kept cube, verified; None when it is not there. Raises Damaged when it is not what it was."""
        folder = self.folder(digest)
        if not folder.there:
            return None
        try:
            return folder.verified(digest, self._check)
        except Damaged as error:
            raise Damaged(f"the kept cube `{digest}` is damaged: {error.args[0]}", hint=_AGAIN) from None

    def verify(self, digest: str) -> None:
        """Read everything of a kept cube. Raises Damaged, and MissingInput when it is not there."""
        folder = self.folder(digest)
        if not folder.there:
            raise MissingInput(f"`{digest}` is not kept here", hint="`cube cache` lists what is")
        try:
            folder.verified(digest, self._check, thorough=True)
        except Damaged as error:
            raise Damaged(f"the kept cube `{digest}` is damaged: {error.args[0]}", hint=_AGAIN) from None

    def unpack(self, digest: str, origin: str | None = None) -> Kept:
        """Unpack the cube whose manifest and blobs are all there. Raises Damaged for any of them that is not right."""
        with self.lock(digest):
            if (kept := self._whole(digest)) is not None:
                return kept
            manifest = read_manifest(self.read(digest), digest)
            with self.build(digest, manifest, origin) as building:
                for layer in manifest.layers:
                    building.add(layer)
        return self.folder(digest).verified(digest, self._check)

    def _whole(self, digest: str) -> Kept | None:
        """The cube, if it is there and nothing is wrong with it."""
        try:
            return self.cube(digest)
        except Damaged:
            return None

    def build(self, digest: str, manifest: Manifest, origin: str | None) -> "AbstractContextManager[Building]":
        """A cube that is put together layer by layer, and there when the context ends well; for who holds its lock."""
        return Building.of(self, digest, manifest, origin, stopping(self._check))

    @contextmanager
    def fill(self, about: About, *, most_bytes: int, most_members: int) -> Iterator[Unpacking]:
        """A cube from elsewhere than a registry, put together file by file; for who holds its lock."""
        with self.folder(about.digest).filled(
            about, {}, most_bytes=most_bytes, most_members=most_members, check=self._check
        ) as unpacking:
            yield unpacking

    def folder(self, digest: str) -> Folder:
        """Where a cube is kept, if it is."""
        name = digest.removeprefix("sha256:").replace(":", "-")
        return Folder(os.path.join(self.path, "cubes", name))

    def digest_of_folder(self, name: str) -> str:
        """The digest of the cube that is kept in a folder of that name."""
        return name.replace("-", ":") if "-" in name else f"sha256:{name}"

    def lock(self, name: str) -> "AbstractContextManager[None]":
        """Hold a cube, a blob or, as `store`, everything against other processes; waits for them."""
        path = os.path.join(self.path, "locks", name.replace(":", "-"))
        return exclusive(
            path,
            wait_seconds=_LOCK_SECONDS,
            waiting=self._report,
            pause=self._pause,
            target=self.path,
            hint="CUBE_CACHE_DIR names another folder for what is kept",
        )

    def _pause(self, seconds: float, /, *events: int) -> None:
        self._check()
        doze(min(seconds, 0.2), *events)

    def using(self, digests: Iterable[str]) -> "AbstractContextManager[None]":
        """Cubes and blobs that are needed as long as the context lasts: `prune` spares them.

        So it does what a bundle gave to platforms, which is named as `entries` does.
        """
        return pruning.using(self, digests)

    def need(self, *digests: str) -> None:
        """The same until this process ends. One that is forked off it and outlives it says so for itself."""
        pruning.need(self, digests)

    def hold(self, name: str, digests: Iterable[str]) -> None:
        """Blobs that belong together, and to no cube; kept under a name until they are unused for long."""
        listing.hold(self, name, digests)

    def note_name(self, name: str, digest: str) -> None:
        """Remember what a name led to: with `--offline` it is asked for here."""
        listing.note_name(self, name, digest)

    def named(self, name: str) -> str | None:
        """The digest that a name led to when it was last looked up."""
        return listing.named(self, name)

    def entries(self) -> list[Entry]:
        """Everything that is kept, what was used last first; also what bundles gave to platforms."""
        found = [*listing.entries(self), *beside.entries(self)]
        return sorted(found, key=lambda entry: (-entry.used, entry.digest))

    def pin(self, digest: str) -> None:
        """Keep a cube whatever is pruned."""
        if not any(entry.digest == digest for entry in self.entries()):
            raise MissingInput(f"`{digest}` is not kept here", hint="`cube cache` lists what is")
        listing.pin(self, digest)

    def unpin(self, digest: str) -> None:
        """Let a cube be pruned again."""
        listing.unpin(self, digest)

    def prune(self, older_than: float, *, all: bool = False, keep: Sequence[str] = ()) -> int:  # noqa: A002
        """Remove what was not used for `older_than` seconds, or everything, but what is pinned, in use, or in `keep`.

        The bytes that were freed.
        """
        return pruning.prune(self, 0.0 if all else older_than, keep)


_AGAIN = "`cube pull` brings it anew"


def _damaged(digest: str) -> Damaged:
    return Damaged(f"the blob `{digest}` is not what its digest says")
