"""Unpacks one layer of an image into a directory of its own, such that nothing can be written anywhere else.

No member is written through a link: every directory above it was made here, for this layer. What upper layers say
about lower ones (whiteouts) is kept apart, to be applied where layers are put together.
"""

import os
import shutil
import tarfile
from typing import Any

from mlcube_runners._oci_layout import BadImage

__all__ = ["Removed", "unpack_layer"]

_OPAQUE = ".wh..wh..opq"
_WHITEOUT = ".wh."
_READABLE = 0o600
"""The caller must be able to read what it unpacked, and to delete it."""


class Removed:
    """What a layer takes away from those below it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.opaque: list[str] = []
        """Directories of which nothing of the lower layers is seen."""


def unpack_layer(stream: Any, target: str) -> Removed:
    """Unpack the tar stream into `target`, an empty directory. Raises BadImage for what must not be unpacked."""
    layer = _Unpacking(target)
    try:
        with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as packed:
            for member in packed:
                layer.add(packed, member)
    except (tarfile.TarError, EOFError) as error:
        raise BadImage(f"a layer is no tar archive: {error}") from None
    except OSError as error:
        raise BadImage(f"`{error.filename}` cannot be written: {error.strerror}") from None
    layer.finish()
    return layer.removed


class _Unpacking:
    """A layer while it is unpacked; knows every path that it has made, so that none has to be looked at."""

    def __init__(self, target: str) -> None:
        self.removed = Removed()
        self._target = target
        self._directories: dict[str, int] = {"": 0o755}
        self._others: set[str] = set()

    def add(self, packed: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _inside(member.name)
        if not path:
            return  # the root itself
        parent, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            self._whiteout(parent, name)
        elif member.isdir():
            self._directory(path, member.mode)
        elif member.isreg():
            self._make_room(path)
            self._file(packed, member, self._place(path))
            self._others.add(path)
        elif member.issym():
            self._make_room(path)
            os.symlink(member.linkname, self._place(path))  # followed by nobody but the task, in its own root
            self._others.add(path)
        elif member.islnk():
            self._hard_link(path, _inside(member.linkname))
        # Devices and pipes are left out: a task has those that the sandbox gives it.

    def finish(self) -> None:
        """Give directories their modes, the deepest first, so that none is closed too early."""
        for path, mode in sorted(self._directories.items(), reverse=True):
            os.chmod(self._place(path), mode & 0o1777 | 0o700)

    def _place(self, path: str) -> str:
        return os.path.join(self._target, path)

    def _whiteout(self, parent: str, name: str) -> None:
        hidden = name[len(_WHITEOUT) :]
        if name == _OPAQUE:
            self.removed.opaque.append(parent)
        elif hidden in ("", ".", ".."):
            raise BadImage(f"a whiteout hides `{hidden}`")
        elif not hidden.startswith(_WHITEOUT):  # else a note of one storage driver to itself
            self.removed.names.append(f"{parent}/{hidden}".lstrip("/"))

    def _directory(self, path: str, mode: int) -> None:
        if path not in self._directories:
            self._make_room(path)
            os.mkdir(self._place(path), 0o700)
        self._directories[path] = mode

    def _make_room(self, path: str) -> None:
        """Make the directories above a path, and remove what an earlier member left at it."""
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above in self._directories:
                continue
            if above in self._others:
                raise BadImage(f"`{path}` lies below `{above}`, which is no directory")
            os.mkdir(self._place(above), 0o700)
            self._directories[above] = 0o755
        if path in self._others:
            os.unlink(self._place(path))
            self._others.discard(path)
        elif path in self._directories:
            shutil.rmtree(self._place(path))
            below = f"{path}/"
            self._directories = {
                known: mode
                for known, mode in self._directories.items()
                if known != path and not known.startswith(below)
            }
            self._others = {known for known in self._others if not known.startswith(below)}

    def _file(self, packed: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
        content = packed.extractfile(member)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, 1 << 20)
            os.fchmod(descriptor, member.mode & 0o777 | _READABLE)  # set-id bits are gone
            file.flush()
            os.utime(descriptor, (member.mtime, member.mtime))  # bytecode is valid for a source of this time

    def _hard_link(self, path: str, source: str) -> None:
        if source not in self._others:
            raise BadImage(f"`{path}` is a hard link to `{source}`, which is no file of its layer")
        if path == source:
            return
        self._make_room(path)
        os.link(self._place(source), self._place(path), follow_symlinks=False)
        self._others.add(path)


def _inside(name: str) -> str:
    """A member's path below the root. As for every engine, a leading slash is the image's root, not the host's."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise BadImage(f"`{name}` leads out of the image")
    return "/".join(parts)
