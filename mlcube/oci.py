"""The words of the OCI image format: descriptors, manifests, indexes, and the digests that name them."""

import re

import msgspec

from mlcube.errors import CubeError

__all__ = [
    "EMPTY",
    "INDEX",
    "MANIFEST",
    "Descriptor",
    "Index",
    "Manifest",
    "canonical",
    "check_digest",
    "digest_of",
    "is_digest",
]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is said of content that lies elsewhere: its kind, its digest (`sha256:...`) and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    artifact_type: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An image manifest: a configuration and layers; `subject` is the manifest that this one refers to."""

    schema_version: int
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    annotations: dict[str, str] = {}
    subject: Descriptor | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An image index: manifests."""

    schema_version: int
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}


def canonical(document: object) -> bytes:
    """A document as JSON bytes that are the same each time: sorted keys, no white space."""
    return msgspec.json.encode(document, order="sorted")


def digest_of(content: bytes) -> str:
    """The digest of content, `sha256:` and 64 hexadecimal digits."""
    import hashlib

    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_digest(text: str) -> bool:
    """Whether a text is a digest of the only kind that is used here."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """`text` if it is a digest of the only kind that is used here. Raises CubeError else."""
    if not is_digest(text):
        raise CubeError(f"`{text}` is no digest", hint="a digest is `sha256:` and 64 hexadecimal digits")
    return text
