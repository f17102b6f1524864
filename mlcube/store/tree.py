"""A folder that is known file by file: what was verified is looked at when it is used, and read only if it changed."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import msgspec

from mlcube import files
from mlcube.errors import CubeError, Damaged, lowered
from mlcube.unpacking import Placed

__all__ = ["Seen", "Tree"]

_PIECE_BYTES = 1 << 20
_DERIVED = "__pycache__"
"""What Python leaves beside code that it runs: no part of the cube, and nothing that somebody else brought."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A file as it was when its content was verified, or a link."""

    path: str
    sha256: str
    target: str = ""
    size: int = 0
    modified: int = 0
    changed: int = 0
    inode: int = 0


class Tree:
    """A folder, and the file `seen` that tells how each of its files was found."""

    def __init__(self, root: str, seen: str) -> None:
        self.root, self._seen = root, seen

    def record(self, placed: Iterable[Placed]) -> int:
        """Note that everything is there, and what it is; the bytes of all files."""
        found = []
        for each in placed:
            status = os.lstat(os.path.join(self.root, each.path))
            found.append(Seen(each.path, each.sha256, each.target, *_look(status)))
        self._write(found)
        return sum(each.size for each in found if not each.target)

    def read(self) -> list[Seen]:
        """What was noted. Raises Damaged when it cannot be read."""
        try:
            with open(self._seen, "rb") as file:
                return msgspec.json.decode(file.read(), type=list[Seen])
        except OSError as error:
            reason = _reason(error)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            reason = lowered(str(error))
        raise Damaged(f"`{self._seen}`, which tells what was kept, cannot be read: {reason}")

    def verify(self, check: Callable[[], None] = lambda: None, *, thorough: bool = False) -> None:
        """Look at every file; whatever looks otherwise than it did is read. Raises Damaged with the file's name.

        `thorough`: every file is read.
        """
        known = {each.path: each for each in self.read()}
        renewed: dict[str, Seen] = {}
        for path, status in self._files(derived=any(f"{_DERIVED}/" in path for path in known)):
            seen = known.get(path)
            if seen is None:
                raise Damaged(f"`{os.path.join(self.root, path)}` does not belong to what was kept")
            now = _look(status)
            if (
                thorough
                or now != (seen.size, seen.modified, seen.changed, seen.inode)
                or stat.S_ISLNK(status.st_mode) == (not seen.target)
            ):
                check()
                self._read_again(seen, status, check)
                renewed[path] = Seen(seen.path, seen.sha256, seen.target, *now)
            else:
                renewed[path] = seen
        if len(renewed) != len(known):
            gone = next(path for path in known if path not in renewed)
            raise Damaged(f"`{os.path.join(self.root, gone)}` is not there any more")
        if any(renewed[path] is not seen for path, seen in known.items()):
            with suppress(CubeError):  # then it is read again the next time
                self._write(renewed[path] for path in known)

    def _read_again(self, seen: Seen, status: os.stat_result, check: Callable[[], None]) -> None:
        path = os.path.join(self.root, seen.path)
        try:
            if seen.target:
                same = stat.S_ISLNK(status.st_mode) and os.readlink(path) == seen.target
            else:
                same = stat.S_ISREG(status.st_mode) and sha256_of(path, check) == seen.sha256
        except OSError as error:
            raise Damaged(f"`{path}` cannot be read: {_reason(error)}") from None
        if not same:
            raise Damaged(f"`{path}` is not what it was when it was verified")

    def _files(self, *, derived: bool) -> Iterator[tuple[str, os.stat_result]]:
        """Everything below the root that is no folder; what Python derived only if the cube brought some itself.

        Raises Damaged for a folder that is not there, or is none, or cannot be read.
        """
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not entry.is_dir(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # it has gone since, and is missed at the end
                        yield path, entry.stat(follow_symlinks=False)
                elif derived or entry.name != _DERIVED:
                    folders.append(path)
                else:
                    self._drop(entry.path)

    def _entries(self, folder: str) -> "list[os.DirEntry[str]]":
        path = os.path.join(self.root, folder) if folder else self.root
        try:
            with os.scandir(path) as entries:
                return list(entries)
        except OSError as error:
            raise Damaged(f"the folder `{path}` cannot be read: {_reason(error)}") from None

    @staticmethod
    def _drop(path: str) -> None:
        """Remove what Python derived, if it may be; else it is left."""
        import shutil

        shutil.rmtree(path, ignore_errors=True)

    def _write(self, found: Iterable[Seen]) -> None:
        files.write(self._seen, msgspec.json.encode(list(found)))


def sha256_of(path: str, check: Callable[[], None] = lambda: None) -> str:
    """The digest of a file's content, in hexadecimal. Raises OSError."""
    import hashlib

    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            check()
    return digest.hexdigest()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _look(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
