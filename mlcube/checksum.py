"""Checksums of files and of directory trees."""

import os
import stat
from collections.abc import Callable

import msgspec

__all__ = ["Checksum", "checksum"]


class Checksum(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of what lies at a path, and how much it is."""

    sha256: str
    bytes: int
    files: int


def checksum(path: str, check: Callable[[], None] = lambda: None) -> Checksum:
    """The checksum of a file, or of a directory: the sha256 of a line for each file, in the order of their paths.

    A line is the path within the directory, a NUL, the file's own sha256 and a newline; a symbolic link has
    `link:` and its target instead, whatever is neither has `special`. No link is followed, and the entry by which
    runs know of each other in a workspace is no content. `check` is called between pieces of work.
    Raises OSError for what cannot be read.
    """
    import hashlib

    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        # A named pipe would keep its reader waiting, and what has no content has no digest.
        digest = _of_file(path, check) if stat.S_ISREG(found.st_mode) else "special"
        return Checksum(sha256=digest, bytes=found.st_size, files=1)
    lines: list[tuple[bytes, str]] = []
    size = 0
    for name, entry in _entries(os.fsencode(path), check):
        check()
        mode = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(mode.st_mode):
            lines.append((name, "link:" + os.fsdecode(os.readlink(entry.path))))
        elif stat.S_ISREG(mode.st_mode):
            size += mode.st_size
            lines.append((name, _of_file(entry.path, check)))
        else:
            lines.append((name, "special"))
    whole = hashlib.sha256()
    for name, digest in sorted(lines):
        whole.update(name + b"\0" + os.fsencode(digest) + b"\n")
    return Checksum(sha256=whole.hexdigest(), bytes=size, files=len(lines))


def _entries(root: bytes, check: Callable[[], None]) -> "list[tuple[bytes, os.DirEntry[bytes]]]":
    """Every entry below a directory that is no directory, with its path there."""
    found: list[tuple[bytes, os.DirEntry[bytes]]] = []
    folders = [b""]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                check()
                if not folder and entry.name == b".cube":
                    continue
                name = os.path.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                else:
                    found.append((name, entry))
    return found


def _of_file(path: str | bytes, check: Callable[[], None]) -> str:
    import hashlib

    digest = hashlib.sha256()
    # Whatever came to lie there since it was looked at: neither a link is followed, nor a pipe waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            check()
    return digest.hexdigest()
