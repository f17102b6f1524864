"""What of a folder belongs to a cube: its files and links, in the order of their paths."""

import os
import stat
import unicodedata
from collections.abc import Callable

import msgspec

from mlcube.errors import InvalidFile, MissingInput, Problem

__all__ = ["Entry", "contents"]

_MOST_PROBLEMS = 20
_LEAVE_IT_OUT = "name it in `.cubeignore` to leave it out"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a symbolic link that stays inside."""

    path: str
    """Relative to the folder, with `/`."""
    stat: os.stat_result
    executable: bool = False
    target: str | None = None
    """Where a link leads; None: it is a file."""

    @property
    def size(self) -> int:
        """The bytes of a file."""
        return self.stat.st_size if self.target is None else 0

    @property
    def mode(self) -> str:
        """`644` or `755`."""
        return "755" if self.executable else "644"


def contents(
    root: str,
    ignore: Callable[[str, bool], bool] = lambda _path, _directory: False,
    *,
    check: Callable[[], None] = lambda: None,
) -> tuple[Entry, ...]:
    """The files and links below a folder; `ignore` is asked for each path, and whether it is a directory.

    A folder that is a virtual environment is never part of it. What could not be unpacked elsewhere is refused, each
    by its name: devices, pipes and sockets, links that leave, names that are no UTF-8 or differ only in case.

    Raises InvalidFile with all of them, MissingInput for a folder that cannot be read.
    """
    found: list[Entry] = []
    problems: list[Problem] = []
    folders = [""]
    while folders:
        check()
        folder = folders.pop()
        for each in _listed(root, folder):
            path = f"{folder}/{each.name}" if folder else each.name
            directory = each.is_dir(follow_symlinks=False)
            if ignore(path, directory) or (directory and os.path.lexists(os.path.join(each.path, "pyvenv.cfg"))):
                continue
            if problem := _name_problem(path):
                problems.append(problem)
            elif directory:
                folders.append(path)
            else:
                entry = _entry(path, each)
                found.append(entry) if isinstance(entry, Entry) else problems.append(entry)
    found.sort(key=lambda entry: entry.path)
    problems += _collisions(found)
    if problems:
        raise InvalidFile(tuple(sorted(problems, key=lambda problem: problem.message)[:_MOST_PROBLEMS]))
    return tuple(found)


def _listed(root: str, folder: str) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(os.path.join(root, folder) if folder else root) as entries:
            return list(entries)
    except OSError as error:
        raise MissingInput(
            f"`{folder or root}` cannot be read: {(error.strerror or str(error)).lower()}", hint=_LEAVE_IT_OUT
        ) from None


def _entry(path: str, each: "os.DirEntry[str]") -> Entry | Problem:
    try:
        found = each.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return Entry(path=path, stat=found, executable=bool(found.st_mode & 0o100))
        if not stat.S_ISLNK(found.st_mode):
            return Problem(message=f"`{path}` is a device, a named pipe or a socket", hint=_LEAVE_IT_OUT)
        target = os.readlink(each.path)
    except OSError as error:
        return Problem(message=f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}", hint=_LEAVE_IT_OUT)
    if not _stays(path, target):
        return Problem(
            message=f"`{path}` is a link to `{target}`, which leads out of the cube",
            hint="put what it leads to in its place, make it relative, or name it in `.cubeignore`",
        )
    return Entry(path=path, stat=found, target=target)


def _stays(path: str, target: str) -> bool:
    """Whether a link leads up and then down, and never out: then it means the same wherever the cube lies."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    plain = bool(target) and not target.startswith("/") and _name_problem(target) is None
    return plain and ups <= path.count("/") and ".." not in parts[ups:]


def _name_problem(path: str) -> Problem | None:
    if path.isascii() and "\\" not in path:
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return Problem(message=f"the name of `{shown}` is no UTF-8", hint=f"rename it, or {_LEAVE_IT_OUT}")
    if "\\" in path:
        return Problem(message=f"the name of `{path}` holds a backslash", hint=f"rename it, or {_LEAVE_IT_OUT}")
    return None


def _collisions(entries: list[Entry]) -> list[Problem]:
    """Names that some file systems take for the same."""
    seen: dict[str, str] = {}
    problems = []
    for entry in entries:
        path = entry.path
        for place in _prefixes(path):
            folded = _folded(place)
            if (other := seen.setdefault(folded, place)) != place:
                message = f"`{other}` and `{place}` differ only in case, and cannot lie side by side everywhere"
                problems.append(Problem(message=message, hint=f"rename one of them, or {_LEAVE_IT_OUT}"))
                break
    return list({problem.message: problem for problem in problems}.values())


def _prefixes(path: str) -> list[str]:
    """The path and the folders that it lies in, the outermost first."""
    return [path[:place] for place, letter in enumerate(path) if letter == "/"] + [path]


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
