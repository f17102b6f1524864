"""What git knows of a cube's folder: where it comes from, at which revision, and whether it was changed since."""

import os
import re
from collections.abc import Collection
from urllib.parse import urlsplit

import msgspec

from mlcube.asking import ask_all

__all__ = ["Source", "find_source", "public_address"]

_TIMEOUT_SECONDS = 20.0
_SCHEMES = ("https", "http", "ssh", "git")


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a published cube comes from."""

    url: str | None = None
    """The repository's address, without any login in it."""
    revision: str | None = None
    dirty: bool = False
    """Whether what is published differs from that revision."""
    created: str | None = None
    """The time of that revision, or what `SOURCE_DATE_EPOCH` says."""


def find_source(root: str, file: str, paths: Collection[str]) -> Source:
    """What git knows of the folder, if it knows the cube's file; `paths` are what is published."""
    git = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", root)
    head, prefix, remote, known, changes = ask_all(
        [
            (*git, "log", "-1", "--no-show-signature", "--format=%H %ct", "HEAD"),
            (*git, "rev-parse", "--show-prefix"),
            (*git, "remote", "get-url", "origin"),
            (*git, "ls-files", "--error-unmatch", "--", file),
            (*git, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", "."),
        ],
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    created = int(epoch) if epoch.isascii() and epoch.isdigit() else None
    revision, _, seconds = head.output.strip().partition(" ")
    if head.status != 0 or known.status != 0 or not seconds.isdigit():
        return Source(created=_time(created))
    inside = prefix.output.removesuffix("\n")
    changed = {entry[3:].removeprefix(inside) for entry in changes.output.split("\0") if entry}
    return Source(
        url=public_address(remote.output.strip()) if remote.status == 0 else None,
        revision=revision,
        dirty=changes.status != 0 or not changed.isdisjoint(paths),
        created=_time(int(seconds) if created is None else created),
    )


def public_address(text: str) -> str | None:
    """The address of a git remote as anybody may read it; None for a place on the publisher's machine."""
    if "://" not in text:
        host, colon, path = text.partition(":")
        host = host.rpartition("@")[2]
        if not colon or not path.strip("/") or path[0] in ":\\" or not re.fullmatch(r"[\w.-]{2,}", host):
            return None
        return f"ssh://{host}/{path.lstrip('/')}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def _time(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    import time

    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return None
