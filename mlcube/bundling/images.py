"""Container images: out of an engine into a bundle, as the OCI manifests that a registry would have, and back."""

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import IO, Any

import msgspec

from mlcube import files, oci
from mlcube.asking import ask
from mlcube.bundling.layout import ROLE, Entry, Platform, decode, header, padding
from mlcube.bundling.reading import Bundle
from mlcube.bundling.writing import Writer
from mlcube.child import Child, attend, kill
from mlcube.errors import CubeError, Damaged, EngineUnavailable, PreparationFailed
from mlcube.plan import Command
from mlcube.starting import start
from mlcube.stream import Log

__all__ = ["IMAGE", "EngineImage", "add", "find", "load"]

IMAGE = "image"
"""The role of a container image; its name is the one by which the cube asks for it."""

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_COMPRESSED = ((b"\x1f\x8b", "+gzip"), (b"\x28\xb5\x2f\xfd", "+zstd"))
_SMALL_BYTES = 1 << 20
_ENGINES = ("docker", "podman")


class EngineImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that an engine of this machine holds."""

    engine: str
    reference: str
    id: str
    platform: Platform

    def entry(self) -> Entry:
        """What the index will say of it, but for digest and size."""
        annotations = {"org.opencontainers.image.ref.name": self.reference, ROLE: IMAGE}
        return Entry(media_type=oci.MANIFEST, digest="", size=0, annotations=annotations, platform=self.platform)


class _Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    architecture: str = "amd64"
    os: str = "linux"
    variant: str = ""


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry of `manifest.json`, as `docker save` writes it."""

    config: str
    layers: tuple[str, ...]


class _RootFileSystem(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...]


class _ImageConfig(msgspec.Struct, frozen=True):
    rootfs: _RootFileSystem


def find(reference: str, engines: tuple[str, ...] = _ENGINES) -> EngineImage | None:
    """The image of that name or id in the first engine that has it."""
    for engine in engines:
        answer = ask((engine, "image", "inspect", reference))
        if answer.status:
            continue
        try:
            (found,) = msgspec.json.decode(answer.output, type=tuple[_Inspected])
        except (msgspec.MsgspecError, ValueError):
            continue
        identity = found.id if ":" in found.id else f"sha256:{found.id}"
        platform = Platform(found.architecture, found.os, found.variant)
        return EngineImage(engine=engine, reference=reference, id=identity, platform=platform)
    return None


def add(writer: Writer, image: EngineImage, check: Callable[[], None] = lambda: None) -> Entry:
    """Save an image into a bundle; gives its entry for the index.

    Raises PreparationFailed when the engine fails, Damaged when what it gave is not the image that was found.
    """
    words = (image.engine, "save") if image.engine == "docker" else (image.engine, "save", "--format=docker-archive")
    reading, writing = os.pipe()
    complaints = files.unnamed(b"")
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            child = start(Command(argv=(*words, image.id)), Log(None), {}, None, stdout=writing, stderr=complaints)
        except BaseException:
            os.close(complaints)
            raise
        finally:
            os.close(writing)
        try:
            descriptor = _saved(writer, pipe, image, check)
            while pipe.read(1 << 16):
                pass
            attend(child)
        except (tarfile.TarError, EOFError):
            descriptor = None
            attend(child)
        finally:
            if not child.gone:
                kill(child)
            status = child.reap()
            child.close()
            said = files.end_of(complaints, 2000).decode(errors="replace").strip()
    if status or descriptor is None:
        hint = said.splitlines()[-1] if said else None
        raise PreparationFailed(f"`{' '.join(words)} {image.reference}` failed", hint=hint)
    return msgspec.structs.replace(image.entry(), digest=descriptor.digest, size=descriptor.size)


def _saved(writer: Writer, pipe: IO[bytes], image: EngineImage, check: Callable[[], None]) -> oci.Descriptor:
    """What `docker save` prints, as blobs and a manifest. Layers go by as they come."""
    small: dict[str, bytes] = {}
    large: dict[str, oci.Descriptor] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=pipe, mode="r|", bufsize=1 << 20) as archive:
        for member in archive:
            check()
            name = os.path.normpath(member.name)
            if member.issym() or member.islnk():
                base = os.path.dirname(name) if member.issym() else ""
                links[name] = os.path.normpath(os.path.join(base, member.linkname))
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            with closing(content):
                if member.size <= _SMALL_BYTES:
                    small[name] = content.read()
                else:
                    large[name] = _layer(writer, content, member.size)
    try:
        (saved,) = decode(small["manifest.json"], tuple[_Saved], "manifest.json")
        config = small[os.path.normpath(saved.config)]
    except KeyError:
        raise PreparationFailed(f"`{image.engine} save` wrote no image") from None
    if oci.digest_of(config) != image.id:
        raise Damaged(f"`{image.engine} save` did not write the image `{image.id}`")
    layers = []
    for path in map(os.path.normpath, saved.layers):
        name = links.get(path, path)
        if name in small:
            large[name] = writer.small(small[name], _LAYER + _compression(small[name]))
        if name not in large:
            raise PreparationFailed(f"`{image.engine} save` wrote no `{name}`")
        layers.append(large[name])
    manifest = oci.Manifest(
        schema_version=2, media_type=oci.MANIFEST, config=writer.small(config, _CONFIG), layers=tuple(layers)
    )
    return writer.manifest(manifest)


def _layer(writer: Writer, content: IO[bytes], size: int) -> oci.Descriptor:
    source = _Peeked(content)
    digest = writer.stream(source, size)
    return oci.Descriptor(media_type=_LAYER + _compression(source.start), digest=digest, size=size)


class _Peeked:
    """Content whose first bytes are remembered."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.start = b""

    def readinto(self, buffer: memoryview, /) -> int:
        count: int = self._content.readinto(buffer)
        if not self.start:
            self.start = bytes(buffer[:4])
        return count


def _compression(start: bytes) -> str:
    return next((suffix for magic, suffix in _COMPRESSED if start.startswith(magic)), "")


def load(
    bundle: Bundle, entry: Entry, engine: str, tag: str | None = None, check: Callable[[], None] = lambda: None
) -> str:
    """Load an image into an engine of this machine, unless it is there; gives its id, which is that of its content."""
    manifest = bundle.manifest(entry.digest)
    identity = manifest.config.digest
    named = tag or f"localhost/mlcube/bundle:{identity.removeprefix('sha256:')}"
    there = find(identity, (engine,))
    if there is None or (tag and getattr(find(tag, (engine,)), "id", None) != identity):
        _give(engine, _archive(bundle, manifest, named), check)
        there = find(identity, (engine,))
    if there is None:
        raise PreparationFailed(f"`{engine} load` took the image `{entry.name}`, and does not know it afterwards")
    return identity


def _archive(bundle: Bundle, manifest: oci.Manifest, tag: str) -> Iterator[bytes | memoryview]:
    """An image as `docker load` reads it."""
    config = bundle.blob(manifest.config.digest)
    if len(decode(config, _ImageConfig, manifest.config.digest).rootfs.diff_ids) != len(manifest.layers):
        raise Damaged(f"`{bundle.path}` holds an image whose configuration and layers disagree")
    names = [f"{layer.digest.removeprefix('sha256:')}.tar" for layer in manifest.layers]
    own = f"{manifest.config.digest.removeprefix('sha256:')}.json"
    listed = oci.canonical([{"Config": own, "RepoTags": [tag], "Layers": names}])
    for name, content in (("manifest.json", listed), (own, config)):
        yield header(name, len(content)) + content + bytes(padding(len(content)))
    for name, layer in dict(zip(names, manifest.layers, strict=True)).items():
        yield header(name, layer.size)
        yield from bundle.chunks(layer.digest)
        yield bytes(padding(layer.size))
    yield bytes(1024)


def _give(engine: str, pieces: Iterator[bytes | memoryview], check: Callable[[], None]) -> None:
    reading, writing = os.pipe()
    complaints = files.unnamed(b"")
    try:
        command = Command(argv=(engine, "load", "--quiet"))
        child = start(command, Log(None), {}, None, stdin=reading, stdout=complaints, stderr=complaints)
    except CubeError as error:
        os.close(writing)
        os.close(complaints)
        raise EngineUnavailable(str(error.args[0]), hint=error.hint) from None
    finally:
        os.close(reading)
    try:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            _feed(pipe, pieces, check)
        attend(child)
    finally:
        status = _ended(child)
        said = files.end_of(complaints, 2000).decode(errors="replace").strip()
    if status:
        raise PreparationFailed(f"`{engine} load` failed", hint=said.splitlines()[-1] if said else None)


def _feed(pipe: IO[bytes], pieces: Iterator[bytes | memoryview], check: Callable[[], None]) -> None:
    try:
        for piece in pieces:
            check()
            files.write_all(pipe.fileno(), piece)
    except BrokenPipeError:
        return  # it says itself why it reads no more


def _ended(child: Child) -> int:
    if not child.gone:
        kill(child)
    status = child.reap()
    child.close()
    return status
