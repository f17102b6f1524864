"""What is sent of a file."""

from collections.abc import Callable, Iterator
from typing import BinaryIO

__all__ = ["Body"]

_PIECE_BYTES = 1 << 20


class Body:
    """So many bytes of a file, from where it stands. A file that has become shorter ends the request."""

    def __init__(self, file: BinaryIO, size: int, check: Callable[[], None], progress: Callable[[int], None]) -> None:
        self._file, self._size, self._check, self._progress = file, size, check, progress
        self.short = False

    def __len__(self) -> int:
        return self._size

    def pieces(self) -> Iterator[bytes]:
        """The content, in pieces; each counts as sent when the next one is asked for."""
        left = self._size
        while left:
            self._check()
            piece = self._file.read(min(_PIECE_BYTES, left))
            if not piece:
                self.short = True
                raise ConnectionError("the content is shorter than it was")
            yield piece
            left -= len(piece)
            self._progress(len(piece))
