"""What was published as it goes into a bundle: manifests of a registry, whose blobs lie in the store or are brought."""

import io
import os
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

import msgspec

from mlcube import oci
from mlcube.bundling.creating import REFERRER, Artifact, Piece
from mlcube.bundling.images import IMAGE
from mlcube.bundling.layout import CUBE, LARGEST_DOCUMENT, Platform, decode
from mlcube.errors import Damaged, MissingInput
from mlcube.parallel import in_parallel
from mlcube.registry import Registry, Repository
from mlcube.store import Store

__all__ = ["cube", "image", "referrers", "signatures"]

_INDEXES = (oci.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")


class _Child(oci.Descriptor, frozen=True, kw_only=True, rename="camel"):
    """A manifest of an index of images."""

    platform: Platform | None = None


class _Images(msgspec.Struct, frozen=True):
    manifests: tuple[_Child, ...]


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """As lenient as registries are: Docker's and OCI's."""

    config: oci.Descriptor
    layers: tuple[oci.Descriptor, ...]
    artifact_type: str = ""


def cube(store: Store, digest: str, name: str, fetch: Registry | None = None) -> Artifact:
    """A cube that is kept in the store."""
    manifest = store.read(digest)
    return _artifact(store, manifest, name=name, role=CUBE, fetch=fetch)


def referrers(registry: Registry, digest: str, tag: str) -> tuple[Artifact, ...]:
    """What says something of a manifest: its signatures, under the `tag` that is made of its digest, and referrers."""
    found: list[Artifact] = []
    try:
        _, manifest = registry.manifest(tag)
        found.append(_small(registry, manifest, tag))
    except MissingInput:
        pass
    for each in registry.referrers(digest):
        _, manifest = registry.manifest(each.digest)
        found.append(_small(registry, manifest, (each.artifact_type or "referrer").rpartition("/")[2]))
    return tuple(found)


def signatures(digest: str) -> tuple[Artifact, ...]:
    """The signatures of a cube that are kept here, where no registry can be asked for them."""
    from mlcube.trust.registries import kept
    from mlcube.trust.signing import PAYLOAD, manifest_of, tag_of

    found = kept(digest)
    if not found:
        return ()
    manifest, config = manifest_of(found)
    contents = {oci.digest_of(content): content for content in (config, *(each.payload for each in found))}
    pieces = tuple(
        Piece(oci.Descriptor(media_type=PAYLOAD, digest=name, size=len(content)), partial(io.BytesIO, content))
        for name, content in contents.items()
    )
    return (Artifact(name=tag_of(digest), role=REFERRER, manifest=manifest, pieces=pieces),)


def image(pinned: str, reference: str, store: Store, check: Callable[[], None] = lambda: None) -> Artifact:
    """A container image by digest, from its registry, for machines like this one."""
    name, _, digest = pinned.partition("@")
    with Registry(Repository.parse(name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name)) as registry:
        descriptor, manifest = registry.manifest(digest)
        platform = None
        if descriptor.media_type in _INDEXES:
            child = _for_this_machine(decode(manifest, _Images, digest), reference)
            platform = child.platform
            descriptor, manifest = registry.manifest(child.digest)
        artifact = _artifact(
            store, manifest, name=reference, role=IMAGE, fetch=registry, media_type=descriptor.media_type, check=check
        )
    return msgspec.structs.replace(artifact, platform=platform)


def _for_this_machine(index: _Images, reference: str) -> _Child:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    for each in index.manifests:
        if each.platform and (each.platform.os, each.platform.architecture) == ("linux", machine):
            return each
    raise MissingInput(f"the image `{reference}` is not there for linux/{machine}")


def _artifact(
    store: Store,
    manifest: bytes,
    *,
    name: str,
    role: str,
    fetch: Registry | None,
    media_type: str = oci.MANIFEST,
    check: Callable[[], None] = lambda: None,
) -> Artifact:
    found = decode(manifest, _Manifest, oci.digest_of(manifest))
    blobs = {each.digest: each for each in (*found.layers, found.config)}
    lacking = [each for digest, each in blobs.items() if not store.has(digest)]
    if lacking and fetch is None:
        raise MissingInput(f"`{lacking[0].digest}` is not in this machine's store", hint="pull the cube again")
    if fetch is not None:
        in_parallel([partial(_bring, store, fetch, each) for each in lacking], check=check)
    return Artifact(
        name=name,
        role=role,
        manifest=manifest,
        media_type=media_type,
        artifact_type=found.artifact_type,
        pieces=tuple(Piece(each, partial(_opened, store, each.digest)) for each in blobs.values()),
    )


def _bring(store: Store, registry: Registry, descriptor: oci.Descriptor) -> None:
    if not store.has(descriptor.digest):
        registry.download(descriptor, store.made(descriptor.digest))
        store.seal(descriptor.digest)


def _opened(store: Store, digest: str) -> BinaryIO:
    try:
        return open(store.blob_path(digest), "rb", buffering=0)
    except OSError:
        raise MissingInput(f"`{digest}` is not in this machine's store any more", hint="run it again") from None


def _small(registry: Registry, manifest: bytes, name: str) -> Artifact:
    found = decode(manifest, _Manifest, oci.digest_of(manifest))
    blobs = {each.digest: each for each in (*found.layers, found.config)}
    if sum(each.size for each in blobs.values()) > LARGEST_DOCUMENT * 4:
        raise Damaged(f"`{name}` is too large to be what it is called")
    pieces = tuple(Piece(each, partial(io.BytesIO, registry.blob(each))) for each in blobs.values())
    return Artifact(
        name=name, role=REFERRER, manifest=manifest, artifact_type=found.artifact_type, pieces=pieces
    )  # fmt: skip
