"""A repository's name: the registry's host and the name within it."""

import os
import re

import msgspec

from mlcube.errors import UsageError

__all__ = ["Repository", "check_reference", "insecure", "is_tag", "loopback"]

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LAST_PORT = 65535
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DOCKER_HUB = ("docker.io", "index.docker.io")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Repository(msgspec.Struct, frozen=True):
    """A repository of a registry: `host[:port]` and a name such as `group/model`."""

    host: str
    name: str

    @staticmethod
    def parse(text: str) -> "Repository":
        """The repository that `host[:port]/a/b` names. Raises UsageError."""
        host, _, name = text.partition("/")
        if not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
            raise UsageError(f"`{text}` names no registry", hint="write `host/name` or `host:port/group/name`")
        port = host.rpartition(":")[2]
        if port.isdigit() and not 0 < int(port) <= _LAST_PORT:
            raise UsageError(
                f"`{text}` names a port that there cannot be: {port}", hint=f"ports go from 1 to {_LAST_PORT}"
            )
        if not name:
            raise UsageError(f"`{text}` names a registry, and no repository in it", hint=f"{host}/group/name")
        if not _NAME.fullmatch(name) or len(text) > 255:
            raise UsageError(
                f"`{name}` is no name of a repository",
                hint="lower-case letters and digits, joined by `.`, `_`, `-` or `/`",
            )
        return Repository(host, name)

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def url(self) -> str:
        """The address of its API: plain http only for this machine, and for hosts that were allowed."""
        host = "registry-1.docker.io" if self.host in _DOCKER_HUB else self.host
        return f"{'http' if insecure(host) else 'https'}://{host}/v2/{self.scope}"

    @property
    def scope(self) -> str:
        """The name by which the registry itself knows it."""
        return f"library/{self.name}" if self.host in _DOCKER_HUB and "/" not in self.name else self.name


def insecure(host: str, *, of: str | None = None) -> bool:
    """Whether `host[:port]` may be spoken to without TLS: what was allowed, and this machine.

    `of`: where the registry of that name leads there; one that lies elsewhere has no business on this machine.
    """
    listed = [each.strip() for each in os.environ.get("CUBE_INSECURE_REGISTRIES", "").split(",")]
    return host in listed or (loopback(host) and (of is None or loopback(of)))


def loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine by its very name."""
    name = host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name in ("localhost", "[::1]") or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", name) is not None


def is_tag(text: str) -> bool:
    """Whether a text can be a tag."""
    return _TAG.fullmatch(text) is not None


def check_reference(reference: str) -> str:
    """`reference` if it is a tag or a digest. Raises UsageError."""
    if not (_TAG.fullmatch(reference) or _DIGEST.fullmatch(reference)):
        raise UsageError(
            f"`{reference}` is neither a tag nor a digest", hint="a digest is `sha256:` and 64 hexadecimal digits"
        )
    return reference
