"""What any host can be asked, whatever the runner: namespaces, FUSE, GPUs, shared memory, room on disk, quota."""

import re
from collections.abc import Mapping
from typing import Any

from mlcube.checking import Check, no, not_asked, yes
from mlcube.errors import PreparationFailed
from mlcube.runner import Answer, Fact, Host

__all__ = [
    "GPUS",
    "QUOTA",
    "ROOM",
    "SITE",
    "amount",
    "fuse",
    "parse_room",
    "quota",
    "room",
    "room_fact",
    "shared_memory",
    "subordinate_ids",
    "user_namespaces",
]

LITTLE = 1 << 30
"""With less room than this a run may well end half-way."""
_NOTHING = 16 << 20
"""With less than this none begins."""
_SMALL_SHARED_MEMORY = 64 << 20
"""What container engines give when nobody asks."""

_SITE = """\
say() { printf '%s=%s\\n' "$1" "$2"; }
user=$(id -u) name=$(id -un 2>/dev/null)
say user "$user"; say name "$name"
if command -v unshare >/dev/null 2>&1; then
  if said=$(unshare --user --map-root-user true 2>&1); then say namespaces yes
  else say namespaces "no: $(echo "$said" | tail -n 1)"; fi
fi
for file in kernel/unprivileged_userns_clone user/max_user_namespaces kernel/apparmor_restrict_unprivileged_userns; do
  [ ! -r "/proc/sys/$file" ] || say "${file#*/}" "$(cat "/proc/sys/$file")"
done
sum='$1 == user || $1 == name { count += $3 } END { print count + 0 }'
for file in subuid subgid; do
  say "$file" "$(awk -F: -v user="$user" -v name="$name" "$sum" "/etc/$file" 2>/dev/null)"
done
for program in newuidmap newgidmap fusermount3 fusermount; do
  ! command -v "$program" >/dev/null 2>&1 || say "$program" yes
done
if [ ! -e /dev/fuse ]; then say fuse absent
elif [ -r /dev/fuse ] && [ -w /dev/fuse ]; then say fuse yes
else say fuse denied; fi
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then say cgroups v2
elif [ -d /sys/fs/cgroup/memory ] || [ -d /sys/fs/cgroup/cpu ]; then say cgroups v1; fi
df -Pk /dev/shm 2>/dev/null | awk 'END { if (NR > 1) printf "shared_memory=%s %s\\n", $2, $4 }'
"""

_GPUS = """\
printf 'visible=%s\\n' "${CUDA_VISIBLE_DEVICES-all}"
[ ! -e /dev/nvidiactl ] || echo driver=nvidia
[ ! -e /dev/kfd ] || echo driver=rocm
ls /etc/cdi/* /var/run/cdi/* 2>/dev/null | sed 's/^/cdi=/'
nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | sed 's/^/gpu=/'; :
"""

ROOM = """\
look() {
  path=$2
  while [ ! -e "$path" ] && [ "$path" != / ]; do path=$(dirname "$path"); done
  [ -w "$path" ] && may=yes || may=no
  printf '%s\\t%s\\t%s\\t%s\\t%s\\n' "$1" "$2" "$may" \\
    "$(df -Pk "$path" 2>/dev/null | awk 'END { if (NR > 1) print $4 }')" \\
    "$(df -Pi "$path" 2>/dev/null | awk 'END { if (NR > 1 && $2 > 0) print $4 }')"
}
"""
"""A function for a script: NAME PATH, how much room there is where a path lies, or will lie."""


def _pairs(answer: Answer) -> dict[str, str]:
    pairs = (line.partition("=") for line in answer.output.splitlines())
    return {key: value for key, separator, value in pairs if separator}


def _parse_gpus(answer: Answer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"visible": [], "driver": [], "cdi": [], "gpu": []}
    for line in answer.output.splitlines():
        key, _, value = line.partition("=")
        if key in found:
            found[key].append(value)
    return found


def parse_quota(answer: Answer) -> list[dict[str, Any]]:
    """What `quota -w` says: used blocks of a KiB and files, with the limits; 0 is no limit."""
    found = []
    for line in answer.output.splitlines():
        words = line.split()
        numbers = [word.rstrip("*") for word in words[1:] if re.fullmatch(r"[0-9]+\*?", word)]
        if len(words) < 7 or len(numbers) < 6:
            continue
        # A grace time stands between them where one is running, and is no plain number.
        used, soft, hard, files, files_soft, files_hard = (int(number) for number in numbers[:6])
        limits = {"used_kib": used, "limit_kib": hard or soft, "files": files, "limit_files": files_hard or files_soft}
        found.append({"place": words[0], **limits})
    return found


SITE = Fact(name="site", argv=("sh", "-c", _SITE), parse=_pairs)
GPUS = Fact(name="site_gpus", argv=("sh", "-c", _GPUS), parse=_parse_gpus)
QUOTA = Fact(name="quota", argv=("quota", "-w"), parse=parse_quota)


def room_fact(places: Mapping[str, str]) -> Fact:
    """How much room there is in each of the places, by name: `room`."""
    script = f'{ROOM}while [ $# -gt 0 ]; do look "$1" "$2"; shift 2; done'
    words = (word for pair in places.items() for word in pair)
    return Fact(name="room", argv=("sh", "-c", script, "sh", *words), parse=parse_room)


def parse_room(answer: Answer) -> dict[str, dict[str, Any]]:
    """What `look` printed, by name; what it could not find out is None."""
    rows = (line.split("\t") for line in answer.output.splitlines())
    return {
        row[0]: {
            "path": row[1],
            "writable": row[2] == "yes",
            "free_bytes": int(row[3]) << 10 if row[3].isdecimal() else None,
            "free_files": int(row[4]) if row[4].isdecimal() else None,
        }
        for row in rows
        if len(row) == 5
    }


def amount(size: float) -> str:
    """Bytes for people.

    >>> amount(63 << 30), amount(1536 << 20), amount(420 << 10)
    ('63 GiB', '1.5 GiB', '420 KiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


# Each of the following reads one check out of the answers.


def user_namespaces(host: Host) -> Check:
    """Whether the caller may make them, found out by trying."""
    site = host.get("site") or {}
    name, said = "user namespaces", site.get("namespaces")
    if said is None:
        return not_asked(name, "`unshare` is not there to try it with", "install util-linux")
    if said == "yes":
        return yes(name, "you may make them")
    if site.get("unprivileged_userns_clone") == "0":
        mend = "an administrator can allow it: `sysctl kernel.unprivileged_userns_clone=1`"
        return no(name, "only root may make them (kernel.unprivileged_userns_clone is 0)", mend)
    if site.get("max_user_namespaces") == "0":
        mend = "an administrator can allow it: `sysctl user.max_user_namespaces=15000`"
        return no(name, "nobody may make them (user.max_user_namespaces is 0)", mend)
    if site.get("apparmor_restrict_unprivileged_userns") == "1":
        mend = "an administrator can allow it: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        return no(name, "AppArmor keeps programs from making them", mend)
    said = str(said).removeprefix("no: ")
    return no(name, f"the kernel refuses: {said}", "inside a container, start that one with user namespaces allowed")


def subordinate_ids(host: Host) -> Check:
    """Whether the caller has the further user and group ids that images with several users need."""
    site = host.get("site") or {}
    name, user = "subordinate ids", site.get("name") or site.get("user") or "you"
    if site.get("user") == "0":
        return yes(name, "you are root, and need none")
    missing = [f"/etc/{file}" for file in ("subuid", "subgid") if site.get(file, "0") in ("", "0")]
    if missing:
        give = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        mend = f"`{give}`, then `podman system migrate`"
        return no(name, f"`{user}` has none in {' and '.join(missing)}", mend)
    programs = [program for program in ("newuidmap", "newgidmap") if program not in site]
    if programs:
        lacking = " and ".join(f"`{program}`" for program in programs)
        return no(name, f"{lacking} to map them with is not installed", "install it: `apt install uidmap`")
    return yes(name, f"{site['subuid']} users, {site['subgid']} groups")


def fuse(host: Host) -> Check:
    """Whether file systems can be mounted without root."""
    site = host.get("site") or {}
    match site.get("fuse"):
        case "yes" if "fusermount3" in site or "fusermount" in site or site.get("user") == "0":
            return yes("fuse", "/dev/fuse can be used")
        case "yes":
            return no("fuse", "/dev/fuse is there, and `fusermount3` is not", "install it: `apt install fuse3`")
        case "denied":
            return no("fuse", "you may not use /dev/fuse", "an administrator can allow it: `chmod 666 /dev/fuse`")
        case "absent":
            mend = "an administrator can load it: `modprobe fuse`; a container needs `--device /dev/fuse`"
            return no("fuse", "there is no /dev/fuse", mend)
        case _:
            return not_asked("fuse", "the host gave no answer")


def shared_memory(host: Host) -> Check:
    """Whether /dev/shm is there, and how large it is."""
    name, said = "shared memory", (host.get("site") or {}).get("shared_memory")
    if not said:
        mend = "mount it: `mount -t tmpfs -o mode=1777 tmpfs /dev/shm`"
        return no(name, "there is no /dev/shm, which loaders of data in several processes need", mend)
    size, free = (int(word) << 10 if word.isdecimal() else 0 for word in said.split())
    if free < _SMALL_SHARED_MEMORY:
        mend = "remove what lies in /dev/shm, or make it larger: `mount -o remount,size=8g /dev/shm`"
        return no(name, f"{amount(free)} of {amount(size)} are free in /dev/shm", mend)
    return yes(name, f"{amount(free)} are free in /dev/shm")


def room(host: Host, needed_bytes: int | None = None) -> tuple[Check, ...]:
    """Whether there is room in each of the places; `needed_bytes` is what the cube wants free in its workspace."""
    return tuple(_room(name, place, needed_bytes) for name, place in (host.get("room") or {}).items())


def _room(name: str, place: Mapping[str, Any], needed_bytes: int | None) -> Check:
    path, free, files = place["path"], place["free_bytes"], place["free_files"]
    elsewhere = _ELSEWHERE.get(name, "")
    if free is None:
        return not_asked(name, f"nobody can say how much is free at {path}")
    if not place["writable"] and name != "image store":
        mend = f"{elsewhere}, or get leave to write there".removeprefix(", or ")
        return no(name, f"you may not write to {path}", mend, stops=PreparationFailed.status)
    needed = (needed_bytes or 0) if name == "workspace" else 0
    mend = f"remove what is not needed there{f'; or {elsewhere}' if elsewhere else ''}"
    if free < max(needed, LITTLE):
        wanted = f", and the cube wants {amount(needed)}" if free < needed else ""
        stops = PreparationFailed.status if free < max(needed, _NOTHING) else None
        return no(name, f"{amount(free)} are free at {path}{wanted}", mend, stops=stops)
    if files is not None and files < 1000:
        return no(name, f"{files} files more can be made at {path}", mend, stops=PreparationFailed.status)
    return yes(name, f"{amount(free)} are free at {path}")


_ELSEWHERE = {
    "workspace": "use another: `--workspace DIR`",
    "cache": "use another: `export CUBE_CACHE_DIR=DIR`; what lies in it can always be deleted",
    "state": "use another: `export CUBE_STATE_DIR=DIR`; old runs go with `cube runs remove ID`",
    "temporary files": "use another: `export TMPDIR=DIR`",
    "image store": "remove images that nobody uses, as `docker image prune` or `podman image prune` does",
    "root": "use another: `root` of the platform",
}


def quota(host: Host) -> Check:
    """Whether the caller's quota is used up, where `quota` knows of one. Others show in what is free."""
    found = host.get("quota")
    if not found:
        return not_asked("quota", "`quota` knows of none; where the file system has its own, see what is free")
    shown = []
    for each in found:
        used, limit, files, most = (each[key] for key in ("used_kib", "limit_kib", "files", "limit_files"))
        mend = f"remove what you no longer need on {each['place']}, or ask for more"
        if limit and used >= limit:
            return no("quota", f"{amount(used << 10)} of your {amount(limit << 10)} on {each['place']} are used", mend)
        if most and files >= most:
            return no("quota", f"{files} of your {most} files on {each['place']} are used", mend)
        limits = [*([f"{amount((limit - used) << 10)}"] if limit else []), *([f"{most - files} files"] if most else [])]
        shown.append(
            f"{' and '.join(limits)} are left on {each['place']}" if limits else f"no limit on {each['place']}"
        )
    return yes("quota", ", ".join(shown))
