"""The signatures that a bundle carries: they prove themselves, wherever they lie."""

from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO

from mlcube.bundling.creating import REFERRER, Artifact, Piece
from mlcube.bundling.reading import Bundle
from mlcube.oci import Descriptor, digest_of
from mlcube.trust.signing import PAYLOAD, Signature, manifest_of, read, tag_of

__all__ = ["carried", "signatures_in"]


def signatures_in(bundle: Bundle) -> Iterator[Signature]:
    """Every signature in a bundle, over whatever it may be."""
    for entry in bundle.entries(REFERRER):
        manifest = bundle.manifest(entry.digest)
        if any(layer.media_type == PAYLOAD for layer in manifest.layers):
            yield from read(manifest, lambda descriptor: bundle.blob(descriptor.digest))


def carried(digest: str, signatures: Sequence[Signature]) -> Artifact:
    """The signatures of a cube as a part of a bundle."""
    manifest, config = manifest_of(signatures)
    contents = {digest_of(content): content for content in (config, *(each.payload for each in signatures))}
    pieces = tuple(
        Piece(Descriptor(media_type=PAYLOAD, digest=digest, size=len(content)), partial(BytesIO, content))
        for digest, content in contents.items()
    )
    return Artifact(name=tag_of(digest), role=REFERRER, manifest=manifest, pieces=pieces)
