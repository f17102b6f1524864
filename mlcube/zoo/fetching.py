"""Brings the index of a zoo here: from a folder, or over HTTP with what was fetched before."""

import hashlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from mlcube import directories, files
from mlcube.errors import CubeError, MissingInput, Unreachable
from mlcube.offline import offline
from mlcube.zoo.decoding import INDEX_BYTES

if TYPE_CHECKING:
    import http.client

__all__ = ["fetch"]

_PIECE = 1 << 16
_SECONDS, _SECONDS_IN_ALL = 15.0, 120.0
_MOST_REDIRECTS = 5
_HOW = "a zoo is what `cube zoo build SOURCE... -o FOLDER` writes; `cube zoo list` shows those that are asked"


class _Kept(msgspec.Struct, frozen=True):
    """What is known of an index that was fetched."""

    url: str
    digest: str
    etag: str = ""
    modified: str = ""


class _Unchanged(Exception):
    """What was fetched before is what there is."""


def fetch(name: str, place: str, report: Callable[[str], None] = lambda _text: None) -> bytes:
    """The index of the zoo `name`, whatever it says.

    Without a network, or when the zoo does not answer, it is the one that was fetched last; `report` is told so.
    Raises Unreachable when there is none, MissingInput when the zoo has none.
    """
    if not place.startswith(("http://", "https://")):
        return _read(name, place)
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
        content, headers = _got(name, url, kept if content is not None else None)
    except _Unchanged:
        return content or b""
    except Unreachable as error:
        if content is None:
            raise
        report(f"{error.problems[0].message}; its index is the one that was fetched last")
        return content
    _keep(url, content, headers)
    return content


def _read(name: str, place: str) -> bytes:
    path = unquote(urlsplit(place).path) if place.startswith("file://") else os.path.expanduser(place)
    if not path.endswith(".json"):
        path = os.path.join(path, "index.json")
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


def _got(name: str, url: str, kept: _Kept | None) -> tuple[bytes, Any]:
    """The index and the headers that came with it."""
    import http.client
    import urllib.error
    import urllib.request

    from mlcube import __version__

    headers = {"Accept": "application/json", "User-Agent": f"cube/{__version__}"}
    if kept and kept.etag:
        headers["If-None-Match"] = kept.etag
    elif kept and kept.modified:
        headers["If-Modified-Since"] = kept.modified
    what = f"the zoo `{name}` ({url})"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https alone
        with _opener(url).open(request, timeout=_SECONDS) as answer:
            return _body(answer, name, what), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304 and kept:
                raise _Unchanged from None
            if error.code in (404, 410):
                raise MissingInput(f"{what} has no index there", hint=_HOW) from None
            raise Unreachable(f"{what} answers with status {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        hint = "check the address, and whether the zoo is served there"
        raise Unreachable(f"{what} does not answer: {text.lower()}", hint=hint) from None


def _opener(url: str) -> Any:
    """Follows a redirect to http and https only, and never from https to http."""
    import ssl
    import urllib.request

    from mlcube.registry.certificates import trusted

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = _MOST_REDIRECTS

        def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
            scheme = urlsplit(newurl).scheme
            if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
                raise OSError(f"it leads to `{scheme}://`, which is not followed")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    handlers: list[Any] = [Redirects()]
    if url.startswith("https://"):
        context: ssl.SSLContext = trusted()
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _body(answer: "http.client.HTTPResponse", name: str, what: str) -> bytes:
    deadline = time.monotonic() + _SECONDS_IN_ALL
    content = bytearray()
    while piece := answer.read1(_PIECE):
        content += piece
        if len(content) > INDEX_BYTES:
            raise _too_long(name)
        if time.monotonic() > deadline:
            raise Unreachable(f"{what} sends its index too slowly")
    wanted = answer.headers.get("Content-Length")
    if wanted is not None and wanted != str(len(content)):
        raise Unreachable(f"{what} sent its index only in part")
    return bytes(content)


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


def _keep(url: str, content: bytes, headers: Any) -> None:
    path, about = _paths(url)
    etag, modified = (str(headers.get(each) or "")[:1000] for each in ("ETag", "Last-Modified"))
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write(path, content)
        files.write(about, msgspec.json.encode(_Kept(url, hashlib.sha256(content).hexdigest(), etag, modified)))
    except (OSError, CubeError):
        pass  # a cache that cannot be written is no reason to fail
