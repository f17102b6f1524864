"""What is sent of a file."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO

__all__ = ["Body"]

_PIECE_BYTES = 1 << 20


class Body:
    """So many bytes of a content, from `start` on; opened anew each time that it is sent."""

    def __init__(
        self,
        source: Callable[[], BinaryIO],
        start: int,
        size: int,
        check: Callable[[], None],
        progress: Callable[[int], None],
    ) -> None:
        self._source, self._start, self._size, self._check, self._progress = source, start, size, check, progress
        self._sent = 0
        self.short = False
        """Whether the content turned out to be shorter."""

    def __len__(self) -> int:
        return self._size

    def pieces(self) -> Iterator[bytes]:
        """The content, in pieces; each counts as sent when the next one is asked for."""
        self._progress(-self._sent)  # a refusal took none of it
        self._sent = 0
        with closing(self._source()) as file:
            if self._start:
                file.seek(self._start)
            while self._sent < self._size:
                self._check()
                piece = file.read(min(_PIECE_BYTES, self._size - self._sent))
                if not piece:
                    self.short = True
                    raise ConnectionError("the content is shorter than it was")
                yield piece
                self._sent += len(piece)
                self._progress(len(piece))
