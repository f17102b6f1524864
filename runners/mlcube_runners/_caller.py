"""Who calls on a host, and where what can always be deleted lies there."""

from typing import Any

from mlcube.runner import Answer, Fact

__all__ = ["caller_fact", "parse_caller"]

# The rules of mlcube.directories.cache(), asked of the host on which the plan will be performed.
_CALLER = """id -u && id -g && uname -n && case ${CUBE_CACHE_DIR-} in
?*) case $CUBE_CACHE_DIR in /*) echo "$CUBE_CACHE_DIR" ;; *) echo "$PWD/$CUBE_CACHE_DIR" ;; esac ;;
*) case ${XDG_CACHE_HOME-} in /*) echo "$XDG_CACHE_HOME/mlcube" ;; *) echo "$HOME/.cache/mlcube" ;; esac ;;
esac"""


def caller_fact() -> Fact:
    """The caller's ids, the machine's name, and the cache directory: `caller`."""
    return Fact(
        name="caller",
        argv=("sh", "-c", _CALLER),
        parse=parse_caller,
        environment=("USER", "HOME", "XDG_CACHE_HOME", "CUBE_CACHE_DIR"),
    )


def parse_caller(answer: Answer) -> dict[str, Any]:
    """The caller's ids, the machine's name, and the directory for what can always be deleted."""
    lines = answer.output.split("\n", 3)
    if answer.status != 0 or len(lines) < 4:
        return {}
    user, group, machine, cache = lines
    return {"user": int(user), "group": int(group), "machine": machine, "cache": cache.removesuffix("\n")}
