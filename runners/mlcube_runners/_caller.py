"""Who calls on a host, and where what can always be deleted lies there."""

import os.path
from typing import Any

from mlcube.runner import Answer, Fact
from mlcube_runners._cache import FIND_CACHE

__all__ = ["caller_fact", "parse_caller"]

_CALLER = f"{FIND_CACHE}id -u && id -g && uname -n && cache"


def caller_fact() -> Fact:
    """The caller's ids, the machine's name, and the cache directory: `caller`."""
    return Fact(
        name="caller",
        argv=("sh", "-c", _CALLER),
        parse=parse_caller,
        environment=("USER", "HOME", "XDG_CACHE_HOME", "CUBE_CACHE_DIR", "PWD"),
    )


def parse_caller(answer: Answer) -> dict[str, Any]:
    """The caller's ids, the machine's name, and the directory for what can always be deleted."""
    lines = answer.output.split("\n", 3)
    if answer.status != 0 or len(lines) < 4:
        return {}
    user, group, machine, cache = lines
    return {"user": int(user), "group": int(group), "machine": machine, "cache": os.path.normpath(cache.rstrip("\n"))}
