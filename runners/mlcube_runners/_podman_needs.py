"""What of a task's needs Podman can honour for this user, and how it is told of GPUs.

A Podman that nobody could ask (a dry run on a machine without it) is given the benefit of the doubt.
"""

from collections.abc import Iterator

from mlcube.invocation import Invocation
from mlcube.runner import Host
from mlcube_runners._container import BATCH_GPUS

__all__ = ["gpu_arguments", "lacking"]

_GIB = 1 << 30
_MINIMUM_MEMORY = 6 << 20
"""What runc and crun need themselves before the task begins."""
_ROOTLESS_V1 = "boot with cgroup v2 (`systemd.unified_cgroup_hierarchy=1`), run it as root, or leave the limit out"
_DELEGATE = "delegate the cgroup controllers to you: https://rootlesscontaine.rs/getting-started/common/cgroup2"
_GENERATE = "describe them: `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`; or run it with `--gpus 0`"


def lacking(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    """What of the resources Podman cannot give or enforce, and what to do."""
    resources, podman = invocation.resources, host.get("podman", {})
    task, known = f"task `{invocation.task}`", "version" in podman
    for field, value, controller in (
        ("a memory limit", resources.memory_bytes, "memory"),
        ("a limit of processors", resources.cpus, "cpu"),
        ("a set of processors", resources.cpu_set, "cpuset"),
    ):
        if value is not None and known and controller not in podman["controllers"]:
            who = "rootless Podman" if podman["rootless"] else "this Podman"
            hint = _ROOTLESS_V1 if podman["rootless"] and podman["cgroups"] == "v1" else _DELEGATE
            return f"{task} has {field}, which {who} cannot enforce here", hint
    if resources.memory_bytes is not None and resources.memory_bytes < _MINIMUM_MEMORY:
        return f"{task} has a memory limit below 6 MiB, in which no container starts", "give it more: `--memory 6m`"
    processors, memory = podman.get("cpus"), podman.get("memory_bytes")
    if processors and (resources.cpus or 0) > processors:
        return (
            f"{task} is to use {resources.cpus:g} processors, and this machine has {processors}",
            f"give it {processors} at most: `-P tasks.{invocation.task}.resources.cpus={processors}`",
        )
    if memory and (resources.host_memory_bytes or 0) > memory:
        needed = (resources.host_memory_bytes or 0) / _GIB
        return (
            f"the cube needs a machine with {needed:.3g} GiB of memory, and this one has {memory / _GIB:.3g}",
            "use a platform on a larger machine: `cube platforms`",
        )
    return _gpu_problem(invocation, host)


def _gpu_problem(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    gpus, there = invocation.resources.gpus, host.get("cdi_gpus")
    if gpus == "granted":
        return BATCH_GPUS
    if not gpus or there is None:
        return None
    if not there:
        return f"task `{invocation.task}` needs GPUs, and Podman knows of none here (no CDI device)", _GENERATE
    missing = [name for name in gpus if name not in there] if isinstance(gpus, tuple) else []
    if missing or (isinstance(gpus, int) and gpus > len(_indices(there))):
        wanted = ", ".join(missing) if missing else gpus
        return (
            f"`resources.gpus` asks for {wanted}, and the CDI devices here are {', '.join(there)}",
            "compare with `nvidia-ctk cdi list`, or ask for fewer, as in `--gpus 1`",
        )
    return None


def gpu_arguments(invocation: Invocation, host: Host) -> Iterator[str]:
    """The GPUs that the container sees, by their CDI names."""
    gpus = invocation.resources.gpus
    match gpus:
        case None | 0:
            return
        case "all" | "granted":
            chosen: tuple[str, ...] = ("all",)
        case int():
            there = _indices(host.get("cdi_gpus") or ()) or [str(index) for index in range(gpus)]
            chosen = tuple(there[:gpus])
        case _:
            chosen = gpus
    yield from (f"--device=nvidia.com/gpu={name}" for name in chosen)


def _indices(names: "list[str] | tuple[str, ...]") -> list[str]:
    return sorted((name for name in names if name.isdecimal()), key=int)
