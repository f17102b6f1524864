"""Logins for registries out of Docker's and Podman's files and credential helpers; nothing is stored here."""

import base64
import binascii
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from mlcube.errors import Denied

__all__ = ["Login", "find_login"]

_DOCKER_HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_LARGEST_FILE = 1 << 20


class Login(msgspec.Struct, frozen=True):
    """A user name and a secret. Its repr shows neither."""

    username: str
    secret: str

    def __repr__(self) -> str:
        return "Login(...)"

    @property
    def identity(self) -> bool:
        """Whether the secret is an identity token, with which tokens are asked for as with a password."""
        return self.username == "<token>"

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.secret}".encode()).decode("ascii")


def find_login(host: str, name: str = "") -> Login | None:
    """The login for the repository `name` at `host`; None when nobody has logged in there."""
    for path in _files():
        document = _read(path)
        if document is not None and (found := _login_in(path, document, host, name)) is not None:
            return found
    return None


def _files() -> Iterator[str]:
    """The files that may hold logins, the one that was asked for by name first."""
    environment = os.environ.get
    if asked := environment("REGISTRY_AUTH_FILE"):
        yield asked
    home = os.path.expanduser("~")
    yield os.path.join(environment("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")
    runtime = environment("XDG_RUNTIME_DIR")
    yield os.path.join(runtime, "containers/auth.json") if runtime else f"/run/containers/{os.getuid()}/auth.json"
    yield os.path.join(environment("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers/auth.json")


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if path.startswith("/run/"):  # of somebody else
            return None
        raise Denied(f"the logins in `{path}` cannot be read: {error.strerror}") from None
    if not content.strip():
        return None
    try:
        found = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        found = None
    if not isinstance(found, dict) or len(content) > _LARGEST_FILE:
        raise Denied(f"`{path}` is no file of logins", hint="log in again with `docker login` or `podman login`")
    return found


def _login_in(path: str, document: dict[str, Any], host: str, name: str) -> Login | None:
    from mlcube.registry.credential_helpers import ask_helper

    keys = tuple(_keys(host, name))
    helpers, entries = (_table(document.get(key)) for key in ("credHelpers", "auths"))
    for key in keys:
        if isinstance(helper := helpers.get(key), str) and helper:
            return ask_helper(helper, key)
    for key, entry in _matching(entries, keys):
        if entry.get("auth") or entry.get("username") or entry.get("identitytoken"):
            return _login_of(path, key, entry)
    if isinstance(store := document.get("credsStore"), str) and store:
        asked = [key for key, _ in _matching(entries, keys)] or list(keys)
        for key in dict.fromkeys(asked):
            if (found := ask_helper(store, key)) is not None:
                return found
    return None


def _keys(host: str, name: str) -> Iterator[str]:
    """The names under which a login may stand: Podman's most special first, as `host/group/model`."""
    parts = name.split("/") if name else []
    for count in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:count]))
    if host in _DOCKER_HUB:
        yield from _DOCKER_HUB
    else:
        yield host


def _matching(entries: dict[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for wanted in keys:
        for key, entry in entries.items():
            if isinstance(entry, dict) and wanted in (key, _plain(key)):
                yield key, entry


def _plain(key: str) -> str:
    """`host` out of the addresses that old versions of Docker wrote: `https://host/v1/`."""
    if not key.startswith(("http://", "https://")):
        return key
    return key.partition("://")[2].partition("/")[0]


def _table(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _login_of(path: str, key: str, entry: dict[str, Any]) -> Login:
    if entry.get("identitytoken"):
        return Login("<token>", str(entry["identitytoken"]))
    username, secret = entry.get("username"), entry.get("password")
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, ValueError):
            text = ""
        username, _, secret = text.rstrip("\0").partition(":")
    if not isinstance(username, str) or not isinstance(secret, str) or not username:
        raise Denied(
            f"the login for `{key}` in `{path}` is not one", hint="log in again with `docker login` or `podman login`"
        )
    return Login(username, secret)
