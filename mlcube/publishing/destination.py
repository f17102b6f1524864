"""Where a cube is published: a repository of a registry, and a tag."""

import msgspec

from mlcube.errors import CubeError, UsageError
from mlcube.registry.repository import Repository, check_reference

__all__ = ["Destination", "split"]

_HINT = "write oci://host/name:tag, as in oci://registry.example.org/group/model:1.0"


class Destination(msgspec.Struct, frozen=True):
    """A repository and the tag that will lead to the cube."""

    repository: Repository
    tag: str

    @staticmethod
    def parse(text: str) -> "Destination":
        """What `oci://host/name:tag` names. Raises UsageError."""
        scheme, separator, rest = text.partition("://")
        if scheme != "oci" or not separator:
            raise UsageError(f"`{text}` is no place to publish to", hint=_meant(scheme, separator, rest) or _HINT)
        if "@" in rest:
            raise UsageError(f"`{text}` names a digest, which follows from the content", hint=_HINT)
        if rest and "/" not in rest:
            raise UsageError(f"`{rest}` names a registry, and no repository in it", hint=f"oci://{rest}/group/name:tag")
        name, tag = split(rest)
        return Destination(Repository.parse(name), check_reference("latest" if tag is None else tag))

    def __str__(self) -> str:
        return f"oci://{self.repository}:{self.tag}"

    @property
    def image(self) -> str:
        """The name that a container image gets beside the cube: its tag keeps it from being collected."""
        return f"{self.repository}:{self.tag[:122]}-image"


def _meant(scheme: str, separator: str, rest: str) -> str | None:
    """What is right once it begins with `oci://`, as `docker push` and others name it."""
    name, tag = split(rest if separator else scheme)
    try:
        Repository.parse(name)
        return f"oci://{name}:{check_reference('latest' if tag is None else tag)}"
    except CubeError:
        return None


def split(text: str) -> tuple[str, str | None]:
    """`host:port/name:tag` as the name and the tag."""
    name, colon, tag = text.rpartition(":")
    return (text, None) if not colon or "/" in tag else (name, tag)
