"""What is kept, told: entries, pins, the names that led to them, and blobs that are held together."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mlcube import files, oci
from mlcube.errors import CubeError
from mlcube.store.kept import About
from mlcube.unpacking import remove

if TYPE_CHECKING:
    from mlcube.store.content import Store

__all__ = [
    "Entry",
    "Held",
    "Named",
    "entries",
    "hold",
    "holds",
    "named",
    "names",
    "note_name",
    "pin",
    "pin_of",
    "unpin",
]

T = TypeVar("T")
_UNREADABLE = (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is kept."""

    digest: str
    names: tuple[str, ...]
    """What led to it, where it was last looked up."""
    title: str | None
    version: str | None
    bytes: int
    used: float
    """When it was used last, in seconds since 1970."""
    pinned: bool
    root: str | None
    """The folder with its files; None: blobs that belong to no cube."""


class Named(msgspec.Struct, frozen=True):
    """A name, and the digest that it led to."""

    name: str
    digest: str


class Held(msgspec.Struct, frozen=True):
    """Blobs that belong together."""

    name: str
    digests: tuple[str, ...]


def note_name(store: "Store", name: str, digest: str) -> None:
    """Remember what a name led to."""
    if named(store, name) != digest:
        _write(_file(store, "names", name), Named(name, digest))


def named(store: "Store", name: str) -> str | None:
    """The digest that a name led to."""
    try:
        with open(_file(store, "names", name), "rb") as file:
            return msgspec.json.decode(file.read(), type=Named).digest
    except _UNREADABLE:
        return None


def names(store: "Store") -> dict[str, Named]:
    """Every name that led to something, by the file that says so."""
    return _read_all(os.path.join(store.path, "names"), Named)


def hold(store: "Store", name: str, digests: Iterable[str]) -> None:
    """Keep blobs together under a name."""
    _write(_file(store, "holds", name), Held(name, tuple(map(oci.check_digest, digests))))


def holds(store: "Store") -> dict[str, Held]:
    """What is held together, by the file that says so."""
    return _read_all(os.path.join(store.path, "holds"), Held)


def entries(store: "Store") -> list[Entry]:
    """Everything that is kept, what was used last first."""
    led: dict[str, list[str]] = {}
    for each in names(store).values():
        led.setdefault(each.digest, []).append(each.name)
    found = []
    for path in _listed(os.path.join(store.path, "cubes")):
        folder = store.folder(os.path.basename(path))
        try:
            about = folder.about()
        except CubeError:
            if not folder.there:
                continue  # somebody removes it just now
            # It is damaged, takes room nevertheless, and can be verified, pruned and brought anew.
            about = About(digest=store.digest_of_folder(os.path.basename(path)), bytes=files.size_of(folder.root))
        found.append(
            Entry(
                digest=about.digest,
                names=tuple(sorted(led.get(about.digest, ()))) or ((about.origin,) if about.origin is not None else ()),
                title=about.title,
                version=about.version,
                bytes=about.bytes,
                used=folder.used(),
                pinned=os.path.exists(pin_of(store, about.digest)),
                root=folder.root,
            )
        )
    for path, held in holds(store).items():
        with suppress(OSError):
            found.append(
                Entry(
                    digest=f"blobs:{os.path.basename(path)}",
                    names=(held.name,),
                    title=None,
                    version=None,
                    bytes=sum(_size(store.blob_path(digest)) for digest in held.digests),
                    used=os.stat(path).st_mtime,
                    pinned=os.path.exists(pin_of(store, f"blobs:{os.path.basename(path)}")),
                    root=None,
                )
            )
    return sorted(found, key=lambda entry: (-entry.used, entry.digest))


def pin(store: "Store", digest: str) -> None:
    """Keep something whatever is pruned."""
    path = pin_of(store, digest)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.write(path, b"")


def unpin(store: "Store", digest: str) -> None:
    """Let something be pruned again."""
    with suppress(FileNotFoundError):
        os.unlink(pin_of(store, digest))


def pin_of(store: "Store", digest: str) -> str:
    """The file whose being there means that something is pinned."""
    return os.path.join(store.path, "pins", digest.replace(":", "-"))


def _file(store: "Store", kind: str, name: str) -> str:
    return os.path.join(store.path, kind, oci.digest_of(name.encode()).partition(":")[2])


def _write(path: str, document: msgspec.Struct) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(path):
        remove(path)  # somebody else made it, and it would be in the way forever
    files.write(path, msgspec.json.encode(document))


def _read_all(folder: str, kind: type[T]) -> dict[str, T]:
    found = {}
    for path in _listed(folder):
        with suppress(*_UNREADABLE), open(path, "rb") as file:
            found[path] = msgspec.json.decode(file.read(), type=kind)
    return found


def _listed(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in files.names(folder) if not name.startswith(".")]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
