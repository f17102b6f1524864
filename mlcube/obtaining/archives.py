"""Cubes from archives on the web: nothing is unpacked before the checksum was found right."""

import os
from contextlib import suppress
from urllib.parse import urlsplit

from mlcube.compression import Kind, opened
from mlcube.errors import Damaged, MissingInput, Unreachable
from mlcube.obtaining.admitting import admit_address
from mlcube.obtaining.asking import Asking
from mlcube.obtaining.fetching import fetch
from mlcube.offline import offline
from mlcube.references import Reference
from mlcube.store.kept import About
from mlcube.store.tree import sha256_of
from mlcube.unpacking import Unpacking, unpack_tar, unpack_zip

__all__ = ["from_archive", "unpack"]

_MOST_TIMES, _LEAST_LIMIT = 200, 4 << 30
"""An archive may be so many times as large when it is unpacked, or that large in any case."""


def from_archive(reference: Reference, asking: Asking) -> tuple[str, str]:
    """The folder of the cube in an archive, and `archive:sha256:...`."""
    url, digest = reference.url or "", reference.digest or ""
    key = f"archive:{digest}"
    admit_address("archive", url)
    kept = asking.kept(key)
    if kept is None:
        if offline() and not asking.store.has(digest):
            raise Unreachable(
                f"the archive `{digest}` of `{url}` is not kept here, and no network call may be made",
                hint=f"pull it once without `--offline` and CUBE_OFFLINE: cube pull {reference.text}",
            )
        with asking.store.using((key, digest)), asking.store.lock(key):
            kept = asking.kept(key)
            if kept is None:
                _bring(url, digest, asking)
                _unpack(url, digest, key, asking)
                kept = asking.kept(key)
    if kept is None:
        raise MissingInput(f"the cube `{key}` was removed while it was brought", hint="once more")
    return _inside(kept.root), key


def _inside(root: str) -> str:
    """Where the cube lies: many archives hold one folder, which holds everything."""
    names = os.listdir(root)
    if "mlcube.yaml" not in names and len(names) == 1 and os.path.isdir(only := os.path.join(root, names[0])):
        return only
    return root


def _bring(url: str, digest: str, asking: Asking) -> None:
    """The archive as a blob: continued where it was cut, and verified."""
    if asking.store.has(digest):
        if f"sha256:{sha256_of(asking.store.blob_path(digest), asking.check)}" == digest:
            return
        asking.store.forget(digest)
    path = asking.store.made(digest)
    part = f"{path}.part"
    fetch(url, part, asking)
    if (found := sha256_of(part, asking.check)) != digest.partition(":")[2]:
        os.unlink(part)
        raise Damaged(
            f"`{url}` has the checksum sha256={found}, and not {digest.replace(':', '=')}",
            hint="it was changed: ask who gave you the checksum",
        )
    os.replace(part, path)
    asking.store.seal(digest)


def _unpack(url: str, digest: str, key: str, asking: Asking) -> None:
    path = asking.store.blob_path(digest)
    limit = max(_LEAST_LIMIT, os.path.getsize(path) * _MOST_TIMES)
    plain = url.partition("?")[0]  # what stands behind may be what lets somebody in
    about = About(digest=key, title=plain.rpartition("/")[2], origin=plain)
    with asking.store.fill(about, most_bytes=limit, most_members=asking.most_members) as unpacking:
        unpack(url, path, unpacking)
    with suppress(OSError):
        asking.store.forget(digest)  # its files are kept


def unpack(url: str, path: str, unpacking: Unpacking) -> None:
    """Everything in an archive, whose kind its address tells. Raises Damaged."""
    name = urlsplit(url).path.lower()
    with open(path, "rb") as file:
        if name.endswith(".zip"):
            unpack_zip(unpacking, file)
            return
        kind: Kind = "gzip" if name.endswith("gz") else "zstd" if name.endswith(".zst") else "none"
        with opened(file, kind) as stream:
            unpack_tar(unpacking, stream)
