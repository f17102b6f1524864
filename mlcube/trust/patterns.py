"""Patterns of names: `*` stands for anything within a part between slashes, `**` for any number of parts."""

import re
from urllib.parse import unquote

from mlcube.errors import Untrusted

__all__ = ["matches", "plain_address", "registry_matches"]


def matches(pattern: str, name: str) -> bool:
    """Whether a name is what a pattern says, from its first letter to its last."""
    return re.fullmatch(_expression(pattern), name, re.DOTALL) is not None


def registry_matches(pattern: str, repository: str) -> bool:
    """Whether `host[:port]/name` is what a pattern says; a pattern without a slash means all of that host."""
    return matches(_lowered(pattern if "/" in pattern else f"{pattern}/**"), _lowered(repository))


def plain_address(url: str) -> str:
    """An address as it is compared: its scheme and host in small letters. Raises Untrusted for one that climbs.

    What `..` leads to is for each server and each client to say, and so no pattern can speak of it.
    """
    decoded = unquote(unquote(url)).replace("\\", "/")
    if any(part in (".", "..") for part in re.split(r"[/?#:]", decoded)):
        raise Untrusted(f"`{url}` holds `.` or `..`, and so no rule can be about it", hint="write the address out")
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{_lowered(rest)}" if separator else url


def _lowered(text: str) -> str:
    """With the part before the first slash in small letters, as hosts are the same in any."""
    host, slash, rest = text.partition("/")
    return f"{host.lower()}{slash}{rest}"


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*+|\?)", pattern)
    known = {"*": "[^/]*", "**": ".*", "?": "[^/]"}
    return "".join(known.get(part) or (".*" if part.startswith("**") else re.escape(part)) for part in parts)
