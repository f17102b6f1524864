"""What refers to a manifest: by the registry's referrers API, else by the index under the tag `sha256-HEX`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlcube import oci
from mlcube.errors import CubeError, MissingInput, Unreachable
from mlcube.oci import Descriptor, Index, Manifest
from mlcube.registry.answers import decode, following
from mlcube.registry.exchange import Exchange

if TYPE_CHECKING:
    from mlcube.registry.client import Registry

__all__ = ["attach", "referrers"]

_INDEX_BYTES = 4 << 20
_INDEX_IN_ALL = 16 << 20
_MOST_PAGES = 100
_ATTEMPTS = 5


def referrers(registry: "Registry", exchange: Exchange, digest: str) -> tuple[Descriptor, ...]:
    """The manifests whose subject is `digest`."""
    what = f"what refers to `{digest}` in `{registry.repository}`"
    found: dict[str, Descriptor] = {}
    left = _INDEX_IN_ALL
    url: str | None = f"referrers/{digest}"
    for _ in range(_MOST_PAGES):
        if url is None:
            break
        answer, content = exchange.read(
            url, what, _INDEX_BYTES, headers={"Accept": oci.INDEX}, expected=(200, 404, 405)
        )
        if answer.status != 200 or answer.media_type != oci.INDEX:
            return _kept(registry, digest)
        left -= len(content)
        if left < 0:
            raise Unreachable(f"{what} is longer than {_INDEX_IN_ALL} bytes")
        known = len(found)
        for each in decode(content, Index, what).manifests:
            found.setdefault(each.digest, each)
        if len(found) == known:
            break  # a page without anything new leads nowhere
        next_page = following(answer)
        url = exchange.checked(url, next_page, what) if next_page else None
    return tuple(found.values())


def attach(registry: "Registry", put: Callable[[bytes, str, str], tuple[str, str]], content: bytes) -> str:
    """Put a manifest with a subject, and note it under the subject's tag where the registry does not do so itself."""
    manifest = decode(content, Manifest, "the manifest that is to refer to another")
    if manifest.subject is None:
        raise CubeError("a manifest that refers to another names it as its `subject`")
    subject = oci.check_digest(manifest.subject.digest)
    digest, noted = put(content, manifest.media_type, oci.digest_of(content))
    if noted == subject:
        return digest
    entry = Descriptor(
        media_type=manifest.media_type,
        digest=digest,
        size=len(content),
        annotations=manifest.annotations,
        artifact_type=manifest.artifact_type or manifest.config.media_type,
    )
    for _ in range(_ATTEMPTS):
        # Two that attach at once overwrite each other's index: each looks whether it is still in.
        known = _kept(registry, subject)
        if any(each.digest == digest for each in known):
            return digest
        entries = tuple(sorted((*known, entry), key=lambda each: each.digest))
        index = Index(schema_version=2, media_type=oci.INDEX, manifests=entries)
        put(oci.canonical(index), oci.INDEX, _tag(subject))
    raise Unreachable(f"`{registry.repository}` does not keep what refers to `{subject}`")


def _kept(registry: "Registry", digest: str) -> tuple[Descriptor, ...]:
    """What the index under the subject's tag lists."""
    try:
        _, content = registry.manifest(_tag(digest))
    except MissingInput:
        return ()
    return decode(content, Index, f"`{registry.repository}:{_tag(digest)}`").manifests


def _tag(digest: str) -> str:
    return digest.replace(":", "-")
