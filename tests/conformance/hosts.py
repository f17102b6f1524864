"""Hosts that can do everything that a runner knows, as data: the ones for which the golden plans are rendered."""

from collections.abc import Mapping
from typing import Any

from tests.plans import (
    test_docker,
    test_kubernetes,
    test_local_plans,
    test_podman,
    test_sandbox,
    test_singularity_plans,
    test_slurm,
    test_ssh,
)

__all__ = ["capable"]

_ENGINES: Mapping[str, Mapping[str, Any]] = {
    "docker": test_docker.HOST,
    "kubernetes": test_kubernetes.HOST,
    "local": test_local_plans.WITH_UV,
    "podman": test_podman.HOST,
    "sandbox": test_sandbox.HOST,
    "singularity": test_singularity_plans.HOST,
}


def capable(name: str) -> Mapping[str, Any]:
    """The host for a runner or a composition, as `ssh(docker)`.

    >>> sorted(capable("slurm(docker)"))
    ['caller', 'docker', 'endpoint', 'slurm']
    """
    outer, _, inner = name.partition("(")
    match outer:
        case "ssh":
            near = capable(inner[:-1])
            here = {f"here.{name}": fact for name, fact in near.items()}
            return {"near": test_ssh.NEAR, "far": {**test_ssh.FAR, "facts": near}, **here}
        case "slurm":
            return {**capable(inner[:-1]), "slurm": test_slurm.ENFORCING}
        case engine:
            return _ENGINES[engine]
