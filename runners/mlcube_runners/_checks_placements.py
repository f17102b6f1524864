"""What placements say beforehand: the way to another host or into a queue, and what is asked beyond it."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mlcube import site
from mlcube.checking import Check, Checking, no, not_asked, yes
from mlcube.errors import EngineUnavailable
from mlcube.runner import Answer, Fact, Host, Runner, Transfer
from mlcube_runners._cache import FIND_CACHE
from mlcube_runners._checks import of_kind

__all__ = ["at", "elsewhere", "far_room", "inner_checks", "sent_fact", "slurm", "slurm_questions", "ssh"]

_STOPS = EngineUnavailable.status

_ROOM = f"""{FIND_CACHE}{site.ROOM}\
case ${{1:-}} in '') place=$(cache) ;; '~'* | /*) place=$(absolute "$1") ;; *) place=$home/$1 ;; esac
look root "$place"
look 'temporary files' "${{TMPDIR:-/tmp}}"
"""
_LIVE = ("alloc", "idle", "mix", "comp", "resv", "plnd")
"""Beginnings of the states of nodes that run jobs, or will."""


def far_room(root: str | None) -> Fact:
    """How much room there is on the other host, asked there."""
    return Fact(name="room", argv=("sh", "-c", _ROOM, "sh", root or ""), parse=site.parse_room)


def inner_checks(inner: Runner, host: Host) -> tuple[Check, ...]:
    """What the inner runner says, as well as it can."""
    if isinstance(inner, Checking):
        return inner.checks(host)
    reason = inner.unusable(host)
    return (no("engine", *reason, stops=_STOPS) if reason else yes("engine", "it can be used"),)


def elsewhere(fact: Fact, reached: Callable[..., tuple[str, ...]], name: str) -> Fact:
    """The same question, asked on another host."""

    def parse(answer: Answer) -> Any:
        found = fact.parse(answer)
        return at(found, name) if isinstance(found, Check) else found

    return Fact(name=fact.name, argv=reached(*fact.argv), parse=parse)


def sent_fact(transfer: Transfer, name: str) -> Fact:
    """Whether this host has the image, which then would be sent."""

    def parse(answer: Answer) -> Check:
        if answer.status == 0:
            return yes("image here", f"`{transfer.name}` is here, and is sent to `{name}`")
        mend = "make it: `cube configure` on a platform of this machine" if transfer.alone else None
        return no("image here", f"`{transfer.name}` is not on this machine", mend)

    return Fact(name="image here", argv=transfer.here.argv, parse=parse)


def at(check: Check, name: str) -> Check:
    """A check of another host; one that was asked beyond that keeps its own."""
    return msgspec.structs.replace(check, at=check.at or name)


def ssh(name: str, reason: tuple[str, str] | None, host: Host, same: bool) -> tuple[Check, ...]:
    """Whether the other host is reached; what else is needed for that. `reason`: why it is not reached."""
    if reason:
        return (no("connection", *reason, stops=_STOPS),)
    near, far = host.get("near") or {}, host.get("far") or {}
    lacking = [side for side, known in (("here", near), ("there", far)) if not known.get("rsync")]
    if lacking:
        places = " nor ".join(lacking)
        detail = f"it is {'neither ' if len(lacking) > 1 else 'not '}{places}: `tar` is used, which cannot resume"
        rsync = no("rsync", detail, "install it: `apt install rsync`")
    else:
        rsync = yes("rsync", "at both ends: what was cut is resumed")
    machines = f"{near.get('machine') or 'unknown'} here, {far.get('machine') or 'unknown'} there"
    other = no("machine", machines, "images made here do not run there: use one that its registry has for both")
    return yes("connection", f"`{name}` is reached"), rsync, yes("machine", machines) if same else other


def slurm_questions(argv: Sequence[str]) -> tuple[Fact, ...]:
    """Partitions and accounting; and the scheduler is shown a job that it is told not to run."""
    return (
        Fact(name="partitions", argv=("sinfo", "--noheader", "--format=%P|%a|%l|%t|%D"), parse=parse_partitions),
        Fact(name="accounting", argv=("scontrol", "show", "config"), parse=parse_accounting),
        Fact(name="submission", argv=("sbatch", "--test-only", *argv, "--wrap=true"), parse=parse_submission),
    )


def parse_partitions(answer: Answer) -> dict[str, dict[str, Any]]:
    """What `sinfo` says, by partition: whether it takes jobs, its time limit, and how many nodes could run one."""
    found: dict[str, dict[str, Any]] = {}
    for line in answer.output.splitlines():
        words = line.split("|")
        if len(words) != 5 or not words[4].isdecimal():
            continue
        name, available, limit, state, nodes = words
        unknown = {"default": False, "up": available == "up", "limit": limit, "nodes": 0}
        entry = found.setdefault(name.rstrip("*"), unknown)
        entry["default"] = entry["default"] or name.endswith("*")
        # A sign at the end says that the node does not answer, or is being switched on.
        entry["nodes"] += int(nodes) if state.startswith(_LIVE) and not state.endswith("*") else 0
    return found


def parse_accounting(answer: Answer) -> dict[str, str]:
    """Where accounts are kept, and whether they must be given."""
    pairs = (line.partition("=") for line in answer.output.splitlines())
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    storage = settings.get("AccountingStorageType", "").rpartition("/")[2]
    return {"storage": storage, "enforce": settings.get("AccountingStorageEnforce", "none")}


def parse_submission(answer: Answer) -> dict[str, Any]:
    """What `sbatch --test-only` says; it names when the job would start, or why it would not."""
    lines = [line.removeprefix("sbatch: ") for line in answer.error.splitlines() if line.strip()]
    accepted = answer.status == 0
    said = [line for line in lines if line.startswith("Job ") == accepted]
    return {"accepted": accepted, "said": (said or lines or [f"status {answer.status}"])[0]}


def slurm(
    partition: str | None, reason: tuple[str, str] | None, host: Host, inner: tuple[Check, ...]
) -> tuple[Check, ...]:
    """The scheduler, then what the inner runner says of the host that submits. `reason`: why it is not usable."""
    found = host.get("slurm") or {}
    if found.get("problem"):
        return (no("scheduler", *(reason or (str(found["problem"]), None)), stops=_STOPS),)
    return (
        yes("scheduler", f"Slurm {found.get('version', '')}, cluster `{found.get('cluster', '')}`"),
        _partition(partition, host.get("partitions") or {}),
        _accounting(host.get("accounting") or {}),
        _submission(host.get("submission") or {}),
        _limits(found),
        _gpus(host.get("gpus_per_node")),
        *of_kind(inner, "cgroups", "gpus", "shared memory"),
    )


def _partition(name: str | None, known: dict[str, dict[str, Any]]) -> Check:
    chosen = name or next((each for each, entry in known.items() if entry["default"]), None)
    listed = ", ".join(f"`{each}`" for each in known) or "none"
    if chosen is None:
        mend = "name one: `partition` of the platform"
        return no("partition", f"the cluster has no default; there are {listed}", mend, stops=_STOPS)
    parts = [known[each] for each in chosen.split(",") if each in known]
    if not parts:
        mend = "correct `partition` of the platform"
        return no("partition", f"there is no partition `{chosen}`; there are {listed}", mend, stops=_STOPS)
    open_ = [entry for entry in parts if entry["up"]]
    if not open_:
        return no("partition", f"`{chosen}` takes no jobs now", "name another, or ask the administrators", stops=_STOPS)
    nodes = sum(entry["nodes"] for entry in open_)
    limit = ", ".join(dict.fromkeys(entry["limit"] for entry in open_))
    if not nodes:
        return no("partition", f"no node of `{chosen}` can run a job now: it would wait", "see why: `sinfo -R`")
    return yes("partition", f"`{chosen}`, {nodes} {'node' if nodes == 1 else 'nodes'}, time limit {limit}")


def _accounting(found: dict[str, str]) -> Check:
    storage, enforce = found.get("storage"), found.get("enforce", "none")
    if storage in ("", None):
        return not_asked("accounting", "`scontrol` does not say")
    if storage == "none":
        return no("accounting", "the cluster keeps none, and cube does not need it")
    must = "" if enforce == "none" else f"; it enforces {enforce}"
    return yes("accounting", f"kept by {storage}{must}")


def _submission(found: dict[str, Any]) -> Check:
    if not found:
        return not_asked("submission", "`sbatch` gave no answer")
    if found["accepted"]:
        return yes("submission", f"a job would be taken ({found['said']})")
    said = str(found["said"]).removeprefix("error: ").removeprefix("allocation failure: ")
    mend = "correct `partition`, `account`, `qos`, `time`, `nodes` or `gres` of the platform"
    return no("submission", f"a job would not be taken: {said[:1].lower()}{said[1:]}", mend, stops=_STOPS)


def _limits(found: dict[str, Any]) -> Check:
    able = {"memory": found.get("memory"), "processors": found.get("cpus")}
    can, cannot = [name for name in able if able[name]], [name for name in able if not able[name]]
    if not cannot:
        return yes("cgroups", "Slurm enforces limits of memory and processors")
    mend = "an administrator can have them enforced: `TaskPlugin=task/cgroup`, `ConstrainRAMSpace`, `ConstrainCores`"
    also = f"; those of {can[0]} it does" if can else ""
    return no("cgroups", f"Slurm does not enforce limits of {' and '.join(cannot)}{also}", mend)


def _gpus(most: Any) -> Check:
    if most is None:
        return not_asked("gpus", "`sinfo` does not say")
    if not most:
        return no("gpus", "no node has any", "run without: `--gpus 0`")
    return yes("gpus", f"up to {most} on a node")
