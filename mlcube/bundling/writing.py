"""Writes a bundle in one pass: content is hashed while it is copied, and what was not known is filled in last."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from mlcube import oci
from mlcube.bundling.copying import Copy, Source
from mlcube.bundling.layout import (
    BLOBS,
    BLOCK,
    END,
    INDEX,
    INSTALL,
    LAYOUT,
    Entry,
    Index,
    Seal,
    header,
    padding,
    sealed,
)
from mlcube.bundling.parts import Output
from mlcube.bundling.several import Copies, Large, distinct
from mlcube.errors import CubeError, Damaged

__all__ = ["Source", "Writer"]

_NO_DIGEST = "sha256:" + "0" * 64
_SIZE_DIGITS = 12


class Writer:
    """A bundle that is being written.

    The index stands at the beginning, and is known at the end: its room is kept, from the names of what will be in it.
    """

    def __init__(
        self,
        output: Output,
        entries: Iterable[Entry],
        *,
        install: bytes | None = None,
        since: str | None = None,
        elsewhere: Iterable[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`entries` are as they will be, digests and sizes aside; blobs that lie `elsewhere` are not written."""
        self._output, self._check = output, check
        self._known: dict[str, int] = {}
        """The blobs that were written, with their sizes."""
        self._elsewhere = frozenset(elsewhere)
        self._seal = Seal(index=_NO_DIGEST, install=oci.digest_of(install) if install else None, since=since)
        self._room = _room(entries)
        self._member(LAYOUT, self._layout())
        self._member(INDEX, b" " * self._room)
        if install:
            self._member(INSTALL, install)

    def small(self, content: bytes, media_type: str, **fields: object) -> oci.Descriptor:
        """Write a small blob."""
        digest = oci.digest_of(content)
        if digest not in self._known and digest not in self._elsewhere:
            self._member(BLOBS + digest.removeprefix("sha256:"), content)
        self._known.setdefault(digest, len(content))
        return oci.Descriptor(media_type=media_type, digest=digest, size=len(content), **fields)  # type: ignore[arg-type]

    def has(self, digest: str) -> bool:
        """Whether a blob need not be written any more."""
        return digest in self._known or digest in self._elsewhere

    def stream(self, source: Source, size: int, expected: str | None = None) -> str:
        """Write a blob of that size and give its digest. Raises Damaged when it is not the one that is expected."""
        begin = self._output.place
        self._output.write(header(BLOBS + "0" * 64, size))
        hexadecimal = Copy(self._output, self._check).run(source, size)
        digest = f"sha256:{hexadecimal}"
        if expected is not None and digest != expected:
            raise Damaged(f"what should be `{expected}` is `{digest}`", hint="it was changed where it lay")
        if self.has(digest):
            self._output.go_to(begin)
        else:
            self._output.write(bytes(padding(size)))
            self._output.write_at(begin, header(BLOBS + hexadecimal, size))
        self._known.setdefault(digest, size)
        return digest

    @contextmanager
    def beside(self, files: Sequence[Large]) -> Iterator[Callable[[], list[str]] | None]:
        """Write large blobs while the context writes others; what it gives waits for them and tells their digests.

        None where they must come one after the other: where one of them may be there already, or twice; and in parts,
        which begin where another ends.
        """
        if self._output.part_size or self._elsewhere or {each.size for each in files} & set(self._known.values()):
            yield None
            return
        if len(files) < 2 or not distinct(files):
            yield None
            return
        placed, place = [], self._output.place
        for each in files:
            placed.append(each._replace(place=place + BLOCK))
            place += BLOCK + each.size + padding(each.size)
        self._output.go_to(place)
        with Copies(self._output, placed, self._check) as copies:

            def digests() -> list[str]:
                found = copies.digests()
                for each, hexadecimal in zip(placed, found, strict=True):
                    self._output.write_at(each.place - BLOCK, header(BLOBS + hexadecimal, each.size))
                    self._output.write_at(each.place + each.size, bytes(padding(each.size)))
                    self._known[f"sha256:{hexadecimal}"] = each.size
                return [f"sha256:{hexadecimal}" for hexadecimal in found]

            yield digests

    def file(self, file: Source, size: int, media_type: str, **fields: object) -> oci.Descriptor:
        """Write what an open file holds."""
        digest = self.stream(file, size)
        return oci.Descriptor(media_type=media_type, digest=digest, size=size, **fields)  # type: ignore[arg-type]

    def manifest(self, manifest: oci.Manifest) -> oci.Descriptor:
        """Write a manifest, whose blobs were written before."""
        return self.small(oci.canonical(manifest), oci.MANIFEST)

    def finish(self, entries: Iterable[Entry]) -> tuple[str, ...]:
        """Fill in the index, end the file and give it its name. Gives the names of the files that it consists of."""
        index = oci.canonical(Index(manifests=tuple(entries)))
        if len(index) > self._room:
            raise CubeError("the index of the bundle needs more room than was kept for it")
        index = index.ljust(self._room)
        self._output.write(END)
        self._seal = msgspec.structs.replace(self._seal, index=oci.digest_of(index))
        layout = self._layout()
        self._output.write_at(BLOCK, layout)
        self._output.write_at(BLOCK + len(layout) + padding(len(layout)) + BLOCK, index)
        self._check()
        return self._output.keep()

    def _layout(self) -> bytes:
        return oci.canonical(sealed(self._seal))

    def _member(self, name: str, content: bytes) -> None:
        self._check()
        self._output.write(b"".join((header(name, len(content)), content, bytes(padding(len(content))))))


def _room(entries: Iterable[Entry]) -> int:
    """Enough for the index, whatever the digests and sizes turn out to be."""
    blank = tuple(msgspec.structs.replace(entry, digest=_NO_DIGEST, size=0) for entry in entries)
    room = len(oci.canonical(Index(manifests=blank))) + _SIZE_DIGITS * len(blank)
    return room + padding(room)
