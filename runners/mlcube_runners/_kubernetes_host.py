"""What the Kubernetes runner asks of a host, and what the answers mean."""

from typing import Any

import msgspec

from mlcube.runner import Answer, Fact, Host

__all__ = ["cluster_fact", "unusable"]


def cluster_fact(kubectl: tuple[str, ...], kubeconfig: str | None) -> Fact:
    """Which cluster answers, and of which version: `kubernetes`."""
    return Fact(
        name="kubernetes",
        argv=(*kubectl, "version", "--output=json", "--request-timeout=15s"),
        parse=parse_cluster,
        environment=("KUBECONFIG", "HOME"),
        files=("~/.kube/config", *((kubeconfig,) if kubeconfig else ())),
    )


def parse_cluster(answer: Answer) -> dict[str, Any]:
    """The server's version; or why there is none."""
    if answer.status == 127:
        return {"problem": "missing"}
    try:
        found = msgspec.json.decode(answer.output)
    except msgspec.DecodeError:
        found = None
    server = found.get("serverVersion") if isinstance(found, dict) else None
    if answer.status != 0 or not isinstance(server, dict):
        lines = [line for line in answer.error.strip().splitlines() if line]
        return {"problem": lines[-1] if lines else f"status {answer.status}"}
    return {"version": str(server.get("gitVersion", ""))}


def unusable(host: Host) -> tuple[str, str] | None:
    """Why no task can be run there, and what would make it so."""
    match (host.get("kubernetes") or {}).get("problem"):
        case "missing":
            return "`kubectl` is not installed", "install it: https://kubernetes.io/docs/tasks/tools"
        case str(said):
            return f"the cluster does not answer: {said}", "see what `kubectl version` says, and `kubectl config view`"
    return None
