"""What a YAML parser finds wrong, in words that a reader of the file understands."""

import re
from typing import Any

from mlcube.errors import Position, Problem

__all__ = ["meant", "unprintable"]

_UNPRINTABLE = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ud800-\\udfff\\ufffe\\uffff]"
"""What YAML admits in no text, byte order marks in the midst of it aside. Its opposite takes 5 ms to compile."""

_MEANINGS = {
    "mapping values are not allowed": (
        "a `:` makes a key where none can stand",
        "check the indentation, or quote the value",
    ),
    "node content": ("a value is expected here", "check the commas and brackets, or quote the value"),
    "unknown escape character": ("this escape has no meaning", "write the backslash twice, or use single quotes"),
    "cannot start any token": ("no value begins with this character", "quote the value"),
    "expected '-' indicator": ("an item of the list is expected here", "begin it with `- `, or check the indentation"),
    "expected key": ("a key is expected here", "check the indentation and the quotes"),
    "maximum nesting depth": (
        "this is nested more deeply or repeated more often than any cube needs",
        "check the brackets",
    ),
    "block sequence entries": ("a list cannot begin here", "begin it on a line of its own, or write [a, b]"),
}
"""By a part of libyaml's words: the message and the hint."""


def unprintable(text: str, name: str) -> Problem | None:
    """The first character that YAML does not admit; parsers cannot tell its line."""
    if text.replace("\n", "").isprintable():  # nearly every file, and nothing to compile
        return None
    if not (found := re.search(_UNPRINTABLE, text)):
        return None
    before = [*text[: found.start()].splitlines(), ""] if text[: found.start()].endswith(("\n", "\r")) else []
    before = before or text[: found.start()].splitlines() or [""]
    position = Position(name, len(before), len(before[-1]) + 1)
    hint = "remove it, or write it with an escape in double quotes"
    return Problem(message=f"character U+{ord(found[0]):04X} cannot stand in YAML", position=position, hint=hint)


def meant(error: Any, name: str, lines: tuple[str, ...]) -> Problem:
    """What a parser's error means, and where."""
    found = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).strip()
    context = str(getattr(error, "context", None) or "")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return Problem(message=f"this is no YAML: {found}", position=Position(name))
    opened = getattr(error, "context_mark", None) or mark
    position = _position(mark, name, lines)
    if "\t" in position.excerpt[: position.column]:
        return Problem(message="a tab cannot indent YAML", position=position, hint="indent with spaces")
    if "quoted scalar" in context and "end of" in found:
        position = _position(opened, name, lines)
        return Problem(message="this quote is not closed", position=position, hint="close it where the text ends")
    if "parsing a flow" in context and "node" not in context:
        bracket = "brace" if "mapping" in context else "bracket"
        message = f"this is no YAML: the {bracket} opened on line {opened.line + 1} is not closed"
        return Problem(message=message, position=position, hint=f"close the {bracket}, or separate with a comma")
    message, hint = next(
        (meaning for words, meaning in _MEANINGS.items() if words in found), (found, "check the indentation and quotes")
    )
    return Problem(message=f"this is no YAML: {message}", position=position, hint=hint)


def _position(mark: Any, name: str, lines: tuple[str, ...]) -> Position:
    """A parser's mark, which at the end of a text may lie behind its last line."""
    if not lines:
        return Position(name, 1, 1)
    line = min(mark.line, len(lines) - 1)
    column = mark.column if mark.line < len(lines) else len(lines[line])
    return Position(name, line + 1, column + 1, 1, lines[line])
