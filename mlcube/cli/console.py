"""All printing: results to stdout, everything else to stderr, in colour only where a person reads it."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlcube.errors import CubeError, Problem, escaped

__all__ = [
    "LEVELS",
    "as_json",
    "debugging",
    "document",
    "failure",
    "note",
    "passing",
    "plain",
    "problem",
    "progress",
    "raw",
    "result",
    "set_level",
    "table",
    "talking",
    "told",
    "trace",
    "warnings",
    "watched",
]

LEVELS = ("critical", "error", "warning", "info", "debug")

_COLOURS = {"error:": "1;31", "warning:": "1;33", "hint:": "1;36"}
_PIECE = 1 << 20
_STEERING = rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
"""In UTF-8 what JSON leaves as it is: delete and the controls of 8 bits, and what turns the direction of writing."""
_level = "warning"


def set_level(level: str) -> None:
    """What is worth telling besides results: from `error` down, nothing but errors."""
    global _level  # noqa: PLW0603 - one process has one console
    _level = level


def debugging() -> bool:
    """Whether the user wants to see where an error came from."""
    return _level == "debug" or bool(os.environ.get("CUBE_DEBUG"))


def talking() -> bool:
    """Whether progress and warnings are wanted."""
    return _level not in ("critical", "error")


@contextmanager
def progress() -> Iterator[int]:
    """A descriptor for what is printed while something is made available: nowhere, if progress is not wanted."""
    if talking():
        yield 2
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        yield nowhere
    finally:
        os.close(nowhere)


def result(text: str) -> None:
    """A line of what the user asked for: as it is for a program, and for a terminal without what would steer it."""
    if not text.isprintable() and sys.stdout.isatty():
        text = "\n".join(map(escaped, text.split("\n")))
    sys.stdout.write(f"{text}\n")


def raw(chunk: bytes) -> None:
    """A part of a file, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(chunk)


def document(value: Any) -> None:
    """A JSON document: data that a program reads."""
    import io

    pieces = io.TextIOWrapper(io.BytesIO(as_json(value)), "utf-8", newline="\n")
    while piece := pieces.read(_PIECE):  # a long one is not held several times
        sys.stdout.write(piece)
    sys.stdout.write("\n")


def as_json(value: Any, *, indent: int = 2) -> bytes:
    """A value as JSON for people and programs: what would steer a terminal is escaped, as JSON does with most of it."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=indent)
    if text.isascii() and b"\x7f" not in text:
        return text
    import re

    return re.sub(_STEERING, lambda found: b"\\u%04x" % ord(found[0].decode()), text)


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows in columns, as wide as they need to be."""
    rows = [tuple(escaped(cell, lines=False) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        result("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def note(text: str) -> None:
    """A line about what is going on."""
    if talking():
        _tell(escaped(text))


def watched() -> bool:
    """Whether a person looks at stderr, where a line can be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def passing(text: str) -> None:
    """A line that the next one replaces, where somebody looks; empty: it is taken away."""
    if talking():
        sys.stdout.flush()
        sys.stderr.write(f"\r\x1b[K{escaped(text, lines=False)}")
        sys.stderr.flush()


def warnings(problems: tuple[Problem, ...]) -> None:
    """What is wrong but does not stop anything."""
    for each in problems:
        if talking():
            problem(each)


def failure(error: CubeError) -> int:
    """Every problem of an error, and its exit status."""
    for each in error.problems:
        problem(each)
    return error.status


def told(error: CubeError) -> dict[str, object]:
    """An error as data."""
    return {"status": error.status, "problems": [plain(each) for each in error.problems]}


def plain(one: Problem) -> dict[str, object]:
    """A problem as data."""
    position = one.position
    return {
        "severity": one.severity,
        "message": one.message,
        "hint": one.hint,
        "file": position.source if position else None,
        "line": position.line or None if position else None,
        "column": position.column or None if position else None,
    }


def problem(one: Problem) -> None:
    """A problem with its place, the source line and a hint."""
    text = str(one)
    if _coloured():
        for word, colour in _COLOURS.items():
            text = _painted(text, word, colour)
    _tell(text)


def trace(error: Exception) -> None:
    """Where an error came from."""
    import traceback

    _tell("".join(traceback.format_exception(error)).rstrip())


def _painted(text: str, word: str, colour: str) -> str:
    """The first `word` that begins a line, or follows a position there, in colour."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        place = line.find(f": {word} ") + 2 if f": {word} " in line else 0
        if line.startswith(word, place):
            end = place + len(word)
            lines[index] = f"{line[:place]}\x1b[{colour}m{word}\x1b[0m{line[end:]}"
            break
    return "\n".join(lines)


def _coloured() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stderr.isatty()


def _tell(text: str) -> None:
    sys.stdout.flush()  # so that both streams stand in order when they are one file
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
