"""What a run that has ended left: files, containers, jobs and processes that this machine can see."""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mlcube.asking import ask
from mlcube.invocation import Invocation
from mlcube.plan import Plan

__all__ = ["remains"]

_LISTING = {
    "docker": ("docker", "ps", "--all", "--quiet", "--filter=label=io.mlcube.run={}"),
    "podman": ("podman", "ps", "--all", "--quiet", "--filter=label=io.mlcube.run={}"),
    "kubectl": (
        *("kubectl", "get", "jobs,pods,secrets", "--all-namespaces", "--output=name", "--ignore-not-found"),
        "--selector=app.kubernetes.io/instance={}",
    ),
    "squeue": ("squeue", "--noheader", "--name=cube-{}"),
}
"""How to ask an engine, by the executable that a runner drives, for what it still has of a run."""
_SLOW = {"squeue", "apptainer", "kubectl"}
_SLOW_SECONDS = 120.0
"""A cluster takes a moment to note that a job has ended, and what serves a container's files to notice that it has;
longer on a machine that is busy with other tests, and where a node still looks for the host of an image."""


def remains(invocation: Invocation, plan: Plan, executables: Collection[str], variables: Collection[str]) -> list[str]:
    """What is still there; a while is given to what is about to go.

    `variables` are such as every process of the run has one of in its environment.
    """
    deadline = time.monotonic() + (_SLOW_SECONDS if _SLOW & set(executables) else 0.5)
    while (left := _remains(invocation, plan, executables, variables)) and time.monotonic() < deadline:
        time.sleep(0.25)
    return left


def _remains(invocation: Invocation, plan: Plan, executables: Collection[str], variables: Collection[str]) -> list[str]:
    scratch = Path(invocation.scratch)
    left = [str(path) for path in scratch.parent.glob(f"{scratch.name}*")]
    left += [path for path in _places(plan, invocation.run_id) if os.path.lexists(path)]
    for executable in _LISTING.keys() & set(executables):
        left += ask([word.format(invocation.run_id) for word in _LISTING[executable]]).output.split("\n")
    if "apptainer" in executables:
        left += _orphaned_mounts()
    return [found for found in (*left, *_processes({variable.encode() for variable in variables})) if found]


def _places(plan: Plan, run_id: str) -> list[str]:
    """What in the plan may be a path that the run's id ends: what is kept elsewhere lies under its name.

    Most of these are no paths; whether there is such a file tells.
    """
    found = dict.fromkeys(
        text[slash:end]
        for text in _texts(msgspec.to_builtins(plan))
        for end in _ends(text, run_id)
        for slash in range(max(0, end - 300), end)
        if text[slash] == "/" and text[slash:end].count("/") > 1
    )
    return list(found)


def _ends(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at + len(word)
        at = text.find(word, at + 1)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def _processes(variables: Collection[bytes]) -> list[str]:
    """Processes that have one of these in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone by now, or somebody else's
            if not set(variables).isdisjoint((process / "environ").read_bytes().split(b"\0")):
                found.append(f"process {process.name}")
    return found


def _orphaned_mounts() -> list[str]:
    """Processes of the caller that serve the files of a container whose engine has gone."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            _, name, rest = (process / "stat").read_text().replace("(", ")").split(")", 2)
            leader = rest.split()[3]
            ours = name in ("squashfuse", "squashfuse_ll", "fuse-overlayfs") and process.stat().st_uid == os.getuid()
            if ours and not Path("/proc", leader).exists():
                found.append(f"process {process.name} ({name})")
    return found
