"""Ranges of Python versions as cubes write them, `>=3.10,<3.13`, and which versions they admit."""

import functools
import re

__all__ = ["MINORS", "admits", "lowest_admitted"]

MINORS = tuple(range(8, 15))
"""The minor versions of Python 3 that are known here: 3.8 to 3.14."""

_CLAUSE = re.compile(r"(?P<operator>~=|==|!=|<=|>=|<|>|)\s*(?P<release>\d+(?:\.\d+){0,2})(?P<any>\.\*)?")
_NEWEST_PATCH = 99
_Version = tuple[int, ...]


@functools.lru_cache(256)
def admits(version_range: str, version: str) -> bool:
    """Whether a range admits a version, by the rules of PEP 440; a bare `3.11` admits every 3.11.

    Raises ValueError, with a sentence for the user, when either cannot be read.

    >>> admits(">=3.10,<3.13", "3.12.1"), admits("~=3.11", "3.10.4"), admits("3.11", "3.11.7")
    (True, False, True)
    """
    if not re.fullmatch(r"\d+(\.\d+){0,2}", version):
        raise ValueError(f"`{version}` is no Python version, as `3.11.7` is")
    return _admits(_clauses(version_range), _release(version))


def lowest_admitted(version_range: str) -> str:
    """The lowest minor that a range admits, as the tag of an image; with its patch when only old patches are.

    Raises ValueError, with a sentence for the user, when the range cannot be read or admits no known version.

    >>> lowest_admitted(">=3.10,<3.13"), lowest_admitted("==3.11.4")
    ('3.10', '3.11.4')
    """
    clauses = _clauses(version_range)
    for minor in MINORS:  # an image without a patch in its tag holds the newest one
        if _admits(clauses, (3, minor, _NEWEST_PATCH)):
            return f"3.{minor}"
    for minor in MINORS:
        for patch in reversed(range(_NEWEST_PATCH)):
            if _admits(clauses, (3, minor, patch)):
                return f"3.{minor}.{patch}"
    raise ValueError(f"`{version_range}` admits no Python from 3.{MINORS[0]} to 3.{MINORS[-1]}")


def _clauses(version_range: str) -> list[tuple[str, _Version, bool]]:
    """Operator, release and whether it ends in `.*`, of each clause."""
    clauses = []
    for text in version_range.split(","):
        if not (found := _CLAUSE.fullmatch(text.strip())):
            raise ValueError(f"`{text.strip()}` is no condition on a Python version, as `>=3.10` is")
        operator, release = found["operator"], tuple(int(number) for number in found["release"].split("."))
        wildcard = found["any"] is not None
        if wildcard and (operator not in ("", "==", "!=") or len(release) == 3):
            raise ValueError(f"`.*` cannot stand in `{text.strip()}`, only in `==3.11.*` or `!=3.11.*`")
        if operator == "~=" and len(release) == 1:
            raise ValueError(f"`{text.strip()}` needs a minor version, as `~=3.11` has")
        clauses.append((operator or "==", release, wildcard or (not operator and len(release) < 3)))
    return clauses


def _admits(clauses: list[tuple[str, _Version, bool]], version: _Version) -> bool:
    return all(_meets(version, operator, release, wildcard) for operator, release, wildcard in clauses)


def _meets(version: _Version, operator: str, release: _Version, wildcard: bool) -> bool:
    full = _release(release)
    begins_so = version[: len(release)] == release
    return {
        "==": begins_so if wildcard else version == full,
        "!=": not (begins_so if wildcard else version == full),
        ">=": version >= full,
        "<=": version <= full,
        ">": version > full,
        "<": version < full,
        "~=": version >= full and version[: len(release) - 1] == release[:-1],
    }[operator]


def _release(version: str | _Version) -> _Version:
    """Three numbers; those that are missing are zero."""
    numbers = tuple(int(number) for number in version.split(".")) if isinstance(version, str) else version
    return (*numbers, 0, 0)[:3]
