"""What the Docker runner asks of a host, and what the answers mean."""

from typing import Any

import msgspec

from mlcube.runner import Answer, Fact, Host
from mlcube_runners._caller import caller_fact

__all__ = ["docker_facts", "is_remote", "unusable"]

_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
_FILES = ("~/.docker/config.json", "/var/run/docker.sock")
"""The socket changes when the daemon starts again, perhaps with other settings."""


def docker_facts(executable: str) -> tuple[Fact, ...]:
    """Who calls, what the daemon can do, and where it is."""
    return (
        caller_fact(),
        Fact(
            name="docker",
            argv=(executable, "info", "--format", "{{json .}}"),
            parse=parse_docker,
            environment=_VARIABLES,
            files=_FILES,
        ),
        Fact(
            name="endpoint",
            argv=(executable, "context", "inspect", "--format", "{{json .Endpoints.docker.Host}}"),
            parse=parse_endpoint,
            environment=_VARIABLES,
            files=_FILES,
        ),
    )


def parse_docker(answer: Answer) -> dict[str, Any]:
    """The daemon's abilities; or, without `server`, why it gives none."""
    if answer.status == 127:
        return {"problem": "missing"}
    try:
        found = msgspec.json.decode(answer.output)
    except msgspec.DecodeError:
        found = {}
    if not isinstance(found, dict) or not found.get("ServerVersion"):
        error = answer.error.strip() or "; ".join((isinstance(found, dict) and found.get("ServerErrors")) or ())
        denied = "permission denied" in error.lower()
        return {"problem": "denied" if denied else "down", "error": error.splitlines()[-1] if error else ""}
    client = found.get("ClientInfo") or {}
    security = " ".join(found.get("SecurityOptions") or ())
    plugins = [plugin for plugin in client.get("Plugins") or () if isinstance(plugin, dict)]
    return {
        "server": found["ServerVersion"],
        "client": client.get("Version"),
        "name": found.get("Name", ""),
        "system": found.get("OperatingSystem", ""),
        "rootless": "name=rootless" in security,
        "remapped": "name=userns" in security,
        "memory_limit": bool(found.get("MemoryLimit")),
        "swap_limit": bool(found.get("SwapLimit")),
        "cpu_limit": bool(found.get("CpuCfsQuota")),
        "cpu_set": bool(found.get("CPUSet")),
        "cpus": found.get("NCPU") or 0,
        "memory_bytes": found.get("MemTotal") or 0,
        "nvidia_runtime": "nvidia" in (found.get("Runtimes") or {}),
        "cdi_devices": sorted(
            device["ID"]
            for device in found.get("DiscoveredDevices") or ()
            if isinstance(device, dict) and str(device.get("ID", "")).startswith("nvidia.com/gpu=")
        ),
        "buildx": any(plugin.get("Name") == "buildx" and not plugin.get("Err") for plugin in plugins),
    }


def parse_endpoint(answer: Answer) -> str | None:
    """The address of the daemon, as in `unix:///var/run/docker.sock`; None when it cannot be told."""
    try:
        return msgspec.json.decode(answer.output, type=str) if answer.status == 0 else None
    except msgspec.DecodeError:
        return None


def unusable(executable: str, host: Host) -> tuple[str, str] | None:
    """Why no task can be run with Docker on that host, and what would make it so."""
    daemon, endpoint = host.get("docker") or {}, host.get("endpoint")
    at = f" at `{endpoint}`" if endpoint else ""
    match daemon.get("problem"):
        case "missing":
            return (
                f"`{executable}` is not installed",
                "install Docker (https://docs.docker.com/engine/install), or use another platform: `cube platforms`",
            )
        case "denied":
            return (
                f"you may not use the Docker daemon{at}",
                "join the group `docker`: `sudo usermod -aG docker $USER`, then log in again",
            )
        case "down" if endpoint is None or str(endpoint).startswith("unix://"):
            return (
                f"the Docker daemon{at} does not answer",
                "start it: `sudo systemctl start docker`, or Docker Desktop",
            )
        case "down":
            return (
                f"the Docker daemon{at} does not answer",
                "see `docker context ls` and $DOCKER_HOST for which daemon is used",
            )
    if is_remote(host):
        return (
            f"the Docker daemon{at} runs on `{daemon.get('name')}`, and cannot see the workspace here",
            "use a platform that carries the task there: `{runner: ssh, host: HOST, inner: docker}`",
        )
    return None


def is_remote(host: Host) -> bool:
    """Whether the daemon is on another machine than the one that holds the workspace."""
    endpoint = host.get("endpoint") or ""
    scheme, _, address = endpoint.partition("://")
    if scheme not in ("tcp", "http", "https", "ssh"):
        return False
    place = address.rpartition("@")[2].split("/")[0]
    name = place[1:].split("]")[0] if place.startswith("[") else place.split(":")[0]
    if name not in ("localhost", "::1") and not name.startswith("127."):
        return True
    # What listens on the loopback may be a tunnel.
    here = host.get("caller", {}).get("machine", "")
    return _first_label(host.get("docker", {}).get("name", "")) != _first_label(here)


def _first_label(name: str) -> str:
    return name.split(".", maxsplit=1)[0].lower()
