"""Digests that need not be computed again: of files whose size, times and inode are what they were."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mlcube import directories

if TYPE_CHECKING:
    import sqlite3

__all__ = ["KnownDigests"]

_FRESH_SECONDS = 2.0
"""A file that was changed so lately can be changed again without its times showing it."""
_KEPT_DAYS = 90
_PIECE_BYTES = 1 << 20
_TABLE = "CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, stats TEXT, digest TEXT, size INTEGER, used INTEGER)"


class KnownDigests:
    """What was computed before. Thread-safe; used as a context it is kept. One that cannot be read is empty."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path or os.path.join(directories.cache(), "digests.sqlite")
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._broken = False

    def __enter__(self) -> "KnownDigests":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was noted."""
        with self._lock:
            if self._connection is not None:
                try:
                    self._connection.execute("DELETE FROM known WHERE used < ?", (_today() - _KEPT_DAYS,))
                    self._connection.commit()
                except self._errors():
                    pass
                self._connection.close()
                self._connection = None

    def look(self, key: str, stats: Iterable[os.stat_result]) -> tuple[str, int] | None:
        """The digest and the size that were noted, if nothing has changed since."""
        found = self._execute("SELECT digest, size, used FROM known WHERE key = ? AND stats = ?", (key, _words(stats)))
        if not found:
            return None
        digest, size, used = found[0]
        if used != _today():
            self._execute("UPDATE known SET used = ? WHERE key = ?", (_today(), key))
        return digest, size

    def note(self, key: str, stats: Iterable[os.stat_result], digest: str, size: int, begun: float) -> None:
        """Remember a digest that was computed of files with these stats, which were taken when it was `begun`."""
        stats = tuple(stats)
        if any(max(each.st_mtime, each.st_ctime) > begun - _FRESH_SECONDS for each in stats):
            return
        row = (key, _words(stats), digest, size, _today())
        self._execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", row)

    def of_file(
        self, path: str, check: Callable[[], None] = lambda: None, progress: Callable[[int], None] = lambda _: None
    ) -> tuple[str, int]:
        """The digest and the size of a file. Raises OSError."""
        import hashlib

        key = "file:" + os.path.realpath(path)
        begun = time.time()
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            if (known := self.look(key, [stat])) is not None:
                progress(known[1])
                return known
            digest, size = hashlib.sha256(), 0
            piece = memoryview(bytearray(_PIECE_BYTES))
            while count := file.readinto(piece):
                digest.update(piece[:count])
                size += count
                progress(count)
                check()
            found = f"sha256:{digest.hexdigest()}", size
            if _words([os.fstat(file.fileno())]) == _words([stat]):
                self.note(key, [stat], *found, begun)
        return found

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            if self._broken:
                return []
            try:
                return self._opened().execute(statement, values).fetchall()
            except self._errors():
                self._broken = True  # computing again costs time, nothing else
                return []

    def _opened(self) -> "sqlite3.Connection":
        if self._connection is None:
            import sqlite3

            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute(_TABLE)
        return self._connection

    def _errors(self) -> tuple[type[Exception], ...]:
        import sqlite3

        return (sqlite3.Error, OSError, UnicodeError)


def _words(stats: Iterable[os.stat_result]) -> str:
    return " ".join(f"{each.st_size},{each.st_mtime_ns},{each.st_ctime_ns},{each.st_ino}" for each in stats)


def _today() -> int:
    return int(time.time() // 86400)
