"""Secrets kept out of a stream of bytes, whatever chunks it comes in."""

from collections.abc import Iterable

__all__ = ["Redaction"]

_INSTEAD = b"***"
_SHORTEST = 4
"""A value shorter than this says little, and hiding it would hide most of a log."""


class Redaction:
    """Replaces the values of secrets in one stream; holds back what may be the beginning of one.

    >>> hide = Redaction([b"hunter22"])
    >>> hide.feed(b"the key is hunt") + hide.feed(b"er22, so") + hide.end()
    b'the key is ***, so'
    """

    __slots__ = ("_held", "_values")

    def __init__(self, values: Iterable[bytes]) -> None:
        useful = {value for value in values if len(value) >= _SHORTEST}
        self._values = tuple(sorted(useful, key=len, reverse=True))
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What may be written now."""
        if not self._values:
            return chunk
        text = self._held + chunk
        for value in self._values:
            text = text.replace(value, _INSTEAD)
        held = self._beginning(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held

    def _beginning(self, text: bytes) -> int:
        """How many bytes at the end of a text may begin a value."""
        longest = min(len(text), len(self._values[0]) - 1)
        for length in range(longest, 0, -1):
            end = text[len(text) - length :]
            if any(value.startswith(end) for value in self._values):
                return length
        return 0
