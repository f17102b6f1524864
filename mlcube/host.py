"""Gathers the facts that a runner must know of a host, and remembers the answers for a while."""

import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from mlcube import directories, files, locks
from mlcube.asking import ask
from mlcube.errors import CubeError
from mlcube.runner import Answer, Fact, Host, Runner

__all__ = ["ask_now", "describe", "executable", "gather"]

_REMEMBERED_SECONDS = 600.0


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and when it was given."""

    time: float
    answer: Answer


def gather(runner: Runner, *, fresh: bool = False, remember: bool = True) -> Host:
    """The facts that the runner asks for, by name; `fresh`: none of them remembered.

    Without `remember` nothing is written, as a dry run promises.
    """
    where = functools.cache(executable)  # several facts are asked of one program
    return {fact.name: fact.parse(_answer(fact, where, fresh, remember)) for fact in runner.facts()}


def ask_now(facts: Iterable[Fact], *, timeout_seconds: float) -> dict[tuple[str, ...], Answer]:
    """The answers of all facts, by their command: none remembered, all asked at the same time, each only once."""
    from mlcube.asking import ask_all

    asked = tuple(facts)
    commands = tuple(dict.fromkeys(fact.argv for fact in asked))
    answers = dict(zip(commands, ask_all(commands, timeout_seconds=timeout_seconds), strict=True))
    for place, argv in {_place(fact, executable): fact.argv for fact in asked}.items():
        if answers[argv].status == 0:
            _write(place, answers[argv])
    return answers


def describe() -> dict[str, Any]:
    """What is worth knowing of this machine, whatever the runner."""
    system = os.uname()
    return {
        "name": system.nodename,
        "system": system.sysname,
        "machine": system.machine,
        "kernel": system.release,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def executable(name: str) -> str | None:
    """Where an executable lies, as the shell would find it."""
    folders = [""] if os.sep in name else os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in folders:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return os.path.realpath(path)
    return None


def _answer(fact: Fact, where: Callable[[str], str | None], fresh: bool, remember: bool) -> Answer:
    path = _place(fact, where)
    if not fresh and (remembered := _read(path)):
        return remembered
    answer = ask(fact.argv)
    if answer.status == 0 and remember:
        _write(path, answer)
    return answer


def _place(fact: Fact, where: Callable[[str], str | None]) -> str:
    return os.path.join(directories.cache(), "facts", f"{_key(fact, where)}.json")


def _key(fact: Fact, where: Callable[[str], str | None]) -> str:
    """Changes with everything that could change the answer. Values of variables stand in it only as part of a hash."""
    import hashlib

    paths = [where(fact.argv[0]) or "", *(os.path.expanduser(file) for file in fact.files)]
    parts = (
        fact.argv,
        [(path, _changed(path)) for path in paths],
        [(name, os.environ.get(name)) for name in fact.environment],
        os.environ.get("PATH"),
        (os.getuid(), os.getgid()),
        locks.boot(),
    )
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


def _changed(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _read(path: str) -> Answer | None:
    """A cache that cannot be read, or not understood, is an empty one."""
    try:
        with open(path, "rb") as file:
            remembered = msgspec.json.decode(file.read(), type=_Remembered)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return remembered.answer if 0 <= time.time() - remembered.time < _REMEMBERED_SECONDS else None


def _write(path: str, answer: Answer) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        files.write(path, msgspec.json.encode(_Remembered(time=time.time(), answer=answer)), mode=0o600)
    except (OSError, CubeError):
        pass  # asking again costs time, nothing else
