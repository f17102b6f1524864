"""What of an invocation a cluster honours, in its own words, and what it cannot."""

import math
import re
from typing import Any

from mlcube.invocation import Invocation
from mlcube.runner import Host
from mlcube_runners._container import image_problem

__all__ = ["limits", "refusal", "volume_of_shared_memory"]

_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def limits(invocation: Invocation) -> dict[str, str]:
    """What the task gets, and is held to."""
    resources = invocation.resources
    found = {}
    if resources.cpus is not None:
        found["cpu"] = f"{math.ceil(resources.cpus * 1000)}m"
    if resources.memory_bytes is not None:
        found["memory"] = str(resources.memory_bytes)
    if resources.gpus:
        found["nvidia.com/gpu"] = str(resources.gpus)
    return found


def refusal(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    """What no cluster can do for it, whatever the platform's options."""
    return image_problem(invocation) or _needs_problem(invocation) or _environment_problem(invocation, host)


def _needs_problem(invocation: Invocation) -> tuple[str, str] | None:
    task, resources = f"task `{invocation.task}`", invocation.resources
    if resources.cpu_set is not None:
        return f"{task} asks for certain processors, and the cluster chooses them", "ask for a number: `--cpus 4`"
    if resources.gpus and not isinstance(resources.gpus, int):
        wanted = resources.gpus if isinstance(resources.gpus, str) else ", ".join(resources.gpus)
        message = f"{task} asks for certain GPUs ({wanted}), and the cluster chooses them"
        return message, "ask for a number of them, as in `--gpus 1`"
    if invocation.network == "none":
        return (
            f"{task} is to have no network, and not every cluster enforces that",
            "use a platform that can, as `docker`; or have the cluster's administrator deny it in the namespace",
        )
    if invocation.network not in (None, "default"):
        return f"{task} asks for the network `{invocation.network}`", "a cluster has one network: leave `network` out"
    if invocation.security:
        return (
            f"{task} has security options of an engine, and the cluster has its own",
            "leave them out on this platform",
        )
    return None


def _environment_problem(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    for name in (*invocation.environment, *(each.name for each in invocation.secrets)):
        if not _VARIABLE.fullmatch(name):
            return f"no container of a cluster can have the variable `{name}`", "give it a name of letters and digits"
    if "user" not in (host.get("caller") or {}):
        return "the caller's user id is not known", "`id -u` must work"
    return None


def volume_of_shared_memory(invocation: Invocation) -> dict[str, Any] | None:
    """Memory as /dev/shm, where more is asked than containers have."""
    size = invocation.resources.shared_memory_bytes
    return None if size is None else {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}
