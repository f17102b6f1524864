"""What an index says of a cube, out of what the cube says of itself."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mlcube.zoo.entries import Entry, Task, TaskKind

__all__ = ["KINDS", "PLATFORMS", "accelerator", "kind_of", "latest", "links", "platforms", "safe_link", "task"]

PLATFORMS = ("docker", "podman", "singularity", "sandbox", "local", "kubernetes", "slurm", "ssh")
"""The order in which a page shows them."""

KINDS: dict[TaskKind, tuple[str, ...]] = {
    "prepare": ("prepare", "preprocess", "preprocessing", "download", "data", "dataset", "setup", "extract", "split"),
    "train": ("train", "training", "fit", "finetune", "tune", "pretrain", "learn"),
    "evaluate": ("evaluate", "evaluation", "eval", "test", "validate", "validation", "measure", "score", "benchmark"),
    "infer": ("infer", "inference", "predict", "prediction", "generate", "classify", "segment", "detect", "transcribe",
              "translate", "embed", "serve", "sample"),
    "export": ("export", "convert", "quantize", "compile", "package"),
}  # fmt: skip
"""The words of tasks' names that tell their kind."""
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
_WORDS = re.compile(r"[a-z]+")


def kind_of(name: str) -> TaskKind:
    """The kind of a task: that of the first word of its name that has one."""
    words = _WORDS.findall(name[:200].lower())
    return next((_KIND_OF[word] for word in words if word in _KIND_OF), "other")


def task(plain: Mapping[str, Any]) -> Task:
    """A task as `cube describe --json` shows it. Raises msgspec.ValidationError for what is none."""
    resources = plain.get("resources") or {}
    if not isinstance(resources, dict):
        raise msgspec.ValidationError("`resources` is a mapping")
    needs = {key: value for key, value in resources.items() if value is not None}
    if plain.get("network"):
        needs["network"] = plain["network"]
    secrets = plain.get("secrets") or ()
    if not isinstance(secrets, list | tuple):
        raise msgspec.ValidationError("`secrets` is a list")
    found = {
        "name": plain.get("name"),
        "description": plain.get("description"),
        "inputs": plain.get("inputs") or (),
        "outputs": plain.get("outputs") or (),
        "needs": needs,
        "secrets": [each.get("name") for each in secrets if isinstance(each, dict)],
    }
    understood = msgspec.convert(found, Task)
    return msgspec.structs.replace(understood, kind=kind_of(understood.name))


def platforms(*, image: bool, python: bool, singularity: bool = False) -> tuple[str, ...]:
    """The runners that can run a cube that has these."""
    found = set()
    if image or python:
        found |= set(PLATFORMS) - {"local"}
    if singularity:
        found |= {"singularity", "slurm", "ssh"}
    if python:
        found.add("local")
    return tuple(name for name in PLATFORMS if name in found)


def accelerator(tasks: Sequence[Task]) -> Any:
    """Whether any task needs a GPU."""
    return "gpu" if any(each.needs.get("gpus") not in (None, 0, [], ()) for each in tasks) else "none"


def links(given: Mapping[str, str]) -> dict[str, str]:
    """Those that a page may show."""
    return {name: url for name, url in sorted(given.items()) if safe_link(url)}


def safe_link(url: str) -> bool:
    """Whether a page may lead there: http, https and mailto, and nothing that only looks like one of them."""
    if not url.isprintable() or url != url.strip():
        return False
    try:
        parts = urlsplit(url)
        if parts.scheme == "mailto":
            return "@" in parts.path
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def latest(entries: Sequence[Entry]) -> list[tuple[Entry, ...]]:
    """The versions of each cube, which stand together in an index, newest first."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.name, []).append(entry)
    return [tuple(group) for group in groups.values()]
