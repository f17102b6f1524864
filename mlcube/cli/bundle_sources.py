"""Where the cube of a new bundle comes from: a folder here, or what was published."""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from mlcube.artifact import ARTIFACT, CONFIG, FILE, MODE, SMALL_BYTES, TITLE, PublishedImage
from mlcube.bundling import published
from mlcube.bundling.creating import Artifact, Making, Pending, Piece
from mlcube.bundling.layout import CUBE
from mlcube.cli import console
from mlcube.cli.naming import cube_of
from mlcube.cube import Cube
from mlcube.errors import CubeError
from mlcube.known_digests import KnownDigests
from mlcube.named import Named
from mlcube.oci import Descriptor
from mlcube.offline import offline
from mlcube.packing import Entry, Layer, layers
from mlcube.publishing import Content, compose, find_source
from mlcube.publishing.folder import published_entries

__all__ = ["Source", "source_of"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A cube, and its artifact."""

    cube: Cube
    artifact: Artifact | Making
    referrers: tuple[Artifact, ...] = ()
    pinned: str | None = None
    """The image by digest, where it was published."""
    stated: Cube | None = None
    """The cube as it says itself, where `cube` may ask for exact packages: an image of it is named after this one."""
    admission: Any = None
    """The `Admission` of this machine's policy."""


def source_of(reference: str, *, with_data: bool, trust: bool) -> Source:
    """The cube that a reference names."""
    named = cube_of(reference, told=False)
    cube, warnings, stated = named.admitted(trust=trust)
    console.warnings(warnings)
    if named.obtained is None or named.obtained.config is None:
        return Source(cube=cube, artifact=_of_folder(cube, with_data=with_data))
    source = _of_published(named, cube)
    return msgspec.structs.replace(source, admission=named.admission, stated=stated)


def _of_published(named: Named, cube: Cube) -> Source:
    """As it is in the store, by its digest: nothing of it is made anew."""
    from mlcube.registry import Registry, Repository
    from mlcube.store import Store
    from mlcube.trust.signing import tag_of

    obtained = named.obtained
    config, digest, repository = obtained.config, obtained.digest, obtained.repository
    name = f"{config.name}:{config.version or obtained.reference.tag or 'latest'}"
    pinned = config.image.pinned if config.image else None
    store = Store()
    if repository is None or offline():
        signed = published.signatures(digest)
        return Source(cube=cube, artifact=published.cube(store, digest, name), referrers=signed, pinned=pinned)
    with Registry(Repository.parse(repository), report=console.note) as registry:
        artifact = published.cube(store, digest, name, registry)
        told = published.referrers(registry, digest, tag_of(digest))
    return Source(cube=cube, artifact=artifact, referrers=told, pinned=pinned)


def _of_folder(cube: Cube, *, with_data: bool) -> Making:
    """The artifact of a cube that lies in a folder, with the digest that it would have in a registry.

    Large files are hashed when they are written, and so are read once.
    """
    entries = published_entries(cube, inputs=with_data, report=console.note)
    with KnownDigests() as known:
        small = layers(cube.root, [entry for entry in entries if entry.size < SMALL_BYTES], known=known)
    large = [entry for entry in entries if entry.size >= SMALL_BYTES]
    pieces = tuple(Piece(layer.descriptor, layer.open) for layer in small)
    return Making(
        name=f"{cube.name}:{cube.version or 'latest'}",
        role=CUBE,
        artifact_type=ARTIFACT,
        layers=(*pieces, *(_pending(cube.root, entry) for entry in large)),
        compose=partial(_composed, cube, frozenset(entry.path for entry in entries)),
        config_type=CONFIG,
    )


def _composed(cube: Cube, paths: frozenset[str], descriptors: tuple[Descriptor, ...]) -> tuple[bytes, bytes]:
    """Configuration and manifest, as publishing makes them."""
    image = PublishedImage(reference=cube.image.reference) if cube.image else None
    source = find_source(cube.root, os.path.relpath(cube.file, cube.root), paths)
    content = Content(
        layers=tuple(Layer(descriptor=each, open=_nowhere, paths=()) for each in descriptors), paths=paths
    )
    publication = compose(cube, content, name=cube.name, image=image, source=source)
    return publication.config, publication.manifest


def _nowhere() -> Any:
    raise AssertionError("it was written already")


def _pending(root: str, entry: Entry) -> Pending:
    path = os.path.join(root, entry.path)
    return Pending(
        FILE, entry.size, {TITLE: entry.path, MODE: entry.mode}, partial(_opened, path, entry), _noting(path, entry)
    )


def _opened(path: str, entry: Entry) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)
    except OSError as error:
        raise CubeError(f"`{entry.path}` cannot be read: {(error.strerror or '').lower()}") from None


def _noting(path: str, entry: Entry) -> Callable[[str], None]:
    """What publishing the same file would find out again."""
    begun = time.time()

    def noted(digest: str) -> None:
        with KnownDigests() as known:
            known.note("file:" + os.path.realpath(path), [entry.stat], digest, entry.size, begun)

    return noted
