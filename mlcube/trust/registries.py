"""Signatures where they lie: beside the cube in its registry, and kept here once they were read."""

import io
import os
from collections.abc import Iterator

import msgspec

from mlcube import directories, files, oci
from mlcube.errors import CubeError, MissingInput
from mlcube.oci import Descriptor
from mlcube.offline import offline
from mlcube.registry import Registry
from mlcube.trust.signing import PAYLOAD, Signature, manifest_of, read, tag_of

__all__ = ["kept", "publish", "published", "signatures"]

_ATTEMPTS = 5


def signatures(registry: Registry, digest: str) -> Iterator[Signature]:
    """Those that are kept here, then those of the registry, which is only asked if the first are not enough.

    A signature proves itself, so it does not matter where it was kept.
    """
    before = kept(digest)
    yield from before
    if offline():
        return
    found = published(registry, digest)
    _keep(digest, tuple(dict.fromkeys((*before, *found))))
    yield from found


def published(registry: Registry, digest: str) -> tuple[Signature, ...]:
    """The signatures of a manifest in a registry; none, if it has none."""
    try:
        _, content = registry.manifest(tag_of(digest))
    except MissingInput:
        return ()
    return read(content, registry.blob)


def publish(registry: Registry, digest: str, signature: Signature) -> None:
    """Put a signature beside the manifest; those of others that lie there stay."""
    content = signature.payload
    payload = Descriptor(media_type=PAYLOAD, digest=oci.digest_of(content), size=len(content))
    registry.upload(payload, lambda: io.BytesIO(content))
    tag = tag_of(digest)
    for _ in range(_ATTEMPTS):
        try:
            _, former = registry.manifest(tag)
        except MissingInput:
            former = None
        if former is not None and signature in read(former, registry.blob):
            return
        manifest, config = manifest_of((signature,), former)
        described = Descriptor(media_type="", digest=oci.digest_of(config), size=len(config))
        registry.upload(described, lambda config=config: io.BytesIO(config))  # type: ignore[misc]
        registry.put_manifest(manifest, oci.MANIFEST, tag)
        # Somebody who signed at the same time may have put theirs instead: it is looked at once more.
    raise CubeError(
        f"the signature of `{digest}` did not stay at `{registry.repository}`: others sign it at the same time",
        hint="once more",
    )


def kept(digest: str) -> tuple[Signature, ...]:
    """The signatures of a manifest that are kept here. What cannot be read is none."""
    try:
        return msgspec.json.decode(files.read_small(_path(digest)), type=tuple[Signature, ...])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()


def _keep(digest: str, found: tuple[Signature, ...]) -> None:
    """Keep them for when the registry cannot be asked; that it cannot be done is no reason to stop."""
    if not found or found == kept(digest):
        return
    path = _path(digest)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write(path, msgspec.json.encode(found))
    except (OSError, CubeError):
        return


def _path(digest: str) -> str:
    return os.path.join(directories.cache(), "signatures", oci.check_digest(digest).removeprefix("sha256:") + ".json")
