"""Addresses on the web: as they are asked for, and what an answer may lead to."""

from urllib.parse import SplitResult, quote, urljoin, urlsplit

from mlcube.errors import Unreachable

__all__ = ["MOST_REDIRECTS", "REDIRECTS", "encoded", "followed", "plain"]

MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
_ALLOWED = "%/:?#[]@!$&'()*+,;=~"


def encoded(url: str) -> str:
    """An address as it is asked for, in ASCII. Raises Unreachable when no host can have it."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
        fine = host.isprintable() and " " not in host and parts.port != 0
    except ValueError:  # also of a port that there cannot be, and of letters that no name has
        fine = False
    if not fine:
        raise Unreachable(f"`{plain(url)}` names no host that there can be")
    path, query = (quote(text, safe=_ALLOWED) for text in (parts.path or "/", parts.query))
    return SplitResult(parts.scheme, host, path, query, "").geturl()


def followed(url: str, location: str) -> str:
    """Where an answer of `url` leads, if that may be followed: never from https to anything else."""
    try:
        found = urlsplit(urljoin(url, location))
        fine = bool(location and found.hostname) and found.username is None and found.port != 0
    except ValueError:
        fine = False
    if not fine or found.scheme not in ("http", "https"):
        raise Unreachable(f"`{plain(url)}` leads to what is no address")
    if url.startswith("https:") and found.scheme != "https":
        raise Unreachable(f"`{plain(url)}` leads to what has no TLS, which is not followed")
    return found.geturl()


def plain(url: str) -> str:
    """Without what may be a key."""
    return url.partition("?")[0]
