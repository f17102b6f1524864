"""What is asked of another host, all in one connection, and what the answers mean."""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mlcube.invocation import Invocation
from mlcube.runner import Answer, Fact, Host, Runner, Transferring
from mlcube_runners._cache import FIND_CACHE
from mlcube_runners._connection import Connection

__all__ = ["facts_for", "facts_here", "facts_there", "far_fact", "near_fact", "same_machines", "unreachable"]

_MARK = "\x1ecube-facts\x1e"
"""Stands between the answers; no command prints it."""

# A connection of the user's own is looked for each time, because only answers of commands that succeed are remembered.
_ASK_NEAR = f"""{FIND_CACHE}\
id -u; printf '%s\\n' "$(cache)"; uname -m
command -v rsync >/dev/null && echo yes || echo no
grep -qis controlpath ~/.ssh/config /etc/ssh/ssh_config "$1" || {{ echo no; exit 0; }}
shift; "$@" 2>/dev/null && echo yes || {{ echo no; exit 1; }}"""

_ASK_PLACE = f"""{FIND_CACHE}\
case ${{1:-}} in '') place=$(cache) ;; '~'* | /*) place=$(absolute "$1") ;; *) place=$home/$1 ;; esac
command -v rsync >/dev/null && echo yes || echo no
uname -m
printf '%s' "$place"
"""

_ASK = """\
exec 4>&1
worst=0
ask() {
  printf '%s' "$mark"
  errors=$("$@" 2>&1 >&4 4>&-) && status=0 || status=$?
  printf '%s%s%s%s' "$mark" "$errors" "$mark" "$status"
  [ $status -eq 0 ] || worst=1
}
"""

_HERE = "here."
_MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
"""What macOS and the BSDs call some."""

_SEND = 'script=$1; shift; printf %s "$script" | "$@"'

_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"host key verification failed|host identification has changed",
        "the key of `{host}` is not known, or is another one than before",
        "connect by hand once and compare the key: `{by_hand}`",
    ),
    (
        r"permission denied|too many authentication failures",
        "`{host}` does not let you in",
        "load your key into an agent (`ssh-add`), name it with `identity_file`, or connect by hand: `{by_hand}`",
    ),
    (
        r"could not resolve hostname",
        "no host is named `{host}`",
        "name it in `~/.ssh/config`, or correct `host` in the settings",
    ),
    (r"command not found|no such executable", "`ssh` is not installed", "install it: `apt install openssh-client`"),
)


def near_fact(connection: Connection) -> Fact:
    """Who calls, where the cache is, what machine this is, whether it has rsync and keeps connections open itself."""
    plain = (word for word in connection.options() if not word.startswith("-o"))
    check = ("ssh", *plain, "-O", "check", connection.host)
    return Fact(
        name="near",
        argv=("sh", "-c", _ASK_NEAR, "sh", connection.config or "/etc/ssh/ssh_config", *check),
        parse=_parse_near,
        environment=("HOME", "XDG_CACHE_HOME", "CUBE_CACHE_DIR"),
    )


def _parse_near(answer: Answer) -> dict[str, Any]:
    lines = answer.output.splitlines()
    if len(lines) < 5:
        return {}
    user, cache, machine, rsync, connected = lines[:5]
    found: dict[str, Any] = {"user": int(user), "cache": cache, "machine": machine}
    return {**found, "rsync": rsync == "yes", "connected": connected == "yes"}


def far_fact(connection: Connection, root: str | None, inner: Sequence[Fact]) -> Fact:
    """Where things can be kept there, and everything that the inner runner must know of that host."""
    place = ("sh", "-c", _ASK_PLACE, "sh", root or "")
    asked = [f"ask {shlex.join(argv)}" for argv in (place, *(fact.argv for fact in inner))]
    script = "\n".join([f"mark={shlex.quote(_MARK)}", _ASK + "\n".join(asked), 'printf %s "$mark"', "exit $worst", ""])
    shell = connection.script("")
    return Fact(
        name="far",
        argv=("sh", "-c", _SEND, "sh", script, *shell.argv[:-1], shell.argv[-1].replace("-euc", "-uc")),
        parse=_parser(tuple(inner)),
        environment=("SSH_AUTH_SOCK", "HOME"),
        files=("~/.ssh/config", "~/.ssh/known_hosts", *((connection.config,) if connection.config else ())),
    )


def _parser(inner: tuple[Fact, ...]) -> Callable[[Answer], dict[str, Any]]:
    def parse(answer: Answer) -> dict[str, Any]:
        parts = answer.output.split(_MARK)[1:-1]
        if len(parts) != 3 * (len(inner) + 1):
            return {"problem": answer.error.strip() or f"status {answer.status}"}
        answers = [Answer(int(parts[at + 2]), parts[at], parts[at + 1]) for at in range(0, len(parts), 3)]
        rsync, machine, root = [*answers[0].output.split("\n", 2), "", ""][:3]
        facts = {fact.name: fact.parse(said) for fact, said in zip(inner, answers[1:], strict=True)}
        return {"root": root, "rsync": rsync == "yes", "machine": machine, "facts": facts}

    return parse


def facts_here(inner: Runner) -> tuple[Fact, ...]:
    """What the inner runner must know of this host, under names of their own."""
    facts = inner.facts_here() if isinstance(inner, Transferring) else ()
    return tuple(msgspec.structs.replace(fact, name=f"{_HERE}{fact.name}") for fact in facts)


def facts_there(host: Host) -> Host:
    """What is known of the other host; nothing, when it was not reached."""
    there: Host = (host.get("far") or {}).get("facts") or {}
    return there


def facts_for(invocation: Invocation, host: Host) -> Host:
    """The same, and what its runner must know of this one."""
    here = {name.removeprefix(_HERE): fact for name, fact in host.items() if name.startswith(_HERE)}
    places = {"root": invocation.root, "workspace": invocation.workspace}
    return {**facts_there(host), "here": {**here, **places}}


def same_machines(host: Host) -> bool:
    """Whether what was made for this host runs on the other one, as far as is known."""
    machines = {(host.get(side) or {}).get("machine") or None for side in ("near", "far")} - {None}
    return len({_MACHINES.get(str(machine), machine) for machine in machines}) <= 1


def unreachable(connection: Connection, host: Host) -> tuple[str, str] | None:
    """Why the other host cannot be used, and what to do."""
    far = host.get("far") or {}
    if "root" in far:
        return None
    plain = [word for word in connection.options() if not word.startswith("-o")]
    by_hand = shlex.join(["ssh", *plain, connection.host])
    said = far.get("problem") or "nobody asked it"
    for pattern, message, hint in _REASONS:
        if re.search(pattern, said, re.IGNORECASE):
            return message.format(host=connection.host), hint.format(host=connection.host, by_hand=by_hand)
    return f"`{connection.host}` cannot be reached: {said.splitlines()[-1]}", f"see what `{by_hand}` says"
