"""A new folder that is filled entry by entry, and nothing anywhere else, whoever named the entries."""

import os
import stat
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from mlcube.errors import CubeError, Damaged, escaped
from mlcube.files import write_all

__all__ = ["LONGEST_NAME", "Placed", "Readable", "Unpacking", "refused", "remove", "shown"]

_PIECE_BYTES = 1 << 20
_MOST_MEMBERS = 1_000_000
_MOST_BYTES = 1 << 50
_LONGEST_TARGET = 4096
_DEEPEST = 128
"""In so many folders an entry may lie; what is nested more deeply, many programs could not even remove."""
LONGEST_NAME, _LONGEST_PATH = 255, 3072
"""Bytes that file systems take, and that leave room for where the folder lies."""
_LONGEST_SHOWN = 200


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        ...


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the folder: a file with its digest, or a link with its target."""

    path: str
    sha256: str = ""
    """Empty: it is a link."""
    target: str = ""


class Unpacking:
    """A folder that is filled, from one archive or several; used as a context, an error leaves nothing of it.

    Refused, each with the entry's name: absolute names and those with `..`, links that leave, entries below a link or
    a file, devices, named pipes, sparse files, set-id bits, names that come twice or differ only in case, folders
    nested deeper than any are, and more bytes or entries than were declared; folders that no entry names count too.
    Links are made last, so that nothing is ever written through one.
    """

    def __init__(
        self,
        root: str,
        *,
        most_bytes: int = _MOST_BYTES,
        most_members: int = _MOST_MEMBERS,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = root
        self.most_bytes, self.most_members = most_bytes, most_members
        self.check = check
        self._kinds: dict[str, str] = {"": "directory"}
        self._folded: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self.placed: list[Placed] = []

    def __enter__(self) -> "Unpacking":
        os.makedirs(self.root)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None:
            remove(self.root)
        if isinstance(error, OSError):
            raise CubeError(f"`{self.root}` cannot be written: {(error.strerror or str(error)).lower()}") from error

    def directory(self, name: str) -> None:
        """A folder, and those that it lies in."""
        path = self._clean(name)
        if path in self._kinds:
            self._count(name)
        self._make(path, name)

    def small_file(self, name: str, mode: int, content: "bytes | memoryview") -> Placed:
        """A file whose content is at hand."""
        import hashlib

        descriptor = self._created(name, mode, len(content))
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
        return self.note(name, hashlib.sha256(content).hexdigest())

    def file(self, name: str, mode: int, size: int, content: Readable) -> Placed:
        """A file, of exactly `size` bytes."""
        import hashlib

        digest = hashlib.sha256()
        descriptor = self._created(name, mode, size)
        try:
            left = size
            while left:
                self.check()
                piece = content.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise Damaged(f"the entry `{name}` of the archive is cut")
                digest.update(piece)
                write_all(descriptor, piece)
                left -= len(piece)
        finally:
            os.close(descriptor)
        return self.note(name, digest.hexdigest())

    def _created(self, name: str, mode: int, size: int) -> int:
        """A new file, open for its `size` bytes."""
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise refused(name, "has a set-id bit")
        if size < 0:
            raise refused(name, "has a size below zero")
        path = self.reserve(name)
        self.most_bytes -= size
        if self.most_bytes < 0:
            raise refused(name, "is more than was declared")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o555 if mode & 0o100 else 0o444)

    def reserve(self, name: str) -> str:
        """Where a file of that name will lie, for who puts it there himself and then tells by `note`."""
        path = self._clean(name)
        self._count(name)
        if not path:
            raise refused(name, "has no name")
        self._claim(path, "file", name)
        return os.path.join(self.root, path)

    def note(self, name: str, sha256: str) -> Placed:
        """A file is there, and has this digest."""
        placed = Placed(self._clean(name), sha256)
        self.placed.append(placed)
        self._digests[placed.path] = sha256
        return placed

    def link(self, name: str, target: str) -> None:
        """A symbolic link, made at the end. It may lead up and then down, and never out."""
        path = self._clean(name)
        self._count(name)
        if not path or not target or len(target) > _LONGEST_TARGET or "\0" in target:
            raise refused(name, "is a link without a name or a target")
        parts = [part for part in target.split("/") if part not in ("", ".")]
        ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
        # `..` behind a name would lead up from where that name leads, if it is a link.
        if target.startswith("/") or ups > path.count("/") or ".." in parts[ups:]:
            raise refused(name, f"is a link to `{shown(target)}`, which leaves the cube")
        self._claim(path, "link", name)
        self._links[path] = target

    def finish(self) -> tuple[Placed, ...]:
        """Make the links, and make the folders read-only; everything that lies there."""
        for path, target in self._links.items():
            os.symlink(target, os.path.join(self.root, path))
            self.placed.append(Placed(path, target=target))
        for path in self.directories:
            os.chmod(os.path.join(self.root, path), 0o555)  # noqa: S103 - whom the cache lets in may read
        return tuple(self.placed)

    @property
    def directories(self) -> Iterable[str]:
        """Every folder, the root as an empty text."""
        return [path for path, kind in self._kinds.items() if kind == "directory"]

    def hard_link(self, name: str, target: str) -> None:
        """Another name of a file that came before."""
        source = "/".join(part for part in target.split("/") if part not in ("", "."))
        digest = self._digests.get(source)
        if digest is None:
            raise refused(name, f"is a link to `{shown(target)}`, which is no file that came before it")
        os.link(os.path.join(self.root, source), self.reserve(name), follow_symlinks=False)
        self.note(name, digest)

    def _clean(self, name: str) -> str:
        """The path that a name means. Raises Damaged for one that would lie elsewhere."""
        try:
            name.encode()
        except UnicodeEncodeError:
            raise refused(name.encode("utf-8", "backslashreplace").decode(), "has a name that is no UTF-8") from None
        if name.startswith("/"):
            raise refused(name, "has an absolute name")
        parts = name.split("/")
        if ".." in parts:
            raise refused(name, "has `..` in its name")
        if "\0" in name or "\\" in name:
            raise refused(name, "has a letter in its name that no path may have")
        parts = [part for part in parts if part not in ("", ".")]
        if len(parts) > _DEEPEST:
            raise refused(name, f"lies in more than {_DEEPEST} folders")
        path = "/".join(parts)
        # A part of few letters is short in bytes too; most are, and many are looked at.
        if len(name) * 4 > LONGEST_NAME:
            longest = max((len(part.encode()) for part in parts), default=0)
            if longest > LONGEST_NAME or len(path.encode()) > _LONGEST_PATH:
                raise refused(name, "has a longer name than file systems take")
        return path

    def _count(self, name: str) -> None:
        self.most_members -= 1
        if self.most_members < 0:
            raise refused(name, "is one more than was declared")

    def _make(self, path: str, name: str) -> None:
        """A folder and its parents, each of which must be one."""
        kind = self._kinds.get(path)
        if kind == "directory":
            return
        if kind is not None:
            raise refused(name, f"comes twice, or lies below `{shown(path)}`, which is a {kind}")
        self._count(name)
        self._make(os.path.dirname(path), name)
        self._fold(path, name)
        os.mkdir(os.path.join(self.root, path), 0o755)
        self._kinds[path] = "directory"

    def _claim(self, path: str, kind: str, name: str) -> None:
        if path in self._kinds:
            raise refused(name, "comes twice")
        self._make(os.path.dirname(path), name)
        self._fold(path, name)
        self._kinds[path] = kind

    def _fold(self, path: str, name: str) -> None:
        """Some file systems take names for the same that differ in case, or in how a letter is composed."""
        folded = path.lower()
        if not path.isascii():
            import unicodedata

            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        if (other := self._folded.setdefault(folded, path)) != path:
            raise refused(name, f"and `{shown(other)}` differ only in case")


def remove(path: str) -> None:
    """Remove a folder whose files and folders may be read-only, or a file. What is not there needs no removing."""
    import shutil

    if os.path.islink(path) or os.path.isfile(path):  # what a link leads to is none of ours
        os.unlink(path)
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def refused(name: str, why: str) -> Damaged:
    """The error for an entry of an archive that is not unpacked."""
    return Damaged(f"the entry `{shown(name)}` of the archive {why}: nothing was unpacked")


def shown(name: str) -> str:
    """A name, as a message may quote it: it ends neither the line nor the quotation, and is of a reasonable length."""
    name = escaped(name, lines=False).replace("`", "'")
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
