"""What engines say beforehand of a host: each of their facts as a check, with what would mend it."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mlcube import site
from mlcube.checking import Check, no, not_asked, yes
from mlcube.errors import EngineUnavailable
from mlcube.runner import Answer, Fact, Host

__all__ = ["docker", "docker_questions", "local", "of_kind", "podman", "podman_questions", "sandbox", "singularity"]

_STOPS = EngineUnavailable.status
_TOOLKIT = "install the NVIDIA Container Toolkit, then `sudo nvidia-ctk runtime configure --runtime=docker`"
_GENERATE = "describe them: `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"
_DELEGATE = "https://rootlesscontaine.rs/getting-started/common/cgroup2"
_BATCH = "let a batch system enforce them: `{runner: slurm, inner: PLATFORM}`; or use another engine"

_STORE = f"""{site.ROOM}\
root=$("$1" info --format '{{{{.DockerRootDir}}}}' 2>/dev/null) && [ -n "$root" ] && look 'image store' "$root"; :"""


def docker_questions(executable: str) -> tuple[Fact, ...]:
    """The room where images lie, and the host itself."""
    store = Fact(name="store", argv=("sh", "-c", _STORE, "sh", executable), parse=site.parse_room)
    return store, site.SITE, site.GPUS


def podman_questions(executable: str) -> tuple[Fact, ...]:
    """The same; Podman says both in one answer."""
    store = Fact(name="store", argv=(executable, "info", "--format", "json"), parse=_parse_store)
    return store, site.SITE, site.GPUS


def _parse_store(answer: Answer) -> dict[str, dict[str, Any]]:
    """The room in Podman's store; nothing where an older one does not say."""
    try:
        store = msgspec.json.decode(answer.output)["store"]
        free = int(store["graphRootAllocated"]) - int(store["graphRootUsed"])
        place = {"path": store["graphRoot"], "writable": True, "free_bytes": free, "free_files": None}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return {}
    return {"image store": place}


def docker(executable: str, reason: tuple[str, str] | None, host: Host) -> tuple[Check, ...]:
    """Client, daemon, and what the daemon can do. `reason`: why it cannot be used."""
    daemon, endpoint = host.get("docker") or {}, host.get("endpoint")
    at = f" at `{endpoint}`" if endpoint else ""
    if daemon.get("problem") == "missing":
        return (_engine_missing(reason), not_asked("daemon", "there is no client to ask it with"))
    client = f"`{executable}`{_version(daemon.get('client'))} is installed"
    if reason:
        said = f" ({daemon['error']})" if daemon.get("error") else ""
        return yes("engine", client), no("daemon", f"{reason[0]}{said}", reason[1], stops=_STOPS)
    abilities = {"memory": "memory_limit", "processors": "cpu_limit", "cpu set": "cpu_set"}
    limits = {name: daemon.get(ability) for name, ability in abilities.items()}
    kind = "rootless " if daemon.get("rootless") else ""
    return (
        yes("engine", client),
        yes("daemon", f"{kind}Docker {daemon.get('server')} answers{at}"),
        _limits(limits, host, "delegate the cgroup controllers to the daemon: " + _DELEGATE),
        _docker_gpus(daemon, host),
        _default_shared_memory(),
        *site.room({"room": host.get("store")}),
    )


def podman(reason: tuple[str, str] | None, host: Host) -> tuple[Check, ...]:
    """The engine, and what it and its user may do."""
    podman = host.get("podman") or {}
    if podman.get("problem") == "missing":
        return (_engine_missing(reason),)
    rootless = podman.get("rootless", (host.get("site") or {}).get("user") != "0")
    needs = (site.user_namespaces(host), site.subordinate_ids(host), site.fuse(host)) if rootless else ()
    if reason:
        return no("engine", *reason, stops=_STOPS), *needs
    allowed = podman.get("controllers") or ()
    mend = "delegate the cgroup controllers to you: " + _DELEGATE
    limits = {"memory": "memory" in allowed, "processors": "cpu" in allowed, "cpu set": "cpuset" in allowed}
    return (
        yes("engine", f"{'rootless ' if rootless else ''}Podman {podman.get('version')}"),
        *needs,
        _limits(limits, host, mend),
        _gpus(host, host.get("cdi_gpus") or (), "Podman finds no CDI device of them", _GENERATE),
        _default_shared_memory(),
        *site.room({"room": host.get("store")}),
    )


def singularity(reason: tuple[str, str] | None, host: Host) -> tuple[Check, ...]:
    """The engine, what works with it, and where images could come from."""
    engine = host.get("singularity") or {}
    works, problem = engine.get("works") or (), engine.get("problem") or {}
    if "executable" not in engine:
        return (_engine_missing(reason),)
    version = str(engine.get("version", "")).replace(" version", "")
    needs = (site.user_namespaces(host), site.fuse(host))
    if reason:
        return no("engine", *reason, stops=_STOPS), *needs
    unpacked = None if "sif" in works else "images are unpacked before they run, because SIF files cannot be mounted"
    limits = {"memory": "memory" in works, "processors": "cpus" in works, "cpu set": "cpu_set" in works}
    why = next((problem[ability] for ability in ("memory", "cpus", "cpu_set") if ability in problem), "")
    devices = host.get("devices") or {}
    seen = (*(gpu["index"] for gpu in devices.get("nvidia") or ()), *("rocm",) * (devices.get("rocm") or 0))
    return (
        yes("engine", f"{version}{f'; {unpacked}' if unpacked else ''}"),
        *needs,
        _limits(limits, host, _BATCH, why.rpartition(": ")[2]),
        _network("network" in works, problem.get("network", "")),
        _gpus(host, seen, "the driver's device files or `nvidia-smi` are missing", "install the driver of the GPUs"),
        _builders((host.get("image_sources") or {}).get("builders") or ()),
    )


def sandbox(reason: tuple[str, str] | None, host: Host) -> tuple[Check, ...]:
    """Bubblewrap, and where images could come from."""
    found = host.get("sandbox") or {}
    if reason:
        if "failing" not in found:
            return (_engine_missing(reason),)
        return no("engine", *reason, stops=_STOPS), site.user_namespaces(host)
    sources = host.get("image_sources") or ()
    none = ("a sandbox cannot hand them on", "use `--platform docker`, `podman` or `singularity`")
    return (
        yes("engine", f"bubblewrap {found.get('version')} at `{found.get('executable')}`"),
        site.user_namespaces(host),
        _limits({}, host, _BATCH),
        _network(bool(found.get("network_namespace")), ""),
        no("gpus", *none) if (host.get("site_gpus") or {}).get("driver") else _no_gpu(),
        site.shared_memory(host),
        _builders(sources),
    )


def local(reason: tuple[str, str] | None, host: Host) -> tuple[Check, ...]:
    """Interpreters, and what makes environments."""
    if reason:
        return (no("engine", *reason, stops=_STOPS),)
    versions = dict.fromkeys(str(python.get("version")) for python in host.get("pythons") or ())
    fast = "uv makes environments" if host.get("uv") else "pip makes environments, which `pip install uv` does faster"
    gpus = [gpu["index"] for gpu in host.get("visible_gpus") or ()]
    return (
        yes("engine", f"Python {', '.join(versions)}; {fast}"),
        _limits({}, host, _BATCH),
        _network(bool(host.get("isolated_network")), ""),
        _gpus(host, gpus, "`nvidia-smi` shows none of them", "see what `nvidia-smi -L` says"),
        site.shared_memory(host),
    )


def _engine_missing(reason: tuple[str, str] | None) -> Check:
    return no("engine", *(reason or ("it is not installed", "install it")), stops=_STOPS)


def _version(said: Any) -> str:
    return f" {said}" if said else ""


def _limits(able: Mapping[str, Any], host: Host, mend: str, why: str = "") -> Check:
    """Which limits can be honoured; tasks that ask for others are refused."""
    version = (host.get("site") or {}).get("cgroups")
    can = [name for name, ability in able.items() if ability]
    cannot = [name for name in ("memory", "processors", "cpu set") if name not in can]
    of = f" (cgroup {version})" if version else ""
    if not cannot:
        return yes("cgroups", f"limits of {', '.join(can)} are enforced{of}")
    some = f"; those of {', '.join(can)} are" if can else ""
    return no("cgroups", f"limits of {', '.join(cannot)} cannot be enforced{some}{f': {why}' if why else ''}{of}", mend)


def _network(able: bool, why: str) -> Check:
    if able:
        return yes("network off", "tasks can be kept from the network")
    mend = "leave `network: none` out, or use another engine"
    return no("network off", f"tasks cannot be kept from the network{f': {why}' if why else ''}", mend)


def _no_gpu() -> Check:
    return no("gpus", "this machine has none", "use a platform on a machine that has; or run without: `--gpus 0`")


def _docker_gpus(daemon: Mapping[str, Any], host: Host) -> Check:
    devices = daemon.get("cdi_devices") or ()
    if daemon.get("nvidia_runtime") and (host.get("site_gpus") or {}).get("driver"):
        return yes("gpus", f"{_models(host)}, by the NVIDIA runtime")
    return _gpus(host, devices, "the daemon has neither the NVIDIA runtime nor CDI devices", _TOOLKIT)


def _gpus(host: Host, seen: Any, missing: str, mend: str) -> Check:
    """Whether tasks that ask for GPUs get them."""
    if seen:
        return yes("gpus", f"{_models(host)}: {', '.join(map(str, seen))}")
    found = host.get("site_gpus") or {}
    if not found.get("driver"):
        return _no_gpu()
    if found.get("visible") not in ([], ["all"]):
        chosen = found["visible"][0]
        return no("gpus", f"$CUDA_VISIBLE_DEVICES (`{chosen}`) hides them", "unset it, or name those that you may use")
    return no("gpus", missing, mend)


def _models(host: Host) -> str:
    found = (host.get("site_gpus") or {}).get("gpu") or ()
    names = dict.fromkeys(found)
    return ", ".join(f"{found.count(name)} {name}" for name in names) or "GPUs"


def _default_shared_memory() -> Check:
    return yes("shared memory", "what the task asks for; 64 MiB if it does not say")


def _builders(sources: Any) -> Check:
    """Who could have or fetch images."""
    if sources:
        return yes("image sources", f"registries, and what {' and '.join(f'`{name}`' for name in sources)} can have")
    mend = "where images are to be built, install Docker or Podman; else push them to a registry"
    return no("image sources", "only registries: nobody here builds images", mend)


def of_kind(checks: tuple[Check, ...], *left_out: str) -> Iterator[Check]:
    """Those of other names, which a placement knows better."""
    return (check for check in checks if check.name not in left_out)
