"""What tasks need: resources in neutral words, and what raw engine arguments ask for."""

from collections.abc import Callable
from typing import Any

import msgspec

from mlcube import amounts
from mlcube.cube import RawNeeds, Resources, Secret
from mlcube.document import CubeFile, PlatformFile, ResourcesFile
from mlcube.raw_arguments import VARIABLE, understand_docker, understand_singularity
from mlcube.reading.images import variables
from mlcube.reading.report import Report

__all__ = ["base_resources", "raw_needs", "resources"]


def raw_needs(report: Report, content: CubeFile, *, trust: bool) -> tuple[RawNeeds, RawNeeds]:
    """What raw engine arguments mean without GPUs and with them."""
    docker, singularity = content.docker, content.singularity
    if docker is not None:
        needs = []
        for key, arguments in (("cpu_args", docker.cpu_args), ("gpu_args", docker.gpu_args)):
            found, problems = understand_docker(arguments or [], report.where(("docker", key), False), trust=trust)
            report.problems += problems
            needs.append(found)
        environment, secrets = _environment_arguments(report, docker.env_args)
        cpu, gpu = (
            msgspec.structs.replace(
                found,
                environment={**environment, **found.environment},
                secrets=(*secrets, *(secret for secret in found.secrets if secret not in secrets)),
            )
            for found in needs
        )
        return cpu, gpu
    found = RawNeeds()
    if singularity is not None and singularity.run_args:
        position = report.where(("singularity", "run_args"), False)
        found, problems = understand_singularity(singularity.run_args, position, trust=trust)
        report.problems += problems
    return found, found


def _environment_arguments(
    report: Report, written: "dict[str, Any] | str | None"
) -> tuple[dict[str, str], list[Secret]]:
    if isinstance(written, str):
        found, problems = understand_docker(written, report.where(("docker", "env_args"), False), trust=False)
        report.problems += problems
        for refusal in found.refused:
            hint = (
                "`env_args` holds variables, as in {NAME: value}; engine arguments stand in `cpu_args` and `gpu_args`"
            )
            report.error_at(refusal.position, refusal.message, hint=hint)
        return dict(found.environment), list(found.secrets)
    for name in written or {}:
        if not VARIABLE.fullmatch(name):
            report.error(f"`{name}` is no name of a variable", "docker", "env_args", name, of_key=True)
    return variables(report, written, "env_args", "-e"), []


def base_resources(report: Report, platform: PlatformFile | None) -> dict[str, Any]:
    """What `platform:` asks for on behalf of every task."""
    if platform is None:
        return {}
    for key in ("host_memory_gb", "host_disk_space_gb"):
        amount = getattr(platform, key)
        if amount is not None and not 0 <= amount < _MOST_GIGABYTES:
            report.error(f"`{key}` must be an amount in GB such as 16, not {amount}", "platform", key)
            return {}
    gigabyte = 1000**3
    return {
        "gpus": platform.accelerator_count,
        "host_memory_bytes": int(platform.host_memory_gb * gigabyte) if platform.host_memory_gb else None,
        "disk_bytes": int(platform.host_disk_space_gb * gigabyte) if platform.host_disk_space_gb else None,
    }


_MOST_GIGABYTES = 1e9


def resources(report: Report, base: dict[str, Any], written: ResourcesFile, task: str) -> Resources:
    """What a task needs, over what the platform section asks for on behalf of all."""
    result = dict(base)
    sizes = (("memory", "memory_bytes"), ("shared_memory", "shared_memory_bytes"), ("disk", "disk_bytes"))
    readers: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("gpus", "gpus", amounts.gpus),
        ("cpus", "cpus", amounts.processors),
        ("time_limit", "timeout_seconds", amounts.duration),
        *((key, field, amounts.size) for key, field in sizes),
    ]
    for key, field, read in readers:
        value = getattr(written, key)
        if value is None:
            continue
        try:
            result[field] = read(value)
        except ValueError as error:
            report.error(f"`{key}` must be {error}", "tasks", task, "resources", key)
    if written.nodes is not None and written.nodes > 1:  # one is what nothing means
        result["nodes"] = written.nodes
    return Resources(**result)
