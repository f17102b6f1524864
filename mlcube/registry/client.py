"""One repository of a registry: its manifests, blobs, tags and referrers."""

import re
import threading
from collections.abc import Callable
from typing import BinaryIO
from urllib.parse import urlencode

import msgspec

from mlcube import oci
from mlcube.errors import Damaged, Unreachable
from mlcube.oci import Descriptor
from mlcube.registry import downloading, uploading
from mlcube.registry.answers import decode, following
from mlcube.registry.exchange import Exchange
from mlcube.registry.limits import Limits
from mlcube.registry.referrers import attach, referrers
from mlcube.registry.repository import Repository, check_reference, is_tag

__all__ = ["Registry"]

_MANIFEST_BYTES = 4 << 20
_BLOB_BYTES = 16 << 20
_TAGS_BYTES = 16 << 20
_MOST_PAGES = 1000
_TAGS_IN_ALL = 64 << 20
_SIZE = re.compile("[0-9]{1,18}")
_DOCKER = "application/vnd.docker.distribution.manifest"
_KINDS = f"{oci.MANIFEST}, {oci.INDEX}, {_DOCKER}.v2+json, {_DOCKER}.list.v2+json"


def _nothing(*_: object) -> None:
    """Neither a reason to stop, nor anybody to tell."""


class _Tags(msgspec.Struct):
    """A page of the list of tags."""

    tags: tuple[str, ...] | None = None


class _Kind(msgspec.Struct, rename="camel"):
    """What a manifest says of itself."""

    media_type: str = ""
    artifact_type: str = ""


class Registry:
    """A repository of a registry. Thread-safe; used as a context it closes its connections.

    Raises Denied, MissingInput, Damaged, and Unreachable when the registry does not answer, not as it must, or may not
    be asked. `check` is called often, and may raise; `report` is told, once, when a fault is waited for. Both, and
    every `progress`, are called in the thread of the transfer.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        write: bool = False,
        check: Callable[[], None] = _nothing,
        report: Callable[[str], None] = _nothing,
        limits: Limits | None = None,
    ) -> None:
        self.repository = repository
        scope = f"repository:{repository.scope}:pull{',push' if write else ''}"
        self._exchange = Exchange(repository, (scope,), limits or Limits.from_environment(), check, report)
        self._scopes = (scope,)
        self._uploads: dict[str, threading.Lock] = {}
        self._attaching = threading.Lock()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._exchange.close()

    def resolve(self, reference: str) -> Descriptor:
        """The manifest that a tag or digest names."""
        what, url = self._manifest_at(reference)
        with self._exchange.request("HEAD", url, what, headers={"Accept": _KINDS}, expected=(200,)) as answer:
            digest = answer.header("Docker-Content-Digest")
            size = answer.header("Content-Length")
            kind = answer.media_type
        if ":" in reference and digest and digest != reference:
            raise Damaged(f"{what} is `{digest}` at the registry")
        if not (oci.is_digest(digest) and _SIZE.fullmatch(size) and kind):
            return self.manifest(reference)[0]
        return Descriptor(media_type=kind, digest=digest, size=int(size))

    def manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """The manifest that a tag or digest names, verified; no longer than 4 MiB."""
        what, url = self._manifest_at(reference)
        answer, content = self._exchange.read(url, what, _MANIFEST_BYTES, headers={"Accept": _KINDS})
        said, kind = answer.header("Docker-Content-Digest"), answer.media_type
        digest = oci.digest_of(content)
        if digest != (reference if ":" in reference else said or digest):
            raise Damaged(f"{what} is not what its digest says: it was changed at the registry or on the way")
        found = decode(content, _Kind, what)
        return (
            Descriptor(
                media_type=found.media_type or kind or oci.MANIFEST,
                digest=digest,
                size=len(content),
                artifact_type=found.artifact_type,
            ),
            content,
        )

    def blob(self, descriptor: Descriptor) -> bytes:
        """A small blob, verified; no longer than 16 MiB."""
        what = f"the blob `{oci.check_digest(descriptor.digest)}` of `{self.repository}`"
        if descriptor.size > _BLOB_BYTES:
            raise Unreachable(f"{what} is too long to be read at once: {descriptor.size} bytes")
        url = f"blobs/{descriptor.digest}"
        _, content = self._exchange.read(url, what, descriptor.size)
        if oci.digest_of(content) != descriptor.digest:
            raise Damaged(f"{what} is not what its digest says: it was changed at the registry or on the way")
        return content

    def has(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        return uploading.has(self._exchange, oci.check_digest(digest))

    def download(self, descriptor: Descriptor, path: str, progress: Callable[[int], None] = _nothing) -> None:
        """Bring a blob to `path`, verified, in one step; what lies in `path + ".part"` is continued.

        `progress` is told of every byte that is settled; a negative number takes some of it back.
        """
        oci.check_digest(descriptor.digest)
        downloading.download(self._exchange, descriptor, path, progress)

    def upload(
        self, descriptor: Descriptor, source: Callable[[], BinaryIO], progress: Callable[[int], None] = _nothing
    ) -> int:
        """Send a blob unless it is there. The number of bytes that were sent; `progress` as in `download`."""
        with self._uploads.setdefault(oci.check_digest(descriptor.digest), threading.Lock()):
            if self.has(descriptor.digest):
                progress(descriptor.size)
                return 0
            return uploading.upload(self._exchange, descriptor, source, progress)

    def mount(self, digest: str, other: Repository) -> bool:
        """Have the registry take a blob over from another of its repositories. False: it did not."""
        if other.host != self.repository.host:
            return False
        what = f"the blob `{oci.check_digest(digest)}` for `{self.repository}`"
        query = urlencode({"mount": digest, "from": other.scope})
        path = "blobs/uploads/"
        scopes = (*self._scopes, f"repository:{other.scope}:pull")
        with self._exchange.request(
            "POST", f"{path}?{query}", what, content=b"", expected=(201, 202, 404), scopes=scopes
        ) as answer:
            status, location = answer.status, answer.header("Location")
        if status == 202 and location:
            uploading.cancel(self._exchange, self._exchange.checked(path, location, what), what)
        return status == 201

    def put_manifest(self, content: bytes, media_type: str, reference: str) -> str:
        """Put a manifest under a tag or its digest. The digest."""
        return self._put(content, media_type, reference)[0]

    def referrers(self, digest: str, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The manifests that refer to one, of one type or of any."""
        found = referrers(self, self._exchange, oci.check_digest(digest))
        return tuple(each for each in found if artifact_type in (None, each.artifact_type))

    def attach(self, manifest: bytes) -> str:
        """Put a manifest that refers to another by its `subject`. Its digest."""
        with self._attaching:
            return attach(self, self._put, manifest)

    def tags(self) -> tuple[str, ...]:
        """All tags of the repository. What could be none is left out."""
        what = f"the tags of `{self.repository}`"
        found: dict[str, None] = {}
        left = _TAGS_IN_ALL
        url: str | None = "tags/list?n=1000"
        for _ in range(_MOST_PAGES):
            if url is None:
                break
            answer, content = self._exchange.read(url, what, _TAGS_BYTES)
            left -= len(content)
            if left < 0:
                raise Unreachable(f"{what} are longer than {_TAGS_IN_ALL} bytes")
            page = decode(content, _Tags, what)
            next_page = following(answer)
            url = self._exchange.checked(url, next_page, what) if next_page else None
            known = len(found)
            found.update(dict.fromkeys(filter(is_tag, page.tags or ())))
            if len(found) == known:
                break  # a page without anything new leads nowhere
        return tuple(found)

    def _put(self, content: bytes, media_type: str, reference: str) -> tuple[str, str]:
        digest = oci.digest_of(content)
        what = f"the manifest `{check_reference(reference)}` for `{self.repository}`"
        if ":" in reference and reference != digest:
            raise Damaged(f"{what} is not what its digest says")
        url = f"manifests/{reference}"
        with self._exchange.request(
            "PUT", url, what, headers={"Content-Type": media_type}, content=content, expected=(200, 201, 202, 204)
        ) as answer:
            said = answer.header("Docker-Content-Digest") or digest
            if said != digest:
                raise Damaged(f"{what} became `{said}` at the registry instead of `{digest}`")
            return digest, answer.header("OCI-Subject")

    def _manifest_at(self, reference: str) -> tuple[str, str]:
        joint = "@" if ":" in reference else ":"
        what = f"`{self.repository}{joint}{check_reference(reference)}`"
        return what, f"manifests/{reference}"
