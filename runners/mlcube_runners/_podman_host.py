"""What the Podman runner asks of a host, and what the answers mean."""

from typing import Any

import msgspec

from mlcube.runner import Answer, Fact, Host
from mlcube_runners._caller import caller_fact

__all__ = ["podman_facts", "unusable"]

_INIT = """\
for place in "$(command -v catatonit)" /usr/libexec/podman/catatonit /usr/local/libexec/podman/catatonit \\
  /usr/lib/podman/catatonit /usr/local/lib/podman/catatonit
do [ -x "$place" ] && { echo catatonit; exit; }; done
for name in tini-static docker-init dumb-init; do command -v "$name" && exit; done; :"""
"""Podman's own init, which it finds by itself; else the path of another that needs no library of the image's."""

_GPU_FILES = """\
for file in /etc/cdi/*.yaml /etc/cdi/*.json /var/run/cdi/*.yaml /var/run/cdi/*.json; do
  grep -q nvidia.com/gpu "$file" 2>/dev/null && cat "$file" && printf '\\f'
done; :"""

_VARIABLES = ("CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINERS_CONF", "HOME", "XDG_RUNTIME_DIR", "USER")
_FILES = (
    "/etc/containers/containers.conf",
    "~/.config/containers/containers.conf",
    "/etc/containers/storage.conf",
    "~/.config/containers/storage.conf",
    "/etc/subuid",
)


def podman_facts(executable: str) -> tuple[Fact, ...]:
    """Who calls, what Podman can do for this user, and what else the host has for containers."""
    return (
        caller_fact(),
        Fact(
            name="podman",
            argv=(executable, "info", "--format", "json"),
            parse=parse_podman,
            environment=_VARIABLES,
            files=_FILES,
        ),
        Fact(name="init", argv=("sh", "-c", _INIT), parse=lambda answer: answer.output.strip() or None),
        Fact(name="cdi_gpus", argv=("sh", "-c", _GPU_FILES), parse=parse_gpus, files=("/etc/cdi", "/var/run/cdi")),
    )


def parse_podman(answer: Answer) -> dict[str, Any]:
    """Podman's abilities; or, without `version`, why it gives none."""
    if answer.status == 127:
        return {"problem": "missing"}
    try:
        found = msgspec.json.decode(answer.output)
        host, security = found["host"], found["host"]["security"]
        return {
            "version": found["version"]["Version"],
            "name": host["hostname"],
            "rootless": bool(security["rootless"]),
            "remote": bool(host.get("serviceIsRemote")),
            "selinux": bool(security.get("selinuxEnabled")),
            "controllers": sorted(host.get("cgroupControllers") or ()),
            "cgroups": host.get("cgroupVersion", ""),
            "cpus": host.get("cpus") or 0,
            "memory_bytes": host.get("memTotal") or 0,
            "mapped_ids": sum(entry.get("size", 0) for entry in (host.get("idMappings") or {}).get("uidmap") or ()),
        }
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        lines = [line for line in answer.error.splitlines() if line.strip()]
        return {"problem": "failing", "error": lines[-1].removeprefix("Error: ") if lines else ""}


def parse_gpus(answer: Answer) -> list[str]:
    """The names of the GPUs in CDI files, as in `nvidia.com/gpu=0`; `all`, which stands for every one, is left out."""
    names: list[str] = []
    for text in answer.output.split("\f"):
        if text.lstrip().startswith("{"):
            try:
                devices = msgspec.json.decode(text).get("devices") or ()
                names += [str(device["name"]) for device in devices]
            except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
                continue
        else:  # YAML as `nvidia-ctk cdi generate` writes it; a device's name is the only key `name` in it
            lines = (line.strip().removeprefix("- ") for line in text.splitlines())
            names += [line.partition(":")[2].strip().strip("\"'") for line in lines if line.startswith("name:")]
    return [name for name in dict.fromkeys(names) if name and name != "all"]


def unusable(executable: str, host: Host) -> tuple[str, str] | None:
    """Why no task can be run with Podman on that host, and what would make it so."""
    podman = host.get("podman") or {}
    match podman.get("problem"):
        case "missing":
            return (
                f"`{executable}` is not installed",
                "install Podman (https://podman.io/docs/installation), or use another platform: `cube platforms`",
            )
        case "failing":
            reason = f": {podman['error']}" if podman.get("error") else ""
            return f"`{executable}` does not work here{reason}", f"see what `{executable} info` says"
    here = host.get("caller", {}).get("machine", "")
    if podman.get("remote") and _first_label(podman.get("name", "")) != _first_label(here):
        return (
            f"this Podman runs containers on `{podman.get('name')}`, and cannot see the workspace here",
            "use a platform that carries the task there: `{runner: ssh, host: HOST, inner: podman}`",
        )
    return None


def _first_label(name: str) -> str:
    return name.split(".", maxsplit=1)[0].lower()
