"""What lies in the cache beside the store: what bundles gave to platforms, and what processes that died have left."""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from mlcube import files
from mlcube.store import listing
from mlcube.store.listing import Entry
from mlcube.unpacking import remove

if TYPE_CHECKING:
    from mlcube.store.content import Store

__all__ = ["PREFIX", "entries", "note_use", "prune"]

PREFIX = "bundle:"
"""Begins the name by which the files of a bundle are pinned; the digest of its index follows."""
_NAME = "name"
_PASSING = ("git-", "lock-")
_DEAD_SECONDS = 2 * 24 * 3600.0
"""Nobody takes so long for what is only on its way."""


def note_use(folder: str, name: str) -> None:
    """What a bundle gave, in `folder`, is used now; `name` is what the bundle is called."""
    with suppress(OSError):  # a cache that is shared may be read-only
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, _NAME), "w", encoding="utf-8", errors="replace") as file:
            file.write(name)


def entries(store: "Store") -> list[Entry]:
    """The files of each bundle."""
    found = []
    for name in files.names(_bundles(store)):
        folder = os.path.join(_bundles(store), name)
        digest = PREFIX + name
        found.append(
            Entry(
                digest=digest,
                names=(),
                title=_title(folder),
                version=None,
                bytes=files.size_of(folder),
                used=_used(folder),
                pinned=os.path.exists(listing.pin_of(store, digest)),
                root=None,
            )
        )
    return found


def prune(store: "Store", before: float, keep: Collection[str]) -> int:
    """Remove what was not used since `before` and is neither pinned nor in `keep`. The bytes that were freed."""
    freed = 0
    for name in files.names(_bundles(store)):
        folder = os.path.join(_bundles(store), name)
        if PREFIX + name in keep or os.path.exists(listing.pin_of(store, PREFIX + name)) or _used(folder) > before:
            continue
        freed += files.size_of(folder)
        remove(folder)
    cache = os.path.dirname(store.path)
    for name in files.names(cache):
        folder = os.path.join(cache, name)
        if name.startswith(_PASSING) and os.path.isdir(folder) and _used(folder) < time.time() - _DEAD_SECONDS:
            freed += files.size_of(folder)
            remove(folder)
    return freed


def _bundles(store: "Store") -> str:
    return os.path.join(os.path.dirname(store.path), "bundles")


def _title(folder: str) -> str | None:
    try:
        with open(os.path.join(folder, _NAME), encoding="utf-8", errors="replace") as file:
            return file.read(1000) or None
    except OSError:
        return None


def _used(folder: str) -> float:
    """When it was used last, or else made."""
    for path in (os.path.join(folder, _NAME), folder):
        with suppress(OSError):
            return os.stat(path).st_mtime
    return time.time()
