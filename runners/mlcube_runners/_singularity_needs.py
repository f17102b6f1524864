"""What of a task's needs Apptainer and Singularity can honour on a host, and how they are told of it."""

from collections.abc import Iterator
from typing import Any

from mlcube.cube import RawNeeds
from mlcube.invocation import Invocation
from mlcube.runner import Host

__all__ = [
    "asked_network",
    "gpu_arguments",
    "gpu_variables",
    "inherited_variables",
    "lacking",
    "limit_arguments",
    "section_needs",
]

_OF_SLURM = "leave it out, or let the batch system enforce it: `{runner: slurm, inner: PLATFORM}`"


def section_needs(invocation: Invocation) -> RawNeeds:
    """What `singularity.run_args` of a cube asks for that also has a `docker:` section.

    A cube without one has been understood already: then its run_args are in the invocation.
    """
    written = invocation.singularity.get("run_args")
    if not written or invocation.image is None or invocation.python is not None:
        return RawNeeds()
    from mlcube.raw_arguments import understand_singularity

    needs, _ = understand_singularity(written, None, trust=False)
    return needs


def asked_network(invocation: Invocation) -> str | None:
    """The network that the task is to have."""
    return invocation.network or section_needs(invocation).network


def lacking(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    """What cannot be given or enforced there, and what to do."""
    return (
        _of_section(invocation)
        or _of_identity(invocation)
        or _of_network(invocation, host)
        or _of_limits(invocation, host)
        or _of_gpus(invocation, host)
    )


def limit_arguments(invocation: Invocation) -> Iterator[str]:
    """Memory and processors, where the host's control groups are the caller's to use."""
    resources = invocation.resources
    if resources.memory_bytes is not None:
        yield f"--memory={resources.memory_bytes}"
        yield f"--memory-swap={resources.memory_bytes}"  # memory and swap together: swap must not soften it
    if resources.cpus is not None:
        yield f"--cpus={resources.cpus:g}"
    if resources.cpu_set is not None:
        yield f"--cpuset-cpus={resources.cpu_set}"


def gpu_arguments(invocation: Invocation, host: Host) -> Iterator[str]:
    """The driver's files and all its devices; which of them the task uses is said by gpu_variables."""
    devices = host.get("devices") or {}
    if invocation.resources.gpus:
        yield "--nv" if devices.get("nvidia") or not devices.get("rocm") else "--rocm"
    elif asked := _where_they_are(invocation):
        if devices.get("nvidia") and "--nv" in asked:
            yield "--nv"
        elif devices.get("rocm") and "--rocm" in asked:
            yield "--rocm"


def gpu_variables(invocation: Invocation, host: Host) -> dict[str, str]:
    """What keeps the task to the GPUs that it asked for: there is no device control group without root."""
    devices, gpus = host.get("devices") or {}, invocation.resources.gpus
    if gpus == "granted" or (not gpus and not _where_they_are(invocation)):
        return {}
    if nvidia := devices.get("nvidia"):
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpu["uuid"] for gpu in _chosen(gpus or "all", nvidia))}
    if count := devices.get("rocm"):
        indices = [{"index": str(index), "uuid": str(index)} for index in range(count)]
        return {"ROCR_VISIBLE_DEVICES": ",".join(gpu["index"] for gpu in _chosen(gpus or "all", indices))}
    return {}


def inherited_variables(invocation: Invocation) -> tuple[str, ...]:
    """By which a batch system says which GPUs it grants, where the task starts."""
    granted = invocation.resources.gpus == "granted"
    return ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES") if granted else ()


def _where_they_are(invocation: Invocation) -> tuple[str, ...]:
    """`--nv` in run_args is no request: MLCube ran such cubes on hosts without a GPU, too."""
    written: Any = invocation.singularity.get("run_args")
    if not written:
        return ()
    from mlcube.raw_arguments import words

    try:
        return tuple(word for word in words(written) if word in ("--nv", "--rocm"))
    except ValueError:
        return ()


def _chosen(gpus: Any, there: list[dict[str, str]]) -> list[dict[str, str]]:
    if isinstance(gpus, tuple):
        return [gpu for name in gpus for gpu in there if name in (gpu["index"], gpu["uuid"])]
    return there if gpus == "all" else there[:gpus]


def _of_section(invocation: Invocation) -> tuple[str, str] | None:
    if refused := section_needs(invocation).refused:
        return (
            f"`singularity.run_args` of the cube: {refused[0].message}",
            "take it out, or say it for this machine: `platforms: {mine: {runner: singularity, arguments: [...]}}`",
        )
    return None


def _of_identity(invocation: Invocation) -> tuple[str, str] | None:
    if invocation.user == "image":
        return "`user: image` cannot be honoured: the task runs as you, as all containers here do", "leave `user` out"
    home = invocation.task_environment()["HOME"]
    if not str(home).startswith("/") or ":" in str(home):
        return f"HOME cannot be `{home}` here", "choose an absolute path without a colon"
    return None


def _of_network(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    match asked_network(invocation):
        case None | "default" | "host":
            return None
        case "none":
            return _unproven("network", "`network: none` cannot be enforced here", "leave `network` out", host)
        case other:
            return f"network `{other}` needs an engine that knows it", "use `--platform docker`, or `network: none`"


def _of_limits(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    asked, task = invocation.resources, f"task `{invocation.task}`"
    for field, value, ability in (
        ("a memory limit", asked.memory_bytes, "memory"),
        ("a limit of processors", asked.cpus, "cpus"),
        ("a set of processors", asked.cpu_set, "cpu_set"),
    ):
        refusal = _unproven(ability, f"{task} has {field}, which cannot be enforced here", _OF_SLURM, host)
        if value is not None and refusal:
            return refusal
    most = (host.get("singularity") or {}).get("memory_kib", 0) << 9  # the kernel gives a tmpfs half of the memory
    if most and (asked.shared_memory_bytes or 0) > most:
        return (
            f"{task} asks for {(asked.shared_memory_bytes or 0) >> 20} MiB of shared memory, and has {most >> 20} here",
            f"ask for less: `--shared-memory {most >> 20}m`, or use a larger machine",
        )
    return None


def _of_gpus(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    gpus, devices = invocation.resources.gpus, host.get("devices")
    if not gpus or gpus == "granted" or devices is None:
        return None
    there: list[dict[str, str]] = devices["nvidia"] or [
        {"index": str(index), "uuid": str(index)} for index in range(devices["rocm"])
    ]
    wanted = len(gpus) if isinstance(gpus, tuple) else 1 if gpus == "all" else gpus
    if len(_chosen(gpus, there)) >= wanted:
        return None
    asked = ", ".join(gpus) if isinstance(gpus, tuple) else gpus
    have = ", ".join(gpu["index"] for gpu in there) or "none"
    return (
        f"`resources.gpus` asks for {asked}, and this machine shows {have}",
        "compare with `nvidia-smi -L` and `$CUDA_VISIBLE_DEVICES`, or run it without: `--gpus 0`",
    )


def _unproven(ability: str, message: str, hint: str, host: Host) -> tuple[str, str] | None:
    """A refusal, unless trying has shown that it works, or nobody could try (a dry run without the engine)."""
    engine = host.get("singularity") or {}
    if "executable" not in engine or ability in engine["works"]:
        return None
    why = engine["problem"].get(ability)
    return f"{message}{f': {why}' if why else ''}", hint
