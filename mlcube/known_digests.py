"""Digests that need not be computed again: of files whose size, times and inode are what they were."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mlcube import directories

if TYPE_CHECKING:
    import sqlite3

__all__ = ["KnownDigests"]

_FRESH_SECONDS = 2.0
"""A file that was changed so lately can be changed again without its times showing it."""
_KEPT_DAYS = 90
_PIECE_BYTES = 1 << 20
_HELD_SECONDS, _HELD_NOTES = 5.0, 1000
"""How long, and how many notes are held before they are written: whoever writes shuts others out for that moment."""
_TABLE = "CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, stats TEXT, digest TEXT, size INTEGER, used INTEGER)"


class KnownDigests:
    """What was computed before. Thread-safe; used as a context it is kept. One that cannot be read is empty."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path or os.path.join(directories.cache(), "digests.sqlite")
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._notes: dict[str, tuple[str, str, int]] = {}
        self._used: list[tuple[int, str]] = []
        self._written = time.monotonic()
        self._broken = False

    def __enter__(self) -> "KnownDigests":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was noted. What is noted or asked for afterwards is not kept, and not known."""
        with self._lock:
            self._write(old=_today() - _KEPT_DAYS)
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._broken = True

    def look(self, key: str, stats: Iterable[os.stat_result]) -> tuple[str, int] | None:
        """The digest and the size that were noted, if nothing has changed since."""
        words = _words(stats)
        with self._lock:
            if (noted := self._notes.get(key)) and noted[0] == words:
                return noted[1:]
            found = self._found(key, words)
            if found is None:
                return None
            digest, size, used = found
            if used != _today():
                self._used.append((_today(), key))
            return digest, size

    def note(self, key: str, stats: Iterable[os.stat_result], digest: str, size: int, begun: float) -> None:
        """Remember a digest that was computed of files with these stats, which were taken when it was `begun`."""
        stats = tuple(stats)
        if any(max(each.st_mtime, each.st_ctime) > begun - _FRESH_SECONDS for each in stats):
            return
        with self._lock:
            self._notes[key] = _words(stats), digest, size
            if len(self._notes) >= _HELD_NOTES or time.monotonic() - self._written > _HELD_SECONDS:
                self._write()

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

    def _found(self, key: str, words: str) -> tuple[str, int, int] | None:
        if self._broken:
            return None
        question = "SELECT digest, size, used FROM known WHERE key = ? AND stats = ?"
        try:
            found: tuple[str, int, int] | None = self._opened().execute(question, (key, words)).fetchone()
        except self._errors():
            self._broken = True  # computing again costs time, nothing else
            return None
        return found

    def _write(self, old: int | None = None) -> None:
        """Write what is held, and remove what was last used before the day `old`."""
        if self._broken or not (self._notes or self._used or self._connection):
            return
        rows = [(key, *noted, _today()) for key, noted in self._notes.items()]
        try:
            with self._opened() as connection:  # one transaction
                connection.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", rows)
                connection.executemany("UPDATE known SET used = ? WHERE key = ?", self._used)
                if old is not None:
                    connection.execute("DELETE FROM known WHERE used < ?", (old,))
        except self._errors():
            self._broken = True
        self._notes, self._used, self._written = {}, [], time.monotonic()

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
