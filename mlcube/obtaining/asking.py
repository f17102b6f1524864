"""What everything that brings cubes is given: where to keep them, whom to tell, and whether to look again."""

from collections.abc import Callable

import msgspec

from mlcube.errors import Damaged
from mlcube.store import Kept, Store

__all__ = ["Asking"]


def _nothing(*_: object) -> None:
    """Neither a reason to stop, nor anybody to tell."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Where cubes are kept, and who is told what."""

    store: Store
    report: Callable[[str], None] = _nothing
    progress: Callable[[int, int], None] = _nothing
    """Told how many bytes are there, and of how many; from several threads, one at a time."""
    check: Callable[[], None] = _nothing
    """Called often, and may raise."""
    mend: bool = False
    """Whether a kept cube that was damaged is brought anew; else that is an error."""
    most_bytes: int = 64 << 30
    """What is taken, packed or unpacked, of who does not say before how much it will be."""
    most_members: int = 1_000_000
    """The same for files and folders."""

    def kept(self, digest: str, *, told: bool = True) -> Kept | None:
        """The cube, if it is kept here and whole; it is not pruned until this process ends.

        Raises Damaged where it is not to be mended. `told`: say that it is brought anew, unless that was said before.
        """
        self.store.need(digest)
        try:
            return self.store.cube(digest)
        except Damaged as error:
            if not self.mend:
                raise
            if told:
                self.report(f"{error.args[0]}; it is brought anew")
            return None


class Progress:
    """Adds up what several transfers say."""

    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        import threading

        self._done, self._total, self._tell, self._lock = 0, total, tell, threading.Lock()

    def moved(self, count: int) -> None:
        """So many bytes more; fewer, if it is negative."""
        with self._lock:
            self._done += count
            self._tell(self._done, self._total)
