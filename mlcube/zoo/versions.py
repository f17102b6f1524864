"""The order of versions, and which of them `1.2` means."""

import re
from collections.abc import Iterable

__all__ = ["matching", "order"]

_PARTS = re.compile(r"\d+|[A-Za-z]+")
_LONGEST = 12
"""Digits of a number; a longer one is text, so that no version is work."""


def order(version: str | None) -> tuple[object, ...]:
    """A key that sorts versions from old to new: numbers as numbers, `1.0-rc1` before `1.0`, none before any."""
    if version is None:
        return ((-2, 0, ""),)
    text = version[:200].removeprefix("v").partition("+")[0]
    parts: list[tuple[int, int, str]] = []
    for part in _PARTS.findall(text):
        if part.isdigit() and part.isascii() and len(part) <= _LONGEST:
            parts.append((1, int(part), ""))
        else:
            parts.append((-1, 0, part.lower()))
    return (*parts, (0, 0, ""), (0, 0, version))


def matching(wanted: str | None, versions: Iterable[str | None]) -> str | None:
    """The newest of the versions that is meant: that one itself, else the newest of `wanted.*`.

    Without a wish the newest that is no pre-release, if there is one. Raises LookupError when none is meant.
    """
    known = list(versions)
    if wanted in known and wanted is not None:
        return wanted
    if wanted is not None:
        known = [each for each in known if each is not None and each.startswith(f"{wanted}.")]
    if not known:
        raise LookupError
    settled = [each for each in known if each is None or not re.search("[A-Za-z]", each.removeprefix("v"))]
    return max(settled or known, key=order)
