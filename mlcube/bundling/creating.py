"""Writes a bundle out of what was gathered for it: whole under its name, or nothing."""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec

from mlcube import locks, oci
from mlcube.bundling import artifacts
from mlcube.bundling import images as engine_images
from mlcube.bundling.layout import ROLE, Entry
from mlcube.bundling.parts import Output
from mlcube.bundling.reading import Bundle
from mlcube.bundling.writing import Writer
from mlcube.errors import Damaged, UsageError

__all__ = ["REFERRER", "Artifact", "Files", "Gathered", "Piece", "create_bundle"]

REFERRER = "referrer"
"""The role of what says something of the cube: signatures, bill of materials, record of the publication."""


class Piece(NamedTuple):
    """A blob, and how it is read."""

    descriptor: oci.Descriptor
    open: Callable[[], Any]


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as it is, and its blobs."""

    name: str
    """The name that it gets in the index."""
    role: str
    manifest: bytes
    artifact_type: str = ""
    pieces: tuple[Piece, ...] = ()

    def entry(self) -> Entry:
        """Its place in the index."""
        return Entry(
            media_type=oci.MANIFEST,
            digest=oci.digest_of(self.manifest),
            size=len(self.manifest),
            artifact_type=self.artifact_type,
            annotations={"org.opencontainers.image.ref.name": self.name, ROLE: self.role},
        )


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Files that become an artifact: SIF files, wheels."""

    role: str
    name: str
    paths: tuple[str, ...]
    annotations: dict[str, str] = {}

    def entry(self) -> Entry:
        """Its place in the index, but for digest and size."""
        return artifacts.entry(self.role, self.name, self.annotations)


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that goes into a bundle, in the order in which it is written."""

    cube: Artifact
    referrers: tuple[Artifact, ...] = ()
    images: tuple[engine_images.EngineImage | Artifact, ...] = ()
    files: tuple[Files, ...] = ()
    install: bytes | None = None
    """The script that installs `cube`, where its wheels are among the files."""

    def all(self) -> Iterable[Artifact | engine_images.EngineImage | Files]:
        """In order."""
        return (self.cube, *self.referrers, *self.images, *self.files)


def create_bundle(
    path: str,
    gathered: Gathered,
    *,
    since: str | None = None,
    part_size: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Write a bundle; with `since`, only what that earlier bundle lacks. Gives the names of its files.

    Until everything is written nothing has that name, whatever happens; another process that would write the same
    waits for none and is refused.
    """
    with ExitStack() as stack:
        earlier = stack.enter_context(Bundle(since)) if since else None
        if earlier and os.path.exists(path) and os.path.samefile(earlier.path, path):
            raise UsageError("a bundle cannot build on the one whose place it takes", hint="give another `-o`")
        stack.enter_context(locks.exclusive(f"{path}.lock"))
        output = stack.enter_context(Output(path, part_size))
        writer = Writer(
            output,
            [each.entry() for each in gathered.all()],
            install=gathered.install,
            since=earlier.digest if earlier else None,
            elsewhere=earlier.digests if earlier else (),
            check=check,
        )
        entries = [_write(writer, each, check) for each in gathered.all()]
        return writer.finish(entries)


def _write(writer: Writer, what: Artifact | engine_images.EngineImage | Files, check: Callable[[], None]) -> Entry:
    if isinstance(what, Artifact):
        return _artifact(writer, what)
    if isinstance(what, engine_images.EngineImage):
        return engine_images.add(writer, what, check)
    return artifacts.add(writer, what.entry(), what.paths)


def _artifact(writer: Writer, artifact: Artifact) -> Entry:
    for piece in artifact.pieces:
        if writer.has(piece.descriptor.digest):
            continue
        with piece.open() as file:
            writer.stream(file, piece.descriptor.size, piece.descriptor.digest)
            if file.read(1):
                raise Damaged(f"what should be `{piece.descriptor.digest}` is longer now", hint="it was changed")
    return _checked(artifact, writer.small(artifact.manifest, oci.MANIFEST))


def _checked(artifact: Artifact, written: oci.Descriptor) -> Entry:
    return msgspec.structs.replace(artifact.entry(), digest=written.digest, size=written.size)
