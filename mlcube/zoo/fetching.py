"""Brings the index of a zoo here: from a folder, or over HTTP with what was fetched before."""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from mlcube import directories, files
from mlcube.errors import CubeError, MissingInput, Unreachable
from mlcube.offline import offline
from mlcube.zoo.decoding import INDEX_BYTES, decoded

if TYPE_CHECKING:
    from mlcube.registry.connections import Answer

__all__ = ["fetch", "path_of"]

_PIECE = 1 << 16
_SECONDS_IN_ALL = 120.0
_LONGEST_HEADER = 1000
_HOW = "a zoo is what `cube zoo build SOURCE... -o FOLDER` writes; `cube zoo list` shows those that are asked"


class _Kept(msgspec.Struct, frozen=True):
    """What is known of an index that was fetched."""

    url: str
    digest: str
    etag: str = ""
    modified: str = ""


class _Head(msgspec.Struct, frozen=True):
    """What tells an index from other documents."""

    format: str = ""
    schema: int = 0


class _Unchanged(Exception):
    """What was fetched before is what there is."""


def fetch(name: str, place: str, report: Callable[[str], None] = lambda _text: None) -> bytes:
    """The index of the zoo `name`, whatever it says.

    Without a network, or when the zoo gives none, it is the one that was fetched last; `report` is told so.
    Raises Unreachable when there is none, MissingInput when the zoo has none.
    """
    if (path := path_of(place)) is not None:
        return _read(name, path)
    url = place if place.endswith(".json") else f"{place.rstrip('/')}/index.json"
    kept, content = _kept(url)
    if offline():
        if content is None:
            raise Unreachable(
                f"the index of the zoo `{name}` was never fetched, and the network may not be used",
                hint=f"once with a network: cube zoo list {name}",
            )
        return content
    try:
        found, kept = _got(name, url, kept if content is not None else None)
        decoded(f"the zoo `{name}`", found, _Head)  # what is no index takes the place of none
    except _Unchanged:
        return content or b""
    except Unreachable as error:
        if content is None:
            raise
        report(f"{error.problems[0].message}; its index is the one that was fetched last")
        return content
    _keep(found, kept)
    return found


def path_of(place: str) -> str | None:
    """The file that is a zoo's index; None: it is fetched."""
    if place.startswith(("http://", "https://")):
        return None
    path = unquote(urlsplit(place).path) if place.startswith("file://") else os.path.expanduser(place)
    return path if path.endswith(".json") else os.path.join(path, "index.json")


def _read(name: str, path: str) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            content = file.read(INDEX_BYTES + 1)
    except FileNotFoundError:
        raise MissingInput(f"the zoo `{name}` has no index: there is no `{path}`", hint=_HOW) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MissingInput(f"the index of the zoo `{name}` cannot be read: `{path}`: {reason}", hint=_HOW) from None
    if len(content) > INDEX_BYTES:
        raise _too_long(name)
    return content


def _got(name: str, url: str, kept: _Kept | None) -> tuple[bytes, _Kept]:
    """The index, and what is to be known of it the next time. Raises _Unchanged."""
    from mlcube.registry.patience import Passing

    what = f"the zoo `{name}` ({url})"
    try:
        status, content, headers = _asked(url, _conditions(kept))
    except Passing as fault:
        hint = "check the address, and whether the zoo is served there"
        raise Unreachable(f"{what} does not answer: {fault.reason}", hint=hint) from None
    except Unreachable as error:
        problem = error.problems[0]
        raise Unreachable(f"{what} does not answer: {problem.message}", hint=problem.hint) from None
    if status == 304 and kept:
        raise _Unchanged
    if status in (404, 410):
        raise MissingInput(f"{what} has no index there", hint=_HOW)
    if status != 200:
        raise Unreachable(f"{what} answers with status {status}")
    if len(content) > INDEX_BYTES:
        raise _too_long(name)
    return content, _Kept(url, hashlib.sha256(content).hexdigest(), *headers)


def _conditions(kept: _Kept | None) -> dict[str, str]:
    """What has a zoo send its index only if it is another one than was fetched last."""
    if kept and kept.etag:
        return {"If-None-Match": kept.etag}
    return {"If-Modified-Since": kept.modified} if kept and kept.modified else {}


def _asked(url: str, conditions: dict[str, str]) -> tuple[int, bytes, tuple[str, str]]:
    """The status, what came if that is an index, its `ETag` and `Last-Modified`: all of it within a limit of time."""
    from mlcube import __version__
    from mlcube.registry.addresses import MOST_REDIRECTS, REDIRECTS, encoded, followed
    from mlcube.registry.connections import Connections
    from mlcube.registry.limits import Limits

    limits = Limits.from_environment()
    end = time.monotonic() + _SECONDS_IN_ALL

    def check() -> None:
        if time.monotonic() > end:
            raise Unreachable(f"it takes more than {_SECONDS_IN_ALL:g} seconds")

    headers = {"Accept": "application/json", **conditions}
    with closing(Connections(limits, check, f"cube/{__version__}")) as connections:
        for _ in range(MOST_REDIRECTS + 1):
            url = encoded(url)
            with connections.send("GET", url, headers, None, limits.answer_seconds) as answer:
                if answer.status in REDIRECTS:
                    url = followed(url, answer.header("Location"))
                    continue
                content = _body(answer, check) if answer.status == 200 else b""
                return answer.status, content, (_sent(answer, "ETag"), _sent(answer, "Last-Modified"))
    raise Unreachable(f"it redirects more than {MOST_REDIRECTS} times")


def _body(answer: "Answer", check: Callable[[], None]) -> bytes:
    """What comes, and of what is too long so much that this is seen."""
    content = bytearray()
    piece = memoryview(bytearray(_PIECE))
    while len(content) <= INDEX_BYTES and (count := answer.readinto(piece)):
        check()
        content += piece[:count]
    return bytes(content)


def _sent(answer: "Answer", name: str) -> str:
    """A header that can be sent back."""
    text = answer.header(name)[:_LONGEST_HEADER]
    return text if text.isascii() and text.isprintable() else ""


def _too_long(name: str) -> CubeError:
    return Unreachable(f"the index of the zoo `{name}` is longer than {INDEX_BYTES >> 20} MiB, and is not read")


def _paths(url: str) -> tuple[str, str]:
    stem = os.path.join(directories.cache(), "zoos", hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:32])
    return f"{stem}.json", f"{stem}.kept"


def _kept(url: str) -> tuple[_Kept | None, bytes | None]:
    """What was fetched before, whole as it was."""
    path, about = _paths(url)
    try:
        kept = msgspec.json.decode(files.read_small(about), type=_Kept)
        with open(path, "rb") as file:
            content = file.read(INDEX_BYTES + 1)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None, None
    if kept.url != url or kept.digest != hashlib.sha256(content).hexdigest():
        return None, None
    return kept, content


def _keep(content: bytes, kept: _Kept) -> None:
    path, about = _paths(kept.url)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write(path, content)
        files.write(about, msgspec.json.encode(kept))
    except (OSError, CubeError):
        pass  # a cache that cannot be written is no reason to fail
