"""Writes a bundle out of what was gathered for it: whole under its name, or nothing."""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec

from mlcube import locks, oci
from mlcube.artifact import TITLE
from mlcube.bundling import artifacts
from mlcube.bundling import images as engine_images
from mlcube.bundling.layout import ROLE, Entry, Platform, SealSignature
from mlcube.bundling.parts import Output
from mlcube.bundling.reading import Bundle
from mlcube.bundling.writing import Writer
from mlcube.errors import Damaged, UsageError

__all__ = ["REFERRER", "Artifact", "Files", "Gathered", "Making", "Pending", "Piece", "create_bundle"]

REFERRER = "referrer"
"""The role of what says something of the cube: signatures, bill of materials, record of the publication."""


class Piece(NamedTuple):
    """A blob, and how it is read."""

    descriptor: oci.Descriptor
    open: Callable[[], Any]


class Pending(NamedTuple):
    """A blob whose digest is found out while it is written."""

    media_type: str
    size: int
    annotations: dict[str, str]
    open: Callable[[], Any]
    noted: Callable[[str], None] = lambda _digest: None
    """Told the digest."""


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact whose manifest is made once the digests of all its layers are known."""

    name: str
    role: str
    artifact_type: str
    layers: tuple[Piece | Pending, ...]
    compose: Callable[[tuple[oci.Descriptor, ...]], tuple[bytes, bytes]]
    """Gives configuration and manifest for the layers."""
    config_type: str

    def entry(self) -> Entry:
        """Its place in the index, but for digest and size."""
        return _entry(self.name, self.role, self.artifact_type)


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as it is, and its blobs."""

    name: str
    """The name that it gets in the index."""
    role: str
    manifest: bytes
    media_type: str = oci.MANIFEST
    artifact_type: str = ""
    platform: Platform | None = None
    pieces: tuple[Piece, ...] = ()

    def entry(self) -> Entry:
        """Its place in the index."""
        blank = _entry(self.name, self.role, self.artifact_type)
        return msgspec.structs.replace(blank, media_type=self.media_type, platform=self.platform)


def _entry(name: str, role: str, artifact_type: str) -> Entry:
    told = {"org.opencontainers.image.ref.name": name, ROLE: role}
    return Entry(media_type=oci.MANIFEST, digest="", size=0, artifact_type=artifact_type, annotations=told)


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

    cube: Artifact | Making
    referrers: tuple[Artifact, ...] = ()
    images: tuple[engine_images.EngineImage | Artifact, ...] = ()
    files: tuple[Files, ...] = ()
    install: bytes | None = None
    """The script that installs `cube`, where its wheels are among the files."""

    def all(self) -> Iterable[Artifact | Making | engine_images.EngineImage | Files]:
        """In order."""
        return (self.cube, *self.referrers, *self.images, *self.files)


def create_bundle(
    path: str,
    gathered: Gathered,
    *,
    since: str | None = None,
    part_size: int | None = None,
    sign: Callable[[str], SealSignature] | None = None,
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
            sign=sign,
            check=check,
        )
        entries = [_write(writer, each, check) for each in gathered.all()]
        return writer.finish(entries)


def _write(
    writer: Writer, what: Artifact | Making | engine_images.EngineImage | Files, check: Callable[[], None]
) -> Entry:
    if isinstance(what, engine_images.EngineImage):
        return engine_images.add(writer, what, check)
    if isinstance(what, Files):
        return artifacts.add(writer, what.entry(), what.paths)
    if isinstance(what, Making):
        written = _made(writer, what)
    else:
        for piece in what.pieces:
            _piece(writer, piece)
        written = writer.small(what.manifest, what.media_type)
    return msgspec.structs.replace(what.entry(), digest=written.digest, size=written.size)


def _made(writer: Writer, making: Making) -> oci.Descriptor:
    layers = tuple(
        _piece(writer, layer) if isinstance(layer, Piece) else _pending(writer, layer) for layer in making.layers
    )
    config, manifest = making.compose(layers)
    writer.small(config, making.config_type)
    return writer.small(manifest, oci.MANIFEST)


def _piece(writer: Writer, piece: Piece) -> oci.Descriptor:
    if not writer.has(piece.descriptor.digest):
        with piece.open() as file:
            writer.stream(file, piece.descriptor.size, piece.descriptor.digest)
            _ends(file, piece.descriptor.digest)
    return piece.descriptor


def _pending(writer: Writer, layer: Pending) -> oci.Descriptor:
    with layer.open() as file:
        digest = writer.stream(file, layer.size)
        _ends(file, layer.annotations.get(TITLE, digest))
    layer.noted(digest)
    return oci.Descriptor(media_type=layer.media_type, digest=digest, size=layer.size, annotations=layer.annotations)


def _ends(file: Any, name: str) -> None:
    if file.read(1):
        raise Damaged(f"`{name}` became longer while it was read", hint="run it again when nothing writes there")
