"""Reads a bundle: what is in it, and its content, each piece verified by its digest before anybody has it."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from mlcube import files, oci
from mlcube.bundling.layout import (
    BLOBS,
    INDEX,
    INSTALL,
    LARGEST_DOCUMENT,
    LAYOUT,
    Entry,
    Index,
    Layout,
    decode,
    sealed,
)
from mlcube.bundling.members import members
from mlcube.bundling.parts import Input
from mlcube.errors import CubeError, Damaged, MissingInput

__all__ = ["Bundle", "walk"]

_CHUNK = 1 << 20


class Bundle:
    """An open bundle. Its seal and its index were verified; a blob is when it is read."""

    def __init__(self, path: str, *, whole: bool = False) -> None:
        """`whole`: what it lacks is read from the earlier bundle that it builds on, if that lies beside it.

        Raises MissingInput when there is no such file, Damaged when it is no bundle, or not as it was made.
        """
        self._earlier: Bundle | None = None
        self._source = Input(path)
        try:
            self.path = self._source.path
            self.members = members(self._source)
            layout = self._small(LAYOUT)
            self.seal = decode(layout, Layout, LAYOUT).seal
            if layout != oci.canonical(sealed(self.seal)):
                raise Damaged(f"`{self.path}` was changed: its seal, in `{LAYOUT}`, is broken")
            if self.seal.schema != 1:
                hint = "a newer `cube` reads it"
                raise Damaged(f"`{self.path}` is a bundle of format {self.seal.schema}, unknown here", hint=hint)
            for name, digest in ((INDEX, self.seal.index), (INSTALL, self.seal.install)):
                if (name in self.members) != (digest is not None):
                    raise Damaged(f"`{self.path}` was changed: its seal and its members disagree on `{name}`")
                if digest is not None and oci.digest_of(self._small(name)) != digest:
                    raise Damaged(f"`{self.path}` was changed: `{name}` is not what the seal says")
            content = self._small(INDEX)
            self.index = decode(content, Index, INDEX)
            for entry in self.index.manifests:
                oci.check_digest(entry.digest)
            if whole and self.seal.since is not None:
                self._earlier = _beside(self.path, self.seal.since)
        except BaseException:
            self.close()
            raise

    @property
    def digest(self) -> str:
        """What tells the bundle from every other: the digest of its index."""
        return self.seal.index

    @property
    def parts(self) -> tuple[str, ...]:
        """The files that it consists of."""
        return self._source.parts

    def real_path(self) -> str | None:
        """Where it lies, behind every link; None where its name leads by now to another file than is read here."""
        return self._source.real_path()

    @property
    def size(self) -> int:
        """All of it, in bytes."""
        return self._source.size

    @property
    def digests(self) -> tuple[str, ...]:
        """The blobs that lie in it, in the order of the file."""
        return tuple(f"sha256:{name.removeprefix(BLOBS)}" for name in self.members if name.startswith(BLOBS))

    def entries(self, role: str) -> tuple[Entry, ...]:
        """Everything that is this in the bundle."""
        return tuple(entry for entry in self.index.manifests if entry.role == role)

    def has(self, digest: str) -> bool:
        """Whether a blob lies in it."""
        return _member(digest) in self.members or (self._earlier is not None and self._earlier.has(digest))

    def size_of(self, digest: str) -> int:
        """The size of a blob, in bytes."""
        if self._earlier is not None and _member(digest) not in self.members:
            return self._earlier.size_of(digest)
        return self._place(digest)[1]

    def chunks(self, digest: str) -> Iterator[memoryview]:
        """The content of a blob, piece by piece; raises Damaged after the last one when it was not what it should be.

        A piece is valid until the next one is asked for.
        """
        import hashlib

        if self._earlier is not None and _member(digest) not in self.members:
            yield from self._earlier.chunks(digest)
            return
        place, rest = self._place(digest)
        found = hashlib.sha256()
        buffer = memoryview(bytearray(min(_CHUNK, rest)))
        while rest:
            chunk = buffer[: min(rest, _CHUNK)]
            self._source.read_into(place, chunk)
            found.update(chunk)
            yield chunk
            place, rest = place + len(chunk), rest - len(chunk)
        if f"sha256:{found.hexdigest()}" != digest:
            raise Damaged(f"`{self.path}` is damaged: a blob is not `{digest}` any more", hint=self._source.hint())

    def blob(self, digest: str) -> bytes:
        """A small blob."""
        if self.size_of(digest) > LARGEST_DOCUMENT:
            raise Damaged(f"`{self.path}` holds `{digest}`, which is too large for what it is")
        return b"".join(bytes(chunk) for chunk in self.chunks(digest))

    def extract(self, digest: str, path: str, check: Callable[[], None] = lambda: None) -> None:
        """Write a blob to a file, which has that name only once it is whole and verified."""
        passing = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.part"
        try:
            with open(passing, "xb", buffering=0) as file:
                for chunk in self.chunks(digest):
                    check()
                    files.write_all(file.fileno(), chunk)
            os.replace(passing, path)
        except OSError as error:
            raise CubeError(f"`{path}` cannot be written: {(error.strerror or '').lower()}") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(passing)

    def manifest(self, digest: str) -> oci.Manifest:
        """A manifest, whose references all have a digest and a size that can be."""
        found = decode(self.blob(digest), oci.Manifest, digest)
        for each in (found.config, *found.layers):
            oci.check_digest(each.digest)
            if self.has(each.digest) and self.size_of(each.digest) != each.size:
                raise Damaged(f"`{self.path}` is damaged: `{each.digest}` has not the size that `{digest}` says")
        return found

    def install_script(self) -> bytes:
        """What installs `cube` out of the bundle."""
        return self._small(INSTALL)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()
        if self._earlier is not None:
            self._earlier.close()

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _small(self, name: str) -> bytes:
        return self._source.read(*self.members[name])

    def _place(self, digest: str) -> tuple[int, int]:
        found = self.members.get(_member(digest))
        if found is None:
            message = f"`{digest}` is not in `{self.path}`"
            if self.seal.since:
                hint = "put that one beside it, or make one of both: cube bundle join OLD.cube NEW.cube -o WHOLE.cube"
                raise MissingInput(f"{message}: it lies in the earlier bundle that this one builds on", hint=hint)
            raise Damaged(message, hint=self._source.hint())
        return found


def walk(bundle: Bundle) -> Iterator[tuple[Entry, oci.Manifest]]:
    """Every entry with its manifest."""
    for entry in bundle.index.manifests:
        if bundle.has(entry.digest) and bundle.size_of(entry.digest) != entry.size:
            raise Damaged(f"`{bundle.path}` is damaged: `{entry.digest}` has not the size that its index says")
        yield entry, bundle.manifest(entry.digest)


def _beside(path: str, digest: str) -> Bundle | None:
    """The bundle with this index in the same folder."""
    folder = os.path.dirname(path)
    for name in sorted(os.listdir(folder or ".")):
        if not name.endswith((".cube", ".001")) or name == os.path.basename(path):
            continue
        try:
            found = Bundle(os.path.join(folder, name), whole=True)
        except CubeError:
            continue  # another one, which nobody has asked for
        if found.digest == digest:
            return found
        found.close()
    return None


def _member(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")
