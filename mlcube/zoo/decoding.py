"""Reads an index, which anybody may have written; who builds one reads it back in the same way."""

import os
from typing import TypeVar

import msgspec

from mlcube.errors import CubeError, Damaged, Unreachable

__all__ = ["INDEX_BYTES", "decoded"]

INDEX_BYTES = 64 << 20
"""A longer index is not read."""
_MOST_CUBES = 200_000
_MOST_VALUES, _MOST_OF_A_CUBE = 4_500_000, 100_000
_MOST_STRUCTURES = 1_200_000
"""Values in an index, in one cube of it, and mappings and lists among them: each takes memory, however short it is.

Indexes that `cube zoo build` writes have a comma in 25 bytes and a mapping or a list in 70, which is less than this at
the length that is read. Commas and brackets in texts are counted too, so that counting costs next to nothing.
"""
_SMALLER = "who makes it can make several zoos of it"
T = TypeVar("T")


class _Cubes(msgspec.Struct, frozen=True):
    """An index of which no cube has been understood yet."""

    cubes: tuple[msgspec.Raw, ...] = ()


def decoded(whose: str, content: bytes, kind: type[T], *, path: str | None = None) -> T:
    """The index as a `kind`; errors name it by `whose`, as "the zoo `mine`", and by the file where it lies here.

    Raises Damaged for a file that is none, Unreachable for what came from elsewhere.
    """
    from mlcube.zoo.entries import FORMAT

    try:
        _check_size(whose, content)
        found = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_index(whose, path, f"is no index: {str(error)[:200].lower()}") from None
    if getattr(found, "format", None) != FORMAT:
        raise _no_index(whose, path, "is no index of a zoo")
    if getattr(found, "schema", None) != 1:
        raise Unreachable(f"{whose} has an index of a newer format", hint="a newer `cube` reads it")
    return found


def _no_index(whose: str, path: str | None, why: str) -> CubeError:
    """A file on this machine is damaged; a server does not answer as it must."""
    if path is None:
        return Unreachable(f"what {whose} gives {why}")
    return Damaged(f"`{path}`, of {whose}, {why}", hint=f"cube zoo build SOURCE... -o {os.path.dirname(path)}")


def _check_size(whose: str, content: bytes) -> None:
    """Raises Unreachable for an index that would take far more memory than its length; else what msgspec raises."""
    structures = _structures(content)
    values = structures + content.count(b",")
    if structures > _MOST_STRUCTURES or values > _MOST_VALUES:
        raise Unreachable(f"{whose} has an index of more values than are read", hint=_SMALLER)
    if values <= _MOST_OF_A_CUBE:
        return
    cubes = msgspec.json.decode(content, type=_Cubes).cubes
    if len(cubes) > _MOST_CUBES:
        raise Unreachable(f"{whose} has an index of more cubes than are read ({_MOST_CUBES:,})", hint=_SMALLER)
    for each in map(bytes, cubes):
        if len(each) > _MOST_OF_A_CUBE and _structures(each) + each.count(b",") > _MOST_OF_A_CUBE:
            raise Unreachable(f"{whose} says more of one cube than is read ({_MOST_OF_A_CUBE:,} values)")


def _structures(content: bytes) -> int:
    return content.count(b"{") + content.count(b"[")
