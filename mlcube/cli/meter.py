"""How far something long has come: one line that changes where a person looks, else a line now and then."""

import threading
import time

from mlcube.cli import console

__all__ = ["Meter", "amount"]

_SILENT_SECONDS = 1.0
_REDRAWN_SECONDS = 0.2
_SAID_SECONDS = 10.0


class Meter:
    """Counts bytes towards a total, if that is known. Thread-safe; what is over within a second is not told."""

    def __init__(self, verb: str, total: int) -> None:
        self._verb, self._total = verb, total
        self._lock = threading.Lock()
        self._done = 0
        self._begun = time.monotonic()
        self._watched = console.watched()
        self._next = self._begun + (_SILENT_SECONDS if self._watched else _SAID_SECONDS)
        self._shown = False

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._next = float("inf")
            if self._shown and self._watched:
                console.passing("")

    def advance(self, count: int) -> None:
        """So many more bytes are done; a negative number takes some back."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + (_REDRAWN_SECONDS if self._watched else _SAID_SECONDS)
            self._shown = True
            rate = self._done / max(now - self._begun, 0.001)
            total = f" of {amount(self._total)}" if self._total else ""
            text = f"{self._verb} {amount(self._done)}{total}, {amount(round(rate))}/s"
            if self._watched:
                console.passing(text)
            else:
                console.note(text)


def amount(count: int) -> str:
    """A number of bytes as people write it."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
