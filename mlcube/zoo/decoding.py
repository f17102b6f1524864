"""Reads an index, which anybody may have written; who builds one reads it back in the same way."""

from typing import TypeVar

import msgspec

from mlcube.errors import Unreachable

__all__ = ["INDEX_BYTES", "decoded"]

INDEX_BYTES = 64 << 20
"""A longer index is not read."""
T = TypeVar("T")


def decoded(whose: str, content: bytes, kind: type[T]) -> T:
    """The index as a `kind`; errors begin with `whose`, as "the zoo `mine`". Raises Unreachable for what is none."""
    from mlcube.zoo.entries import FORMAT

    try:
        found = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreachable(f"what {whose} gives is no index: {str(error)[:200].lower()}") from None
    if getattr(found, "format", None) != FORMAT:
        raise Unreachable(f"what {whose} gives is no index of a zoo")
    if getattr(found, "schema", None) != 1:
        raise Unreachable(f"{whose} has an index of a newer format", hint="a newer `cube` reads it")
    return found
