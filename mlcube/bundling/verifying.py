"""Looks at every byte of a bundle, without a network."""

from collections.abc import Callable

import msgspec

from mlcube import oci
from mlcube.bundling.layout import Entry
from mlcube.bundling.reading import Bundle, cube_entry, walk
from mlcube.errors import Damaged

__all__ = ["Verified", "verify"]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was found to be whole."""

    path: str
    digest: str
    bytes: int
    parts: int
    blobs: int
    entries: tuple[Entry, ...]
    since: str | None = None
    """The index of the bundle that has the rest."""
    missing: tuple[str, ...] = ()
    """The blobs that lie there."""


def verify(
    path: str, *, progress: Callable[[int], None] = lambda _count: None, check: Callable[[], None] = lambda: None
) -> Verified:
    """Verify a bundle: every member, every blob, every reference. Raises Damaged for the first that is not right."""
    with Bundle(path) as bundle:
        for digest in bundle.digests:
            for chunk in bundle.chunks(digest):
                progress(len(chunk))
                check()
        missing = _references(bundle)
        return Verified(
            path=bundle.path,
            digest=bundle.digest,
            bytes=bundle.size,
            parts=len(bundle.parts),
            blobs=len(bundle.digests),
            entries=bundle.index.manifests,
            since=bundle.seal.since,
            missing=missing,
        )


def _references(bundle: Bundle) -> tuple[str, ...]:
    """Everything that is referred to is there, and the other way round. Gives what an earlier bundle has."""
    cube_entry(bundle)  # raises for none, and for several
    if bundle.seal.since is not None:
        return _references_of_part(bundle)
    reached: set[str] = set()
    for entry, manifest in walk(bundle):
        reached.add(entry.digest)
        for each in (manifest.config, *manifest.layers):
            bundle.size_of(each.digest)  # raises when it is not there
            reached.add(each.digest)
    _nothing_else(bundle, reached)
    return ()


def _references_of_part(bundle: Bundle) -> tuple[str, ...]:
    """The same where an earlier bundle has a part: what only its manifests refer to cannot be told here."""
    reached: dict[str, None] = {}
    for entry in bundle.index.manifests:
        reached[entry.digest] = None
        if bundle.has(entry.digest):
            manifest: oci.Manifest = bundle.manifest(entry.digest)
            reached.update(dict.fromkeys(each.digest for each in (manifest.config, *manifest.layers)))
    _nothing_else(bundle, set(reached))
    return tuple(digest for digest in reached if not bundle.has(digest))


def _nothing_else(bundle: Bundle, reached: set[str]) -> None:
    for digest in bundle.digests:
        if digest not in reached:
            raise Damaged(f"`{bundle.path}` holds `{digest}`, to which nothing in it refers")
