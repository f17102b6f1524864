"""Writes a bundle out of what was gathered for it: whole under its name, or nothing."""

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import msgspec

from mlcube import locks, oci
from mlcube.artifact import TITLE
from mlcube.bundling import artifacts
from mlcube.bundling import images as engine_images
from mlcube.bundling.layout import ROLE, Entry, Platform
from mlcube.bundling.parts import Output
from mlcube.bundling.reading import Bundle
from mlcube.bundling.several import Large
from mlcube.bundling.writing import Writer
from mlcube.errors import CubeError, Damaged, UsageError

__all__ = ["REFERRER", "Artifact", "Files", "Gathered", "Making", "Pending", "Piece", "check_place", "create_bundle"]

_LARGE_BYTES = 16 << 20
"""What is as large is worth a thread of its own."""
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


def check_place(path: str, since: str | None) -> None:
    """Raise what `create_bundle` would have to say of these two, before anything was gathered for it.

    Raises UsageError for a place that is none for a file, CubeError for one that cannot be written, and what `Bundle`
    raises for an earlier bundle that is none.
    """
    if since:
        with Bundle(since, whole=True) as earlier:
            _check_another(earlier, path)
            earlier.digests_in_all()  # raises where one is missing
    if os.path.isdir(path):
        raise UsageError(f"`{path}` is a folder, and a bundle is a file", hint=f"-o {os.path.join(path, 'NAME.cube')}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"`{path}` is no regular file, and a bundle is one", hint="-o NAME.cube")
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):  # those that are missing are made
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CubeError(f"`{path}` cannot be written: `{folder}`: {reason}", hint="-o names another place") from None


def _check_another(earlier: Bundle, path: str) -> None:
    if os.path.exists(path) and any(os.path.samefile(each, path) for each in earlier.paths):
        raise UsageError("a bundle cannot build on the one whose place it takes", hint="give another `-o`")


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
        earlier = stack.enter_context(Bundle(since, whole=True)) if since else None
        if earlier:
            _check_another(earlier, path)
        elsewhere = earlier.digests_in_all() if earlier else ()
        stack.enter_context(locks.exclusive(f"{path}.lock", target=path, hint="-o names another place"))
        output = stack.enter_context(Output(path, part_size))
        writer = Writer(
            output,
            [each.entry() for each in gathered.all()],
            install=gathered.install,
            since=earlier.digest if earlier else None,
            elsewhere=elsewhere,
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
    large = {
        number: layer
        for number, layer in enumerate(making.layers)
        if isinstance(layer, Pending) and layer.size >= _LARGE_BYTES
    }
    with writer.beside([Large(layer.open, layer.size) for layer in large.values()]) as digests:
        found = {
            number: _piece(writer, layer) if isinstance(layer, Piece) else _pending(writer, layer)
            for number, layer in enumerate(making.layers)
            if digests is None or number not in large
        }
        if digests is not None:
            for (number, layer), digest in zip(large.items(), digests(), strict=True):
                found[number] = _noted(layer, digest)
    layers = tuple(found[number] for number in range(len(making.layers)))
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
    return _noted(layer, digest)


def _noted(layer: Pending, digest: str) -> oci.Descriptor:
    layer.noted(digest)
    return oci.Descriptor(media_type=layer.media_type, digest=digest, size=layer.size, annotations=layer.annotations)


def _ends(file: Any, name: str) -> None:
    if file.read(1):
        raise Damaged(f"`{name}` became longer while it was read", hint="run it again when nothing writes there")
