"""Secrets kept out of a stream of bytes, whatever chunks it comes in."""

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Redaction", "hiding"]

_INSTEAD = b"***"
_SHORTEST = 4
"""A value shorter than this says little, and hiding it would hide most of a log."""

_SHORTEST_LINE = 8
"""The same for one line of a value of several lines."""


class Redaction:
    """Replaces the values of secrets in one stream; holds back what may be the beginning of one.

    Every byte that belongs to any occurrence of any value is hidden, occurrences that overlap included.

    >>> hide = Redaction([b"hunter22"])
    >>> hide.feed(b"the key is hunt") + hide.feed(b"er22, so") + hide.end()
    b'the key is ***, so'
    """

    __slots__ = ("_covered", "_held", "_values")

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = tuple({form for value in values for form in _forms(value)})
        self._held = b""
        self._covered = 0
        """How many of the bytes that are held belong to an occurrence that is hidden already."""

    def feed(self, chunk: bytes) -> bytes:
        """What may be written now."""
        if not self._values:
            return chunk
        text = self._held + chunk
        return self._hidden(text, min(_unfinished(text, value) for value in self._values))

    def end(self) -> bytes:
        """What was held back, when nothing more comes."""
        return self._hidden(self._held, len(self._held))

    def _hidden(self, text: bytes, end: int) -> bytes:
        """The text before `end` without values; the rest is held."""
        written, at = [], 0
        for first, last in self._spans(text):
            if first >= end:
                break
            if first > 0 or not self._covered:
                written += [text[at:first], _INSTEAD]
            at = last
        written.append(text[at:end])
        self._held, self._covered = text[end:], max(0, at - end, self._covered - end)
        return b"".join(written)

    def _spans(self, text: bytes) -> Iterator[tuple[int, int]]:
        """What is to be hidden, in order, where each part that touches another is joined to it."""
        found = [(0, self._covered)] if self._covered else []
        found += (span for value in self._values for span in _occurrences(text, value))
        if not found:
            return
        start, end = min(found)
        for first, last in sorted(found):
            if first > end:
                yield start, end
                start = first
            end = max(end, last) if first <= end else last
        yield start, end


def hiding(secrets: Mapping[str, str]) -> Redaction | None:
    """What keeps the values of these out of one stream; None when there are none."""
    return Redaction(value.encode(errors="surrogateescape") for value in secrets.values()) if secrets else None


def _forms(value: bytes) -> Iterator[bytes]:
    """The ways in which a value is printed: without the line break at its end, with those of a terminal, by lines."""
    bare = value.replace(b"\r\n", b"\n").strip(b"\r\n")
    if len(bare) >= _SHORTEST:
        yield bare
        yield bare.replace(b"\n", b"\r\n")
    lines = bare.splitlines()
    if len(lines) > 1:
        yield from (line for line in map(bytes.strip, lines) if len(line) >= _SHORTEST_LINE)


def _occurrences(text: bytes, value: bytes) -> Iterator[tuple[int, int]]:
    at = text.find(value)
    while at >= 0:
        yield at, at + len(value)
        at = text.find(value, at + 1)


def _unfinished(text: bytes, value: bytes) -> int:
    """Where the longest end of a text begins that may begin a value."""
    at = text.find(value[:1], max(0, len(text) - len(value) + 1))
    while at >= 0:
        if value.startswith(text[at:]):
            return at
        at = text.find(value[:1], at + 1)
    return len(text)
