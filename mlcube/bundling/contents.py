"""What a bundle holds, told without reading what is large."""

import msgspec

from mlcube.bundling.reading import Bundle

__all__ = ["Content", "Listed", "listed"]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in a bundle."""

    role: str
    name: str
    digest: str
    bytes: int
    """With everything that it refers to; what an earlier bundle has is not counted."""
    platform: str | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in a bundle."""

    path: str
    digest: str
    bytes: int
    since: str | None = None
    entries: tuple[Content, ...]


def listed(path: str) -> Listed:
    """What is in a bundle. Raises Damaged for one whose index or manifests are not right; content is not verified."""
    with Bundle(path) as bundle:
        entries = []
        for entry in bundle.index.manifests:
            size = 0
            if bundle.has(entry.digest):
                manifest = bundle.manifest(entry.digest)
                digests = {entry.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
                size = sum(bundle.size_of(digest) for digest in digests if bundle.has(digest))
            platform = f"{entry.platform.os}/{entry.platform.architecture}" if entry.platform else None
            entries.append(
                Content(role=entry.role, name=entry.name, digest=entry.digest, bytes=size, platform=platform)
            )
        return Listed(
            path=bundle.path, digest=bundle.digest, bytes=bundle.size, since=bundle.seal.since, entries=tuple(entries)
        )
