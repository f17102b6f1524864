"""The many spellings of one address: each is brought into one form before a rule is asked about it."""

import os
import re
from urllib.parse import unquote

from mlcube.errors import Untrusted

__all__ = ["address_names", "path_names", "plain_pattern", "plain_repository"]

_HOST = re.compile(r"(?:[\w.+-]+@)?(?:[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
"""Nothing else: what reads `?`, `\\` or letters of other scripts in a host goes to another one than it seems."""
_PORTS = {"https": 443, "http": 80, "ssh": 22}
_SHORT_SSH = re.compile(r"(?P<host>[^/:]+@[^/:]+):(?P<path>.*)", re.DOTALL)
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_CUBE_FILES = ("mlcube.yaml", "container_config.yaml")


def address_names(url: str) -> tuple[str, ...]:
    """What the address of a repository or an archive is called in rules: first itself, then as it could be written too.

    Raises Untrusted for one that climbs or hides: what `..` and `%2f` lead to is for each server and each client to
    say, and so no pattern can speak of it.
    """
    decoded = unquote(unquote(url)).replace("\\", "/")
    if any(part in (".", "..") for part in re.split(r"[/?#:]", decoded)):
        raise Untrusted(f"`{url}` holds `.` or `..`, and so no rule can be about it", hint="write the address out")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        if not (short := _SHORT_SSH.fullmatch(url)):
            raise _unclear(url)
        if "%" in short["path"]:  # here it stands for itself
            raise _unclear(url)
        scheme, rest = "ssh", f"{short['host']}/{short['path']}"
    if scheme == "file":
        place = os.path.realpath(f"/{_decoded(url, rest)}")
        return tuple(dict.fromkeys(each for path in _with_and_without_git(place) for each in (f"file://{path}", path)))
    host, slash, path = rest.partition("/")
    plain = _plain_host(host, _PORTS.get(scheme))
    if not _HOST.fullmatch(plain) or re.search(r":[0-9]*:[0-9]*\Z", host):
        raise _unclear(url)
    host = plain
    path, question, query = path.partition("?")
    path = re.sub("/{2,}", "/", _decoded(url, path)).strip("/")
    behind = f"?{query}" if question and query else ""
    user, at, bare = host.rpartition("@")
    found = []
    for each in _with_and_without_git(path) if not behind else (path,):
        found.append(f"{scheme}://{host}{slash}{each}{behind}")
        if scheme == "ssh" and user + at:
            found += [f"ssh://{bare}/{each}", f"{host}:{each}"]
    return tuple(found)


def path_names(path: str) -> tuple[tuple[str, ...], ...]:
    """What a path of this machine is called in rules: the folder and the cube's file in it.

    Two of them where a file is a link: what the cube refers to lies beside the link, so both places must be allowed.
    """
    path = os.path.expanduser(path)
    if "\0" in path:
        raise Untrusted("no rule can be about a path with a null character", hint="write the path out")
    if os.path.isdir(path):
        folder = os.path.realpath(path)
        there = next((each for each in _CUBE_FILES if os.path.exists(os.path.join(folder, each))), _CUBE_FILES[0])
        return ((folder, os.path.join(folder, there)),)
    folder, name = os.path.split(os.path.abspath(path))
    places = (os.path.join(os.path.realpath(folder), name), os.path.realpath(path))
    return tuple((place, os.path.dirname(place)) for place in dict.fromkeys(places))


def plain_repository(text: str, *, pattern: bool = False) -> str:
    """`host[:port]/name` of a registry, or a pattern of it, with the host in one spelling."""
    from mlcube.registry.repository import insecure

    host, slash, name = text.partition("/")
    host = _plain_host(host, None)
    bare = re.sub(r":[0-9]+\Z", "", host)
    host = _plain_host(host, 80 if insecure(host) or insecure(bare) else 443)
    if host in _HUB:
        host = _HUB[0]
        if "/" not in name and not (pattern and "**" in name):
            name = f"library/{name}"
    return f"{host}{slash}{name}"


def plain_pattern(pattern: str) -> str:
    """A pattern of names; of one that is an address, its host in one spelling."""
    scheme, separator, rest = pattern.partition("://")
    if not separator:
        short = _SHORT_SSH.fullmatch(pattern)
        return f"{_plain_host(short['host'], None)}:{short['path']}" if short else pattern
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{_plain_host(host, _PORTS.get(scheme.lower()))}{slash}{unquote(path)}"


def _plain_host(host: str, port: int | None) -> str:
    """`[user@]host[:port]` in small letters (but for the user), without a last dot, and without the usual port."""
    user, at, host = host.rpartition("@")
    host, colon, number = host.lower().rpartition(":") if re.search(r":[0-9]*\Z", host) else (host.lower(), "", "")
    if colon and number and int(number) != port:
        number = str(int(number))
    else:
        colon = number = ""
    return f"{user}{at}{host.removesuffix('.')}{colon}{number}"


def _decoded(url: str, path: str) -> str:
    """A path without its `%`, which may stand for a letter and for nothing that parts an address."""
    found = unquote(path)
    if not found.isprintable() or "\ufffd" in found or any(found.count(each) != path.count(each) for each in "/?#\\"):
        raise _unclear(url)
    if "\\" in found or (found != path and "%" in found):
        raise _unclear(url)
    return found


def _with_and_without_git(path: str) -> tuple[str, str]:
    """Servers take a repository with and without `.git` for the same."""
    if path.endswith(".git"):
        return path, path.removesuffix(".git").rstrip("/")
    return path, f"{path}.git"


def _unclear(url: str) -> Untrusted:
    message = f"`{url}` may lead elsewhere than it seems, and so no rule can be about it"
    return Untrusted(
        message, hint="write host and path in plain letters, as in https://host.example.org/group/name.git"
    )
