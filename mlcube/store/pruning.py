"""Removes what nobody has used for long, and nothing that somebody needs at that moment."""

import atexit
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from mlcube import files
from mlcube.errors import CubeError
from mlcube.locks import Holder, alive, this_process
from mlcube.store import beside, listing
from mlcube.store.kept import Folder, read_manifest
from mlcube.unpacking import remove

if TYPE_CHECKING:
    from mlcube.store.content import Store

__all__ = ["need", "prune", "using"]

_needed: set[tuple[int, str, str]] = set()
"""Process, store and digest of what was said to be needed until the process ends."""


class _Use(msgspec.Struct, frozen=True):
    """What a process needs at this moment."""

    holder: Holder
    digests: tuple[str, ...]


@contextmanager
def using(store: "Store", digests: Iterable[str]) -> Iterator[None]:
    """What must stay as long as the context lasts."""
    if os.path.isdir(store.path) and not os.access(store.path, os.W_OK):
        yield  # who shares a store that is read-only to him cannot say what he needs
        return
    folder = os.path.join(store.path, "using")
    path = os.path.join(folder, f"{os.getpid()}-{os.urandom(4).hex()}")
    with store.lock("store"):  # no prune that has looked already removes anything after this
        os.makedirs(folder, exist_ok=True)
        files.write(path, msgspec.json.encode(_Use(this_process(), tuple(digests))))
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def need(store: "Store", digests: Iterable[str]) -> None:
    """What must stay until this process ends."""
    process = os.getpid()
    new = {(process, store.path, digest) for digest in digests} - _needed
    if not new:
        return
    stack = ExitStack()
    stack.enter_context(using(store, [digest for _, _, digest in new]))
    _needed.update(new)
    # What was forked off this process, and ends before it, takes nothing away from it.
    atexit.register(lambda: stack.close() if os.getpid() == process else None)


def prune(store: "Store", older_than: float, keep: Sequence[str]) -> int:
    """Remove what was not used for so many seconds. The bytes that were freed."""
    if not os.path.isdir(os.path.dirname(store.path)):
        return 0
    with store.lock("store"):
        before = time.time() - older_than
        spared = {*keep, *_in_use(store)}
        freed = _half_made(store, spared)
        removed: set[str] = set()
        needed = set(spared)
        for path in _folders(store):
            folder = Folder(path)
            digest = store.digest_of_folder(os.path.basename(path))
            blobs = _needs(folder, digest)
            pinned = os.path.exists(listing.pin_of(store, digest))
            if pinned or digest in spared or folder.used() > before:
                needed |= blobs
            else:
                removed |= blobs
                freed += _remove(folder)
                _forget_names(store, digest)
        for path, held in listing.holds(store).items():
            pinned = os.path.exists(listing.pin_of(store, f"blobs:{os.path.basename(path)}"))
            if pinned or held.name in spared or _modified(path) > before:
                needed.update(held.digests)
            else:
                removed.update(held.digests)
                os.unlink(path)
        return freed + _remove_blobs(store, needed, removed, before) + beside.prune(store, before, spared)


def _in_use(store: "Store") -> set[str]:
    """What processes that live need."""
    found: set[str] = set()
    folder = os.path.join(store.path, "using")
    for name in files.names(folder):
        path = os.path.join(folder, name)
        with suppress(OSError, msgspec.MsgspecError):
            use = msgspec.json.decode(files.read_small(path), type=_Use)
            if alive(use.holder):
                found.update(use.digests)
            else:
                os.unlink(path)
    return found


def _folders(store: "Store") -> list[str]:
    folder = os.path.join(store.path, "cubes")
    return [os.path.join(folder, name) for name in files.names(folder) if not name.startswith(".")]


def _needs(folder: Folder, digest: str) -> set[str]:
    """The blobs that a cube was made of, as far as that can be read."""
    try:
        with open(os.path.join(folder.path, "manifest.json"), "rb") as file:
            manifest = read_manifest(file.read(), digest)
    except (OSError, CubeError):
        return {digest}
    return {digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}


def _remove(folder: Folder) -> int:
    """Remove a cube: first out of sight, at once."""
    size = 0
    for path, _, names in os.walk(folder.root):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(path, name))
                size += status.st_size if status.st_nlink == 1 else 0  # else the blob has it still
    parent, name = os.path.split(folder.path)
    away = os.path.join(parent, f".{name}.removed")
    remove(away)
    os.rename(folder.path, away)
    remove(away)
    return size


def _half_made(store: "Store", spared: set[str]) -> int:
    """What a process that was killed has left of a cube."""
    folder = os.path.join(store.path, "cubes")
    in_making = {digest.removeprefix("sha256:").replace(":", "-") for digest in spared}
    for name in files.names(folder):
        if name.startswith(".") and name[1:].partition(".")[0] not in in_making:
            remove(os.path.join(folder, name))
    return 0


def _forget_names(store: "Store", digest: str) -> None:
    for path, each in listing.names(store).items():
        if each.digest == digest:
            with suppress(FileNotFoundError):
                os.unlink(path)


def _remove_blobs(store: "Store", needed: set[str], removed: set[str], before: float) -> int:
    """Blobs that nothing needs any more, and those that nobody has come back for."""
    folder = os.path.join(store.path, "blobs", "sha256")
    freed = 0
    for name in files.names(folder):
        digest = f"sha256:{name.partition('.')[0]}"
        path = os.path.join(folder, name)
        if digest in needed or not (digest in removed or _modified(path) <= before):
            continue
        with suppress(OSError):
            status = os.stat(path)
            os.unlink(path)
            freed += status.st_size if status.st_nlink == 1 else 0
    return freed


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()
