"""Signatures over the digest of a manifest, in the format that cosign makes and verifies."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from mlcube import oci
from mlcube.errors import Damaged
from mlcube.oci import Descriptor, Manifest
from mlcube.trust.keys import PrivateKey, PublicKey

__all__ = [
    "ANNOTATION",
    "PAYLOAD",
    "Signature",
    "manifest_of",
    "payload",
    "read",
    "sign",
    "signed_digest",
    "tag_of",
    "verified_by",
]

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
"""The media type of what is signed."""
ANNOTATION = "dev.cosignproject.cosign/signature"
"""The annotation of a payload's layer: its signature in base64."""

_CONFIG = "application/vnd.oci.image.config.v1+json"
_TYPE = "cosign container image signature"
_PAYLOAD_BYTES = 64 << 10
_MOST = 64
"""Signatures of one manifest that are looked at: nobody needs more, and somebody might put a million."""
_SHOWN = 80
_SPACE = re.compile(r"\s+")


class Signature(msgspec.Struct, frozen=True):
    """What was signed, byte for byte, and its signature in base64."""

    payload: bytes
    signature: str


class _Identity(msgspec.Struct, rename="kebab"):
    docker_reference: str = ""


class _Image(msgspec.Struct, rename="kebab"):
    docker_manifest_digest: str


class _Critical(msgspec.Struct):
    identity: _Identity
    image: _Image
    type: str


class _Payload(msgspec.Struct):
    critical: _Critical
    optional: msgspec.Raw = msgspec.Raw(b"null")


def tag_of(digest: str) -> str:
    """The tag under which the signatures of a manifest lie, beside it."""
    return f"{oci.check_digest(digest).replace(':', '-')}.sig"


def payload(repository: str, digest: str) -> bytes:
    """What is signed: that a manifest of this digest was published in a repository."""
    return msgspec.json.encode(
        _Payload(_Critical(_Identity(repository), _Image(oci.check_digest(digest)), _TYPE)),
    )


def sign(key: PrivateKey, repository: str, digest: str) -> Signature:
    """Sign a manifest by its digest."""
    content = payload(repository, digest)
    return Signature(content, base64.b64encode(key.sign(content)).decode())


def verified_by(signature: Signature, digest: str, keys: Iterable[tuple[str, PublicKey]]) -> str | None:
    """The name of the first key that signed this digest; None when none did.

    A signature that cannot be read, or that is over another digest, is none: it never raises.
    """
    try:
        signed = base64.b64decode(signature.signature, validate=True)
    except (binascii.Error, ValueError):
        return None
    if signed_digest(signature) != digest:
        return None
    return next((name for name, key in keys if key.verifies(signature.payload, signed)), None)


def signed_digest(signature: Signature) -> str | None:
    """The digest that a payload speaks of; None when it is no payload. That it is signed is another question."""
    try:
        found = msgspec.json.decode(signature.payload, type=_Payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found.critical.image.docker_manifest_digest if found.critical.type == _TYPE else None


def manifest_of(signatures: Sequence[Signature], former: bytes | None = None) -> tuple[bytes, bytes]:
    """The manifest that holds signatures, and its configuration; those of the `former` manifest stay in it."""
    kept = _decoded(former).layers if former else ()
    added = tuple(
        Descriptor(
            media_type=PAYLOAD,
            digest=oci.digest_of(each.payload),
            size=len(each.payload),
            annotations={ANNOTATION: each.signature},
        )
        for each in signatures
    )
    layers = (*kept, *(each for each in added if each not in kept))
    config = msgspec.json.encode(
        {
            "architecture": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "history": [{"created": "0001-01-01T00:00:00Z"} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [each.digest for each in layers]},
        }
    )
    manifest = Manifest(
        schema_version=2,
        media_type=oci.MANIFEST,
        config=Descriptor(media_type=_CONFIG, digest=oci.digest_of(config), size=len(config)),
        layers=layers,
    )
    return msgspec.json.encode(manifest), config


def read(manifest: bytes | Manifest, blob: Callable[[Descriptor], bytes]) -> tuple[Signature, ...]:
    """The signatures that a manifest holds; what is none is left out.

    Raises Damaged when it is no such manifest, or says of one what no content can be.
    """
    found = []
    for layer in (_decoded(manifest) if isinstance(manifest, bytes) else manifest).layers:
        text = layer.annotations.get(ANNOTATION)
        if layer.media_type != PAYLOAD or not text or layer.size > _PAYLOAD_BYTES:
            continue
        if not oci.is_digest(layer.digest) or layer.size < 0:
            what = f"`{layer.digest[:_SHOWN]}` of {layer.size} bytes"
            raise Damaged(f"a signature is said to be {what}, which no content can be")
        found.append((layer, text))
    contents = {layer.digest: layer for layer, _ in found[-_MOST:]}
    payloads = {digest: blob(layer) for digest, layer in contents.items()}
    return tuple(Signature(payloads[layer.digest], _SPACE.sub("", text)) for layer, text in found[-_MOST:])


def _decoded(manifest: bytes) -> Manifest:
    try:
        return msgspec.json.decode(manifest, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Damaged(f"`{oci.digest_of(manifest)}` is no manifest of signatures") from None
