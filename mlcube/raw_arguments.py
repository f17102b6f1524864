"""Raw engine arguments of older cube files, understood as neutral needs that every platform can honour."""

import os.path
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from mlcube import amounts
from mlcube.cube import Access, RawNeeds, Refusal, Resources, Secret
from mlcube.errors import Position, Problem

__all__ = ["VARIABLE", "understand_docker", "understand_singularity", "words"]

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A name that every shell and engine takes for the name of a variable."""


def words(arguments: str | list[str]) -> list[str]:
    """Raw arguments as words; ValueError when quotes do not match."""
    return [str(word) for word in arguments] if isinstance(arguments, list) else shlex.split(arguments)


class _Found:
    """What has been understood so far."""

    def __init__(self, engine: str, position: Position | None, trust: bool) -> None:
        self.engine, self.position, self.trust = engine, position, trust
        self.resources: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.secrets: list[Secret] = []
        self.network: str | None = None
        self.mounts: list[tuple[str, str, Access]] = []
        self.raw: list[str] = []
        self.refused: list[Refusal] = []
        self.problems: list[Problem] = []

    def needs(self) -> RawNeeds:
        return RawNeeds(
            resources=Resources(**self.resources),
            environment=self.environment,
            secrets=tuple(self.secrets),
            network=self.network,
            mounts=tuple(self.mounts),
            raw_arguments={self.engine: tuple(self.raw)} if self.raw else {},
            refused=tuple(self.refused),
        )

    def amount(self, field: str, read: Callable[[str], Any], value: str, given: list[str]) -> None:
        flag = given[0].partition("=")[0]
        try:
            self.resources[field] = read(value)
        except ValueError as error:
            self.problems.append(Problem(message=f"`{flag}` needs {error}", position=self.at(given)))

    def at(self, given: list[str]) -> Position | None:
        """Where the words of a flag stand, when they stand there as they are."""
        where = self.position
        if where is None or not where.excerpt:
            return where
        start = where.excerpt.find(" ".join(given), where.column - 1)
        if not where.column - 1 <= start < where.column - 1 + max(where.length, 2):
            return where
        return Position(where.source, where.line, start + 1, len(" ".join(given)), where.excerpt)

    def dangerous(self, arguments: list[str], why: str) -> bool:
        """Whether to go on: with the user's consent, yes."""
        if not self.trust:
            text = f"`{shlex.join(arguments)}` {why}"
            self.refused.append(Refusal(message=text, position=self.at(arguments)))
        return self.trust


_WITHOUT_EFFECT = {"--rm", "-i", "-t", "--interactive", "--tty", "--init", "-d", "--detach", "-q", "--quiet"}
"""Flags that say what cube does anyway."""

_WITHOUT_VALUE = {"--privileged", "--publish-all", "-P", "--read-only", "--no-healthcheck", "--oom-kill-disable"}

_OPENS_HOST = {
    "--privileged": "gives the task the whole host",
    "--pid": "shares the host's processes with the task",
    "--ipc": "shares the host's memory segments with the task",
    "--uts": "shares the host's name with the task",
    "--userns": "shares the host's users with the task",
    "--cgroupns": "shares the host's control groups with the task",
    "--cap-add": "gives the task privileges of the host's root",
    "--device": "gives the task a device of the host",
    "--security-opt": "changes the task's confinement",
    "--publish": "opens a port of the host",
    "-p": "opens a port of the host",
    "--user": "chooses another user than the caller",
    "-u": "chooses another user than the caller",
}

_AMOUNTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--gpus": ("gpus", amounts.gpus),
    "--shm-size": ("shared_memory_bytes", lambda text: amounts.size(text, engine=True)),
    "--memory": ("memory_bytes", lambda text: amounts.size(text, engine=True)),
    "-m": ("memory_bytes", lambda text: amounts.size(text, engine=True)),
    "--cpus": ("cpus", amounts.processors),
    "--cpuset-cpus": ("cpu_set", amounts.cpu_set),
}


def understand_docker(
    arguments: str | list[str], position: Position | None, *, trust: bool
) -> tuple[RawNeeds, list[Problem]]:
    """`docker run` arguments of a cube file as neutral needs.

    What opens the host, and what has no neutral meaning, is refused unless the user consents (`trust`).
    """
    found = _Found("docker", position, trust)
    try:
        queue = words(arguments)
    except ValueError:
        return found.needs(), [Problem(message=f"the quotes in `{arguments}` do not match", position=position)]
    for flag, value, given in _flags(queue, _WITHOUT_EFFECT | _WITHOUT_VALUE):
        _docker_flag(found, flag, value, given)
    return found.needs(), found.problems


def _docker_flag(found: _Found, flag: str, value: str, given: list[str]) -> None:
    if flag in _AMOUNTS:
        found.amount(*_AMOUNTS[flag], value, given)
    elif flag == "--runtime" and value in ("nvidia", "runc"):
        if value == "nvidia":
            found.resources.setdefault("gpus", "all")
    elif flag in ("--env", "-e"):
        _environment(found, value)
    elif flag in ("--network", "--net"):
        _network(found, value, given)
    elif flag in ("--volume", "-v"):
        _volume(found, value, given)
    elif not _harmless(flag, value):
        why = _OPENS_HOST.get(flag, "has no meaning that every platform shares")
        if found.dangerous(given, why):
            found.raw += given


def _harmless(flag: str, value: str) -> bool:
    """What is so here anyway, or stricter than what cube does."""
    if flag in _WITHOUT_EFFECT or flag in ("--name", "--hostname", "-h", "--cap-drop"):
        return True
    if flag in ("--ipc", "--pid", "--uts", "--cgroupns"):
        return value in ("private", "shareable", "none")
    return flag == "--security-opt" and value.startswith("no-new-privileges")


def _environment(found: _Found, value: str) -> None:
    name, equals, text = value.partition("=")
    if not VARIABLE.fullmatch(name):
        message = f"`{value}` is neither `NAME=value` nor the name of a variable"
        found.problems.append(Problem(message=message, position=found.position))
    elif equals:
        found.environment[name] = text
    else:
        found.secrets.append(Secret(name=name, optional=True, from_environment=found.trust))


def _network(found: _Found, value: str, given: list[str]) -> None:
    if value in ("none", "bridge", "default"):
        found.network = "none" if value == "none" else "default"
    elif found.dangerous(given, "shares the host's network with the task" if value == "host" else "joins a network"):
        found.network = value


def _volume(found: _Found, value: str, given: list[str]) -> None:
    if not found.dangerous(given, "mounts a place of the host"):
        return
    source, _, rest = value.partition(":")
    target, _, options = rest.partition(":")
    source = os.path.expanduser(source)
    if not (os.path.isabs(source) and os.path.isabs(target)):
        found.raw += given  # a named volume
        return
    found.mounts.append((source, target, "ro" if "ro" in options.split(",") else "rw"))


def understand_singularity(
    arguments: str | list[str], position: Position | None, *, trust: bool
) -> tuple[RawNeeds, list[Problem]]:
    """`singularity run` arguments of a cube file as neutral needs."""
    found = _Found("singularity", position, trust)
    try:
        queue = words(arguments)
    except ValueError:
        return found.needs(), [Problem(message=f"the quotes in `{arguments}` do not match", position=position)]
    ours = {"-C", "--containall", "-c", "--contain", "-e", "--cleanenv", "--no-home", "--writable-tmpfs", "--net"}
    ours |= {"--nv", "--rocm", "--nvccli", "-i", "--ipc", "--pid", "-p", "--userns", "-u", "--no-eval", "--compat"}
    for flag, value, given in _flags(queue, ours):
        match flag:
            case _ if flag in ours:
                # How cube runs it anyway. That `--nv` gives GPUs where there are some, and asks for none, is the
                # runner's knowledge.
                continue
            case "--network":
                _network(found, value, given)
            case "--env":
                _environment(found, value)
            case "--bind" | "-B":
                _volume(found, value, given)
            case _ if found.dangerous(given, "has no meaning that every platform shares"):
                found.raw += given
    return found.needs(), found.problems


def _flags(queue: list[str], without_value: set[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Each flag with its value and the words it was written with."""
    index = 0
    while index < len(queue):
        word = queue[index]
        index += 1
        if word.startswith("-") and not word.startswith("--"):
            # Letters after one dash are flags of their own, up to the first that takes a value: the rest of the word.
            while len(word) > 2 and word[:2] in without_value and word[2] != "=":
                yield word[:2], "", [word[:2]]
                word = f"-{word[2:]}"
            if len(word) > 2:
                yield word[:2], word[2:].removeprefix("="), [word]
                continue
        flag, equals, value = word.partition("=")
        if equals or word in without_value or not word.startswith("-"):
            yield flag, value, [word]
        elif index < len(queue) and not queue[index].startswith("-"):
            yield flag, queue[index], [word, queue[index]]
            index += 1
        else:
            yield flag, "", [word]
