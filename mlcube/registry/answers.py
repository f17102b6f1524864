"""Reads what a registry answers, which may be anything: too much, no JSON, or JSON of another kind."""

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mlcube.errors import CubeError, Denied, MissingInput, Unreachable, escaped, lowered
from mlcube.registry.patience import Passing

if TYPE_CHECKING:
    from mlcube.registry.connections import Answer

__all__ = ["decode", "failure", "following", "passing", "read", "words"]

T = TypeVar("T")
_PIECE_BYTES = 64 << 10
_ERROR_BYTES = 64 << 10
_NEXT = re.compile(r"""<([^<>]*)>\s*;[^,<]*\brel="?next\b""")
_LONGEST_WORDS = 200
_LONGEST_LINK = 8192
_LONGEST_WAIT = 1e6
_LONGEST_DATE = 100


def decode(content: bytes, kind: type[T], what: str) -> T:
    """JSON as a `kind`. Raises Unreachable, which says that `what` is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Unreachable(f"{what} is not as it must be: {_plain(str(error))}") from None


def read(answer: "Answer", limit: int, what: str) -> bytes:
    """The body, if it is no longer than `limit`. Raises Passing when it is cut, Unreachable when it is too long."""
    found = bytearray()
    piece = bytearray(_PIECE_BYTES)
    while count := answer.readinto(piece):
        found += memoryview(piece)[:count]
        if len(found) > limit:
            raise Unreachable(f"{what} is longer than {limit} bytes")
    return bytes(found)


def following(answer: "Answer") -> str | None:
    """The address of the next page, if there is one."""
    found = _NEXT.search(answer.header("Link")[:_LONGEST_LINK])
    return found[1] if found else None


def words(answer: "Answer") -> str:
    """The first error that an answer explains itself with; empty when it does not."""
    try:
        content = read(answer, _ERROR_BYTES, "the answer")
        found: Any = msgspec.json.decode(content)
        first = found["errors"][0]
        text = str(first.get("message") or first.get("code") or "")
    except (
        CubeError,
        Passing,
        msgspec.MsgspecError,
        RecursionError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ):
        return ""
    return escaped(_plain(text), lines=False)


def passing(answer: "Answer", host: str) -> Passing | None:
    """What may pass of a bad answer; None when asking again would not help."""
    status = answer.status
    if status not in (408, 425, 429) and status < 500:
        return None
    return Passing(f"`{host}` answers {status}{_said(answer)}", after=_retry_after(answer))


def failure(answer: "Answer", host: str, what: str) -> CubeError:
    """The error for an answer that is final."""
    status = answer.status
    said = _said(answer)
    if status in (401, 403):
        return Denied(
            f"{what}: `{host}` {'refuses the login' if status == 401 else 'forbids it'} ({status}{said})",
            hint=f"log in with `docker login {host}` or `podman login {host}`, as somebody who may do it",
        )
    if status == 404:
        return MissingInput(
            f"{what}: `{host}` does not have it (404{said})", hint="check the name, the tag and the login"
        )
    return Unreachable(f"{what}: `{host}` answers {status}{said}")


def _plain(text: str) -> str:
    """Somebody else's sentence in our style, on one line."""
    text = " ".join(text.split())[:_LONGEST_WORDS]
    return text if text[1:2].isupper() else lowered(text)


def _said(answer: "Answer") -> str:
    said = words(answer)
    return f": {said}" if said else ""


def _retry_after(answer: "Answer") -> float | None:
    text = answer.header("Retry-After")
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)
    if len(text) > _LONGEST_DATE:
        return None
    from email.utils import parsedate_to_datetime

    try:
        import time

        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()), _LONGEST_WAIT)
    except (ValueError, OverflowError, OSError):
        return None
