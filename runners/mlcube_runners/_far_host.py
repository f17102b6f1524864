"""What is asked of another host, all in one connection, and what the answers mean."""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from mlcube.runner import Answer, Fact, Host
from mlcube_runners._cache import FIND_CACHE
from mlcube_runners._connection import Connection

__all__ = ["facts_there", "far_fact", "near_fact", "unreachable"]

_MARK = "\x1ecube-facts\x1e"
"""Stands between the answers; no command prints it."""

# A connection of the user's own is looked for each time, because only answers of commands that succeed are remembered.
_ASK_NEAR = """id -u; printf '%s\\n' "${XDG_RUNTIME_DIR-}"
command -v rsync >/dev/null && echo yes || echo no
grep -qis controlpath ~/.ssh/config /etc/ssh/ssh_config "$1" || { echo no; exit 0; }
shift; "$@" 2>/dev/null && echo yes || { echo no; exit 1; }"""

_ASK_PLACE = f"""{FIND_CACHE}\
case ${{1:-}} in '') place=$(cache) ;; '~'* | /*) place=$(absolute "$1") ;; *) place=$home/$1 ;; esac
command -v rsync >/dev/null && echo yes || echo no
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
    """Who calls, whether rsync is here, and whether the user's own configuration keeps a connection open."""
    plain = (word for word in connection.options() if not word.startswith("-o"))
    check = ("ssh", *plain, "-O", "check", connection.host)
    return Fact(
        name="near",
        argv=("sh", "-c", _ASK_NEAR, "sh", connection.config or "/etc/ssh/ssh_config", *check),
        parse=_parse_near,
        environment=("XDG_RUNTIME_DIR", "HOME"),
    )


def _parse_near(answer: Answer) -> dict[str, Any]:
    lines = answer.output.splitlines()
    if len(lines) < 4:
        return {}
    return {"user": int(lines[0]), "runtime": lines[1], "rsync": lines[2] == "yes", "connected": lines[3] == "yes"}


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
        rsync, _, root = answers[0].output.partition("\n")
        facts = {fact.name: fact.parse(said) for fact, said in zip(inner, answers[1:], strict=True)}
        return {"root": root, "rsync": rsync == "yes", "facts": facts}

    return parse


def facts_there(host: Host) -> Host:
    """What is known of the other host; nothing, when it was not reached."""
    there: Host = (host.get("far") or {}).get("facts") or {}
    return there


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
