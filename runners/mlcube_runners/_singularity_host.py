"""What the Singularity runner asks of a host, mostly by trying, and what the answers mean."""

import os.path
from typing import Any

from mlcube.runner import Answer, Fact, Host
from mlcube_runners._cache import FIND_CACHE
from mlcube_runners._caller import caller_fact

__all__ = ["INHERITED", "facts", "facts_here", "parse_devices", "parse_engine", "parse_sources", "unusable"]

INHERITED = (
    "PATH", "HOME", "USER", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
    "APPTAINER_CONFIGDIR", "APPTAINER_TMPDIR", "SINGULARITY_CONFIGDIR", "SINGULARITY_TMPDIR",
)  # fmt: skip
"""What the engine itself needs of the caller's environment. The rest, as APPTAINER_BIND, could change the run."""

_ENGINE = (
    FIND_CACHE
    + """\
say() { printf '%s=%s\\n' "$1" "$2"; }
say user "$(id -u)"; say group "$(id -g)"
say cache "$(cache)"
say memory_kib "$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo 2>/dev/null)"
for name in $INHERITED; do
  eval "value=\\${$name-}"
  [ -z "$value" ] || say "environment.$name" "$value"
done
for executable; do command -v "$executable" >/dev/null 2>&1 && break; executable=; done
[ -n "$executable" ] || exit 0
say executable "$executable"
say version "$("$executable" --version 2>&1)"
help=$("$executable" exec --help 2>&1)
for flag in mount no-eval; do case $help in *"--$flag "*) say "flag.$flag" yes ;; esac; done
unshare --user --map-root-user true 2>/dev/null && say user_namespaces yes
[ -r /dev/fuse ] && [ -w /dev/fuse ] && say fuse yes
place=$(mktemp -d) || exit 0
trap 'chmod -R u+rwx "$place"; rm -rf "$place"' EXIT
mkdir "$place/root"
"$executable" build "$place/image.sif" "$place/root" >"$place/build" 2>&1
try() { # a container of an empty image has worked when it misses nothing but the program
  name=$1; shift
  "$executable" exec --containall --cleanenv --no-eval "$@" cube-trial >"$place/$name" 2>&1 </dev/null
  if grep -q 'Converting SIF' "$place/$name"; then say "problem.$name" 'SIF files cannot be mounted'
  elif grep -q '"cube-trial": executable file not found' "$place/$name"; then say "works.$name" yes
  else say "problem.$name" "$(grep -E 'FATAL|ERROR' "$place/$name" | tail -n 1)"; fi
}
try sif "$place/image.sif"
image=$place/image.sif
grep -q '"cube-trial": executable file not found' "$place/sif" && ! grep -q 'Converting SIF' "$place/sif" || {
  image=$place/root
  try unpacked "$image"
}
try overlay --writable-tmpfs "$image" &
try network --net --network none "$image" &
try memory --memory 64M "$image" &
try cpus --cpus 0.5 "$image" &
try cpu_set --cpuset-cpus 0 "$image" &
wait
"""
)

_HERE = (
    FIND_CACHE
    + """\
printf 'cache=%s\\n' "$(cache)"
for executable; do command -v "$executable" >/dev/null 2>&1 && { printf 'executable=%s\\n' "$executable"; break; }; done
:
"""
)

_SOURCES = """\
for builder in docker podman; do
  "$builder" image ls --quiet >/dev/null 2>&1 </dev/null && echo "$builder"
done
for python; do
  "$python" -c 'import spython.client' >/dev/null 2>&1 && { echo "spython=$python"; break; }
done
:
"""

_DEVICES = """\
printf '%s\\n' "${CUDA_VISIBLE_DEVICES-all}"
if [ -c /dev/nvidiactl ]; then nvidia-smi --query-gpu=index,uuid --format=csv,noheader 2>/dev/null; fi
[ ! -c /dev/kfd ] || for card in /dev/dri/renderD*; do [ ! -c "$card" ] || echo rocm; done
:
"""


def facts(executables: tuple[str, ...]) -> tuple[Fact, ...]:
    """The engine and what works with it, where images could come from, and GPUs."""
    return (
        Fact(
            name="singularity",
            argv=("env", f"INHERITED={' '.join(INHERITED)}", "sh", "-c", _ENGINE, "sh", *executables),
            parse=parse_engine,
            environment=(*INHERITED, "XDG_CACHE_HOME", "CUBE_CACHE_DIR", "PWD"),
            files=("/etc/apptainer/apptainer.conf", "/etc/singularity/singularity.conf"),
        ),
        _sources_fact(),
        Fact(name="devices", argv=("sh", "-c", _DEVICES), parse=parse_devices, environment=("CUDA_VISIBLE_DEVICES",)),
    )


def facts_here(executables: tuple[str, ...]) -> tuple[Fact, ...]:
    """Who calls, whether there is an engine to convert images with, and where they could come from."""
    engine = Fact(
        name="singularity",
        argv=("sh", "-c", _HERE, "sh", *executables),
        parse=parse_engine,
        environment=("HOME", "XDG_CACHE_HOME", "CUBE_CACHE_DIR", "PWD"),
    )
    return caller_fact(), engine, _sources_fact()


def _sources_fact() -> Fact:
    import sys

    return Fact(
        name="image_sources",
        argv=("sh", "-c", _SOURCES, "sh", sys.executable, "python3"),
        parse=parse_sources,
        environment=("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST", "XDG_RUNTIME_DIR"),
        files=("/var/run/docker.sock",),
    )


def parse_engine(answer: Answer) -> dict[str, Any]:
    """Who calls, with what environment; which engine there is, what works with it and why the rest does not."""
    found: dict[str, Any] = {"environment": {}, "flag": {}, "works": [], "problem": {}}
    for line in answer.output.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section == "works":
            found["works"] = sorted([*found["works"], name])
        elif name and section in found:
            found[section][name] = value.removeprefix("FATAL:").strip()
        elif key in ("user", "group", "memory_kib") and value.isdecimal():
            found[key] = int(value)
        elif key == "cache":
            found[key] = os.path.normpath(value)
        elif key in ("executable", "version", "user_namespaces", "fuse"):
            found[key] = value
    return found


def parse_sources(answer: Answer) -> dict[str, Any]:
    """Engines that hold or build images, in the order in which they are asked; the Python that has spython."""
    lines = answer.output.splitlines()
    pythons = [line.partition("=")[2] for line in lines if line.startswith("spython=")]
    return {"builders": [line for line in lines if "=" not in line], "spython": pythons[0] if pythons else None}


def parse_devices(answer: Answer) -> dict[str, Any]:
    """The GPUs that the caller may use: a batch system says so in CUDA_VISIBLE_DEVICES."""
    first, *lines = answer.output.splitlines() or [""]
    rows = [line.split(", ") for line in lines]
    gpus = [{"index": row[0], "uuid": row[1]} for row in rows if len(row) == 2 and row[0].isdecimal()]
    allowed = [name.strip() for name in first.split(",")]
    if first != "all":
        gpus = [gpu for gpu in gpus if gpu["index"] in allowed or gpu["uuid"] in allowed]
    return {"nvidia": gpus, "rocm": lines.count("rocm")}


def unusable(executables: tuple[str, ...], host: Host) -> tuple[str, str] | None:
    """Why no task can be run there, and what would make it so."""
    engine = host.get("singularity") or {}
    if "executable" not in engine:
        names = " nor ".join(f"`{name}`" for name in executables)
        missing = f"neither {names} is installed" if len(executables) > 1 else f"{names} is not installed"
        return (
            missing,
            "install Apptainer (https://apptainer.org), or on a cluster perhaps: `module load apptainer`",
        )
    unknown = [f"`--{flag}`" for flag in ("mount", "no-eval") if flag not in engine["flag"]]
    if unknown:
        return (
            f"`{engine['version']}` does not know {' and '.join(unknown)}",
            "tasks need Apptainer 1.1, SingularityCE 3.10, or newer",
        )
    if not {"sif", "unpacked"} & set(engine["works"]):
        problem = engine["problem"].get("unpacked") or engine["problem"].get("sif") or "it does not say why"
        return f"`{engine['executable']}` cannot start a container here: {problem}", _remedy(engine)
    return None


def _remedy(engine: dict[str, Any]) -> str:
    if "user_namespaces" not in engine:
        return (
            "you may make no user namespaces here: ask the administrators for them "
            "(`sysctl user.max_user_namespaces=15000`), or for the package `apptainer-suid`"
        )
    return f"try it by hand: `{engine['executable']} exec docker://debian true`"
