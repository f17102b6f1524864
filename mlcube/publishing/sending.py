"""Sends a publication: what the registry lacks, in parallel; the tag last, so that nothing is ever half published."""

import io
from collections.abc import Callable, Collection, Sequence

import msgspec

from mlcube.artifact import ARTIFACT, PUBLICATION
from mlcube.errors import Denied, MissingInput, Refused, Unreachable
from mlcube.oci import EMPTY, MANIFEST, Descriptor, Manifest, digest_of
from mlcube.packing import Layer
from mlcube.parallel import in_parallel
from mlcube.publishing.accompanying import EMPTY_BLOB, referrer
from mlcube.publishing.preparing import Publication
from mlcube.registry import Registry

__all__ = ["Former", "Sent", "former", "missing", "send"]

Progress = Callable[[int], None]
Check = Callable[[], None]
_WORKERS = 8
"""A few large files keep the line busy while many packs wait for answers."""


class Former(msgspec.Struct, frozen=True, kw_only=True):
    """What a tag leads to before."""

    digest: str | None = None
    blobs: frozenset[str] = frozenset()
    """What that manifest names, and the registry therefore has."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent."""

    digest: str
    bytes: int
    unchanged: bool
    """Whether the tag led to the same before."""
    referrers: tuple[tuple[str, str], ...] = ()
    """Type and digest of the manifests that refer to the cube."""


def former(registry: Registry, tag: str) -> Former:
    """What lies at the tag. A repository or tag that is not there is an empty one.

    Raises Refused when it is no cube: it would be lost.
    """
    try:
        found, content = registry.manifest(tag)
    except (MissingInput, Denied):  # some registries forbid to read what is not there; sending tells what is wrong
        return Former()
    try:
        manifest = msgspec.json.decode(content, type=Manifest) if found.artifact_type == ARTIFACT else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        manifest = None
    if manifest is None:
        raise Refused(
            f"the tag `{tag}` of `{registry.repository}` leads to something that is no cube",
            hint="choose another tag or name: what lies there would be lost",
        )
    return Former(
        digest=found.digest,
        blobs=frozenset(each.digest for each in (manifest.config, *manifest.layers)),
    )


def missing(publication: Publication, there: Collection[str]) -> tuple[Layer, ...]:
    """The blobs that are to be asked for, and sent if the registry lacks them: the largest first, each once."""
    config = Layer(
        descriptor=publication.config_descriptor, open=lambda: io.BytesIO(publication.config), paths=("config",)
    )
    blobs = {layer.descriptor.digest: layer for layer in (config, *publication.layers)}
    wanted = [layer for digest, layer in blobs.items() if digest not in there]
    return tuple(sorted(wanted, key=lambda layer: -layer.descriptor.size))


def send(
    registry: Registry,
    publication: Publication,
    tag: str,
    before: Former,
    documents: Sequence[tuple[str, Callable[[], bytes]]],
    *,
    check: Check = lambda: None,
    progress: Progress = lambda _count: None,
    sign: Callable[[Registry, Descriptor], None] = lambda _registry, _descriptor: None,
) -> Sent:
    """Send what the registry lacks, then the manifest, what refers to it, and last the tag.

    `documents` are types and makers of the referrers. `sign` is called when the manifest can be had by its digest, and
    the tag does not lead to it yet.
    """
    digest = publication.descriptor.digest
    changed = before.digest != digest
    written = [(kind, make()) for kind, make in documents]
    blobs = missing(publication, before.blobs)
    sent = _upload(registry, (*blobs, *(_documents(written) if changed else ())), check, progress)
    if changed:
        try:
            registry.put_manifest(publication.manifest, MANIFEST, digest)
        except (MissingInput, Unreachable):
            if not before.blobs:
                raise
            # The former manifest may name blobs that were since removed.
            sent += _upload(registry, missing(publication, ()), check, lambda _count: None)
            registry.put_manifest(publication.manifest, MANIFEST, digest)
        sent += 2 * len(publication.manifest)  # by its digest, and in the end by its tag
    sign(registry, publication.descriptor)
    referrers, more = _attach(registry, publication.descriptor, written, uploaded=changed)
    if changed:
        check()
        registry.put_manifest(publication.manifest, MANIFEST, tag)
    return Sent(digest=digest, bytes=sent + more, unchanged=not changed, referrers=referrers)


def _upload(registry: Registry, blobs: Sequence[Layer], check: Check, progress: Progress) -> int:
    def job(layer: Layer) -> Callable[[], int]:
        return lambda: registry.upload(layer.descriptor, layer.open, progress if layer.paths else lambda _count: None)

    return sum(in_parallel([job(layer) for layer in blobs], workers=_WORKERS, check=check)) if blobs else 0


def _documents(written: Sequence[tuple[str, bytes]]) -> list[Layer]:
    """The blobs of what refers to the cube, and the empty config that they share: no part of the cube."""

    def blob(kind: str, content: bytes) -> Layer:
        descriptor = Descriptor(media_type=kind, digest=digest_of(content), size=len(content))
        return Layer(descriptor=descriptor, open=lambda: io.BytesIO(content), paths=())

    return [blob(EMPTY, EMPTY_BLOB), *(blob(kind, content) for kind, content in written)]


def _attach(
    registry: Registry, subject: Descriptor, written: Sequence[tuple[str, bytes]], *, uploaded: bool
) -> tuple[tuple[tuple[str, str], ...], int]:
    """Put what refers to the cube, unless it is there: a record of the publication is made once for each digest.

    Types and digests of all, and how many bytes were sent.
    """
    sent = 0
    there = registry.referrers(subject.digest)
    found = []
    for kind, content in written:
        if kind == PUBLICATION and (known := next((each for each in there if each.artifact_type == kind), None)):
            found.append((kind, known.digest))
            continue
        manifest = referrer(kind, content, subject)
        digest = digest_of(manifest)
        if not any(each.digest == digest for each in there):
            if not uploaded:
                sent += _upload(registry, _documents([(kind, content)]), lambda: None, lambda _count: None)
            registry.attach(manifest)
            sent += len(manifest)
        found.append((kind, digest))
    return tuple(found), sent
