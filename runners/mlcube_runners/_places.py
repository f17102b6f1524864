"""Where the places that a task would see in a container lie on the host, for runners without containers."""

from collections.abc import Mapping

from mlcube.cube import SOURCE
from mlcube.invocation import Invocation, Word

__all__ = ["host_path", "host_text", "places"]


def places(invocation: Invocation) -> dict[str, str]:
    """Each place in the container with the path on the host that stands for it."""
    found = {"/tmp": invocation.scratch}  # noqa: S108 - a place in the container
    if invocation.python:
        found[SOURCE] = invocation.python.source
    found |= {mount.target.rstrip("/"): mount.source for mount in invocation.mounts}
    return found | {secret.mount: invocation.secret_path(secret) for secret in invocation.secrets if secret.mount}


def host_path(place: str, known: Mapping[str, str]) -> str | None:
    """The path on the host for a place in the container; None when nothing of the host lies there.

    >>> host_path("/mlcube_io1/x", {"/mlcube_io1": "/home/ada/chats"})
    '/home/ada/chats/x'
    """
    end = len(place)
    while end > 0:
        if (source := known.get(place[:end])) is not None:
            return source + place[end:]
        end = place.rfind("/", 0, end)
    return None


def host_text(word: Word, known: Mapping[str, str]) -> str:
    """A word with its place translated. What the user wrote is never looked at."""
    return word.text + (host_path(word.path, known) or word.path) if word.path is not None else word.text
