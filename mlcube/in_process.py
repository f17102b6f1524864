"""Performs the commands on files that every plan has without a process for each, exactly as the commands would."""

import os
import stat
from collections.abc import Sequence

from mlcube.plan import Command

__all__ = ["answer", "perform"]

_MOST_READ = 1 << 20
_MOST_REMOVED = 200
"""A process can be interrupted while it removes a large tree; this one would be deaf for as long."""


def answer(argv: Sequence[str]) -> str | None:
    """What a command that only reads a small file prints; None for any other, and for one that would fail."""
    match tuple(argv):
        case ("cat", path) if _plain([path]):
            try:
                with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                    content = file.read(_MOST_READ + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
            except OSError:
                return None
            return None if content is None or len(content) > _MOST_READ else content.decode(errors="replace")
    return None


def perform(command: Command) -> int | None:
    """The status of a command that is known and has been performed; None for one that must be started.

    What does not go smoothly is left to the command itself, which begins where this stopped and finds the words.
    """
    if command.environment or command.clean or command.directory or command.secrets or command.input is not None:
        return None
    try:
        match command.argv:
            case ("test", test, path) if test in _TESTS:
                return 0 if _TESTS[test](path) else 1
            case ("test", "!", test, path) if test in _TESTS:
                return 1 if _TESTS[test](path) else 0
            case ("mkdir", "-p", "--", *paths) if _plain(paths):
                return _make(paths)
            case ("mkdir", "-p", "-m", "700", "--", *paths) if _plain(paths):
                return _make(paths, mode=0o700)
            case ("mkdir", "-p", path) if _plain([path]):
                return _make([path])
            case ("rm", "-rf", "--", *paths) if _plain(paths):
                return _remove(paths)
    except OSError:
        pass
    return None


def _not_empty(path: str) -> bool:
    return os.path.exists(path) and os.stat(path).st_size > 0


def _executable(path: str) -> bool:
    return os.access(path, os.X_OK)


_TESTS = {
    "-e": os.path.exists,
    "-d": os.path.isdir,
    "-f": os.path.isfile,
    "-s": _not_empty,
    "-L": os.path.islink,
    "-x": _executable,
}


def _plain(paths: list[str]) -> bool:
    """Absolute paths without anything for which the commands have rules of their own."""
    return bool(paths) and all(
        path.startswith("/") and "\0" not in path and not {"", ".", ".."} & set(path[1:].split("/")) for path in paths
    )


def _make(paths: list[str], *, mode: int | None = None) -> int | None:
    for path in paths:
        missing = []
        nearest = path
        while not os.path.isdir(nearest):
            missing.append(nearest)
            nearest = os.path.dirname(nearest)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, 0o777 if mode is None or folder != missing[0] else mode)
            except FileExistsError:
                if not os.path.isdir(folder):
                    return None
                continue
            made = stat.S_IMODE(os.stat(folder).st_mode)
            if folder != missing[0] and made & 0o300 != 0o300:
                os.chmod(folder, made | 0o300)  # whatever the umask says, the next can be made in it
            elif folder == missing[0] and mode is not None and made & 0o777 != mode:
                os.chmod(folder, made & ~0o777 | mode)  # whatever the umask says
    return 0


def _remove(paths: list[str]) -> int | None:
    left = _MOST_REMOVED
    for path in paths:
        for _, folders, files in os.walk(path):
            left -= len(folders) + len(files)
            if left < 0:
                return None
    for path in paths:
        if os.path.islink(path) or not os.path.isdir(path):
            if os.path.lexists(path):
                os.unlink(path)
        elif not _remove_empty(path):
            import shutil

            shutil.rmtree(path)
    return 0


def _remove_empty(path: str) -> bool:
    """Remove a tree of nothing but directories, as scratch is after most tasks: shutil takes longer to import."""
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False
    return True
