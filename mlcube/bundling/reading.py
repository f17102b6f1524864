"""Reads a bundle: what is in it, and its content, each piece verified by its digest before anybody has it."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from mlcube import files, oci
from mlcube.bundling.layout import (
    BLOBS,
    CUBE,
    INDEX,
    INSTALL,
    LARGEST_DOCUMENT,
    LAYOUT,
    Entry,
    Index,
    Layout,
    Seal,
    brief,
    decode,
    sealed,
)
from mlcube.bundling.members import first_member, members
from mlcube.bundling.parts import Input
from mlcube.errors import CubeError, Damaged, MissingInput

__all__ = ["Bundle", "cube_entry", "walk"]

_CHUNK = 1 << 20


class Bundle:
    """An open bundle. Its seal and its index were verified; a blob is when it is read."""

    def __init__(self, path: str, *, whole: bool = False) -> None:
        """`whole`: what it lacks is read from the earlier bundles that it builds on, if they lie beside it.

        Raises MissingInput when there is no such file, Damaged when it is no bundle, or not as it was made.
        """
        self._earlier: list[Bundle] = []
        """Each is built upon by the one before it, the first by this one."""
        self._source = Input(path)
        try:
            self.path = self._source.path
            self.members = members(self._source)
            self.seal = _seal(self.path, self._small(LAYOUT))
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
                self._check(entry, INDEX)
            if whole and self.seal.since is not None:
                self._look_beside(self.seal.since)
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

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it lies, and the earlier bundles of one that was opened whole."""
        return (self.path, *(each.path for each in self._earlier))

    def digests_in_all(self) -> frozenset[str]:
        """The same with those in the earlier bundles, of one that was opened whole.

        Raises MissingInput when one of them does not lie beside it.
        """
        *_, last = (self, *self._earlier)
        if last.seal.since is not None:
            raise MissingInput(
                f"`{last.path}` builds on an earlier bundle, which does not lie beside it",
                hint="put that one beside it, or build on a bundle that builds on none",
            )
        return frozenset(digest for each in (self, *self._earlier) for digest in each.digests)

    def entries(self, role: str) -> tuple[Entry, ...]:
        """Everything that is this in the bundle."""
        return tuple(entry for entry in self.index.manifests if entry.role == role)

    def has(self, digest: str) -> bool:
        """Whether a blob lies in it."""
        return _member(digest) in self.members or self._holder(digest) is not None

    def size_of(self, digest: str) -> int:
        """The size of a blob, in bytes."""
        return (self._holder(digest) or self)._place(digest)[1]

    def chunks(self, digest: str) -> Iterator[memoryview]:
        """The content of a blob, piece by piece; raises Damaged after the last one when it was not what it should be.

        A piece is valid until the next one is asked for.
        """
        import hashlib

        if holder := self._holder(digest):
            yield from holder.chunks(digest)
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
        folder, name = os.path.split(path)
        # Of a name that is as long as names can be only a part; a digest, by which a store knows it, is whole.
        begin = os.fsdecode(os.fsencode(name)[:64])
        passing = os.path.join(folder, f"{begin}.{os.getpid()}.{os.urandom(4).hex()}.part")
        try:
            with open(passing, "xb", buffering=0) as file:
                for chunk in self.chunks(digest):
                    check()
                    files.write_all(file.fileno(), chunk)
            os.replace(passing, path)
        except OSError as error:
            raise CubeError(f"`{path}` cannot be written: {(error.strerror or '').lower()}") from error
        finally:
            with suppress(OSError):  # it is not there, or the folder cannot be written: that was told
                os.unlink(passing)

    def manifest(self, digest: str) -> oci.Manifest:
        """A manifest, whose references all have a digest and a size that can be."""
        found = decode(self.blob(digest), oci.Manifest, digest)
        for each in (found.config, *found.layers):
            self._check(each, digest)
            if self.has(each.digest) and self.size_of(each.digest) != each.size:
                raise Damaged(f"`{self.path}` is damaged: `{each.digest}` has not the size that `{digest}` says")
        return found

    def install_script(self) -> bytes:
        """What installs `cube` out of the bundle."""
        return self._small(INSTALL)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()
        while self._earlier:
            self._earlier.pop().close()

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, described: oci.Descriptor, name: str) -> None:
        """Raise Damaged for what no content can be, where `name` in the bundle says it."""
        begin = f"`{self.path}` is damaged: `{name}` names"
        if not oci.is_digest(described.digest):
            raise Damaged(f"{begin} `{brief(described.digest)}`, which is no digest")
        if described.size < 0:
            raise Damaged(f"{begin} `{described.digest}` with a size below zero")

    def _holder(self, digest: str) -> "Bundle | None":
        """Which of the earlier ones has a blob that this one lacks."""
        if not self._earlier or _member(digest) in self.members:
            return None
        return next((each for each in self._earlier if _member(digest) in each.members), None)

    def _look_beside(self, since: str) -> None:
        """Open what this one builds on, what that one builds on, and so on, as far as they lie in its folder.

        None is opened twice: what a seal says of another bundle may be forged, so that two name each other.
        """
        wanted: str | None = since
        candidates = _candidates(self.path)
        while wanted is not None and (found := _taken(candidates, wanted)):
            self._earlier.append(found)
            wanted = found.seal.since

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


def cube_entry(bundle: Bundle) -> Entry:
    """The cube in the index."""
    found = bundle.entries(CUBE)
    if len(found) != 1:
        raise Damaged(f"`{bundle.path}` holds {len(found) or 'no'} cubes, and a bundle holds one")
    return found[0]


def walk(bundle: Bundle) -> Iterator[tuple[Entry, oci.Manifest]]:
    """Every entry with its manifest."""
    for entry in bundle.index.manifests:
        if bundle.has(entry.digest) and bundle.size_of(entry.digest) != entry.size:
            raise Damaged(f"`{bundle.path}` is damaged: `{entry.digest}` has not the size that its index says")
        yield entry, bundle.manifest(entry.digest)


def _seal(path: str, layout: bytes) -> Seal:
    """The seal that a bundle's layout holds, unbroken."""
    seal = decode(layout, Layout, LAYOUT).seal
    if layout != oci.canonical(sealed(seal)):
        raise Damaged(f"`{path}` was changed: its seal, in `{LAYOUT}`, is broken")
    if seal.since is not None and not oci.is_digest(seal.since):
        raise Damaged(f"`{path}` is damaged: it builds on `{brief(seal.since)}`, which is no bundle's digest")
    return seal


def _candidates(path: str) -> dict[str, Seal]:
    """The seals of the other bundles in the folder, by path: those first that build on none, so have all they need."""
    folder, own = os.path.split(path)
    found: dict[str, Seal] = {}
    with suppress(OSError):  # in a folder that cannot be listed nothing is found
        for name in sorted(os.listdir(folder or ".")):
            if name.endswith((".cube", ".001")) and name != own:
                other = os.path.join(folder, name)
                with suppress(CubeError), Input(other) as source:  # no bundle: nobody has asked for it
                    member, place = first_member(source)
                    if member == LAYOUT:
                        found[other] = _seal(other, source.read(*place))
    return dict(sorted(found.items(), key=lambda each: each[1].since is not None))


def _taken(candidates: dict[str, Seal], digest: str) -> Bundle | None:
    """The bundle with this index, which is no candidate any more."""
    for path in [path for path, seal in candidates.items() if seal.index == digest]:
        del candidates[path]
        with suppress(CubeError):  # damaged behind its seal
            found = Bundle(path)
            if found.digest == digest:
                return found
            found.close()  # another one took its place
    return None


def _member(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")
