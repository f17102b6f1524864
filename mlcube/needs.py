"""What the user asks for on the command line besides arguments: resources, network, user."""

import re
from typing import Any, Literal

import msgspec

from mlcube import amounts
from mlcube.errors import UsageError, did_you_mean

__all__ = ["Needs", "flags", "network", "user"]


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for on the command line, as it was written. None: nothing was."""

    gpus: str | None = None
    memory: str | None = None
    shared_memory: str | None = None
    cpu: str | None = None
    network: str | None = None
    user: str | None = None
    timeout: str | None = None
    security: tuple[str, ...] = ()
    mount: Literal["ro", "rw"] | None = None


def flags(needs: Needs) -> dict[str, Any]:
    """The resources that the command line asks for. Raises UsageError, naming the flag."""
    result = dict[str, Any]()
    readers = (
        ("--gpus", "gpus", needs.gpus, amounts.gpus),
        ("--memory", "memory_bytes", needs.memory, lambda text: amounts.size(text, engine=True)),
        ("--shared-memory", "shared_memory_bytes", needs.shared_memory, amounts.size),
        ("--timeout", "timeout_seconds", needs.timeout, amounts.duration),
    )
    for flag, field, text, read in readers:
        if text is None:
            continue
        try:
            result[field] = read(text)
        except ValueError as error:
            raise UsageError(f"`{flag}` needs {error}") from None
    if needs.cpu is not None:
        result |= _processors(needs.cpu)
    return result


def user(needs: Needs) -> Literal["caller", "image"]:
    """Whom the task runs as."""
    match needs.user:
        case None | "caller":
            return "caller"
        case "image":
            return "image"
        case other:
            raise UsageError(
                f"`--user` is `caller` or `image`, not `{other}`", hint=did_you_mean(other, ["caller", "image"])
            )


def network(needs: Needs) -> str | None:
    """The network that the user asked for, in neutral words."""
    return "default" if needs.network == "bridge" else needs.network


def _processors(text: str) -> dict[str, Any]:
    """`--cpu 4` is a number of processors, `--cpu 0-3` names them."""
    if re.fullmatch(r"\d+(\.\d+)?", text) and float(text) > 0:
        return {"cpus": float(text)}
    try:
        return {"cpu_set": amounts.cpu_set(text)}
    except ValueError:
        raise UsageError(f"`--cpu` needs a number such as `4`, or processors such as `0-3`, not `{text}`") from None
