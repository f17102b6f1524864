"""What of a task's needs a Docker daemon can honour, and how it is told of GPUs.

A daemon that nobody could ask (a dry run on a machine without Docker) is given the benefit of the doubt.
"""

from collections.abc import Iterator

from mlcube.invocation import Invocation
from mlcube.runner import Host
from mlcube_runners._container import BATCH_GPUS, device_list

__all__ = ["gpu_arguments", "lacking"]

_GIB = 1 << 30
_MINIMUM_MEMORY = 6 << 20
"""Docker accepts no smaller limit."""
_CGROUPS = "delegate the cgroup controllers to the daemon: https://rootlesscontaine.rs/getting-started/common/cgroup2"
_TOOLKIT = (
    "install the NVIDIA Container Toolkit, then `sudo nvidia-ctk runtime configure && sudo systemctl restart docker`; "
    "or run it without: `--gpus 0`"
)


def lacking(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    """What of the resources the daemon cannot give or enforce, and what to do."""
    resources, daemon = invocation.resources, host.get("docker", {})
    task = f"task `{invocation.task}`"
    for field, value, ability in (
        ("a memory limit", resources.memory_bytes, "memory_limit"),
        ("a limit of processors", resources.cpus, "cpu_limit"),
        ("a set of processors", resources.cpu_set, "cpu_set"),
    ):
        if value is not None and not daemon.get(ability, True):
            return f"{task} has {field}, which this Docker daemon cannot enforce", _CGROUPS
    if resources.memory_bytes is not None and resources.memory_bytes < _MINIMUM_MEMORY:
        return f"{task} has a memory limit below 6 MiB, the least that Docker accepts", "give it more: `--memory 6m`"
    processors, memory = daemon.get("cpus"), daemon.get("memory_bytes")
    if processors and (resources.cpus or 0) > processors:
        return (
            f"{task} is to use {resources.cpus:g} processors, and Docker has {processors}",
            f"give it {processors} at most: `--cpu {processors}`",
        )
    if memory and (resources.host_memory_bytes or 0) > memory:
        needed = (resources.host_memory_bytes or 0) / _GIB
        return (
            f"the cube needs a machine with {needed:.3g} GiB of memory, and Docker has {memory / _GIB:.3g}",
            "use a platform on a larger machine: `cube platforms`",
        )
    if resources.gpus == "granted":
        return BATCH_GPUS
    if resources.gpus and _gpu_access(host) is None:
        return f"{task} needs GPUs, and this Docker daemon has none to give", _TOOLKIT
    return None


def gpu_arguments(invocation: Invocation, host: Host) -> Iterator[str]:
    """The GPUs that the container sees."""
    gpus = invocation.resources.gpus
    if not gpus:
        return
    if _gpu_access(host) == "cdi":
        match gpus:
            case "all" | "granted":
                chosen: tuple[str, ...] = ("all",)
            case int():
                names = (name.partition("=")[2] for name in host["docker"]["cdi_devices"])
                chosen = tuple(sorted((name for name in names if name.isdecimal()), key=int)[:gpus])
            case _:
                chosen = gpus
        yield from (f"--device=nvidia.com/gpu={name}" for name in chosen)
    elif isinstance(gpus, tuple):
        yield f"--gpus={device_list(gpus)}"
    else:
        yield f"--gpus={gpus}"


def _gpu_access(host: Host) -> str | None:
    """How GPUs reach a container: `runtime`, `cdi`, or None when they do not."""
    daemon = host.get("docker", {})
    if daemon.get("nvidia_runtime") or "server" not in daemon:
        return "runtime"
    return "cdi" if daemon.get("cdi_devices") else None
