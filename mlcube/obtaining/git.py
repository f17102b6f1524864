"""Asks git: nothing of a repository is run, nobody is asked for a password, and nothing of it grows without end."""

import os
import re
import select
import signal
import time
from collections.abc import Callable

from mlcube import files, trust
from mlcube.amounts import size
from mlcube.child import Child, attend, kill
from mlcube.errors import Damaged, Denied, EngineUnavailable, Unreachable, Untrusted, UsageError
from mlcube.failures import CannotStart
from mlcube.obtaining.memory import held_by
from mlcube.plan import Command
from mlcube.starting import start
from mlcube.stream import Log
from mlcube.unpacking import Unpacking, unpack_tar

__all__ = ["ask_git", "unpack_commit"]

_MEMORY = "CUBE_GIT_MEMORY"
_MOST_MEMORY = 2 << 30
"""A server that lists refs without end fills it; what is fetched, git has there file by file, up to 512 MiB of each."""
_SECONDS = 24 * 3600.0
_LOOK_SECONDS = 0.2
_MOST_SAID = 64 << 20
_LEAVE_SECONDS = 5.0
_STOPPED = (128 + signal.SIGPIPE,)
"""How git ends when nobody reads on: what was read was to blame."""
_PROTECTED = (
    *("-c", "protocol.allow=never"),
    *(word for name in ("https", "ssh", "file") for word in ("-c", f"protocol.{name}.allow=always")),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "transfer.fsckObjects=true"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "fetch.recurseSubmodules=false"),
    # Of a server that dribbles, git itself would never tire.
    *("-c", "http.lowSpeedLimit=1024", "-c", "http.lowSpeedTime=60"),
)
_ADVICE = ("Please make sure you have", "and the repository exists", "fatal: Could not read from remote")
"""What git says of every repository that it cannot read, after the reason."""
_WITHOUT_QUESTIONS = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
_OF_ANOTHER = re.compile(
    "GIT_(DIR|WORK_TREE|IMPLICIT_WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|PREFIX|"
    "GRAFT_FILE|REPLACE_REF_BASE|SHALLOW_FILE|NAMESPACE|QUARANTINE_PATH)"
)
"""What git sets for hooks: it would lead to the repository that they are of."""


def ask_git(
    *words: str,
    what: str,
    folder: str | None = None,
    most_bytes: int = 0,
    check: Callable[[], None] = lambda: None,
    seconds: float = _SECONDS,
    hint: str | None = None,
) -> str:
    """What git says. Raises Unreachable when it fails, also when `folder`, which it fills, is to hold too much.

    So it does when git holds too much of the memory, and after so many `seconds`, with the `hint`.
    """
    most_memory = float("inf") if what.startswith("file:") else _most_memory()  # git itself would be the server
    said = files.unnamed(b"")
    try:
        complaints = files.unnamed(b"")
        child = _started(words, what, said, complaints)
        try:
            end = time.monotonic() + seconds
            while attend(child, deadline=time.monotonic() + _LOOK_SECONDS) == "late":
                check()
                if folder and files.size_of(folder) > most_bytes:
                    raise Unreachable(f"`{what}` sends more than {most_bytes:,} bytes for one commit")
                if sum(os.fstat(each).st_size for each in (said, complaints)) > _MOST_SAID:
                    raise Unreachable(f"`{what}` talks without end")
                if held_by(child.process.pid) > most_memory:
                    mebibytes = int(most_memory) >> 20
                    raise Unreachable(
                        f"`{what}` makes git hold more than {mebibytes:,} MiB of memory, as refs without end do",
                        hint=f"if it is that large: {_MEMORY}={2 * mebibytes}MiB",
                    )
                if time.monotonic() > end:
                    raise Unreachable(f"`{what}` gave no answer within {seconds:g} seconds", hint=hint)
        finally:
            status, words_of_failure = _ended(child, complaints)
        _check(status, words_of_failure, what)
        return os.pread(said, _MOST_SAID, 0).decode(errors="replace")
    finally:
        os.close(said)


def unpack_commit(unpacking: Unpacking, folder: str, commit: str, what: str) -> None:
    """Everything of a commit, unpacked as it comes: a small repository may mean a tree without end."""
    # Without its own attributes git need not have all of the tree in memory first.
    words = (f"--git-dir={folder}", "archive", "--format=tar", "--worktree-attributes", commit)
    reading, writing = os.pipe()
    complaints = files.unnamed(b"")
    problem: Damaged | None = None
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            child = _started(words, what, writing, complaints)
        finally:
            os.close(writing)
        try:
            output = _Output(reading, unpacking.check)
            unpack_tar(unpacking, output)
            while output.read(1 << 16):
                pass
            attend(child)
        except Damaged as error:
            problem = error
            pipe.close()  # it writes no more then, and has said before if it is to blame itself
            attend(child, deadline=time.monotonic() + _LEAVE_SECONDS)
        finally:
            status, said = _ended(child, complaints)
    if status not in _STOPPED:
        _check(status, said, what)
    if problem is not None:
        raise problem


class _Output:
    """What a process writes; while it is waited for, `check` may end it."""

    def __init__(self, descriptor: int, check: Callable[[], None]) -> None:
        self._descriptor, self._check = descriptor, check
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLIN)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, as many as there are."""
        self._check()
        while not self._poller.poll(_LOOK_SECONDS * 1000):
            self._check()
        return os.read(self._descriptor, size)


def _most_memory() -> int:
    text = os.environ.get(_MEMORY)
    if not text:
        return _MOST_MEMORY
    try:
        return size(text)
    except ValueError as error:
        raise UsageError(f"the variable `{_MEMORY}` takes {error}", hint=f"unset {_MEMORY}") from None


def _started(words: tuple[str, ...], what: str, stdout: int, complaints: int) -> Child:
    environment = {name: value for name, value in os.environ.items() if not _OF_ANOTHER.fullmatch(name)}
    plain = ("-c", "protocol.http.allow=always") if what.startswith("http://") else ()
    # With a policy, only the address that was asked about is asked.
    staying = ("-c", "http.followRedirects=false") if trust.in_force() else ()
    command = Command(
        argv=("git", *_PROTECTED, *plain, *staying, *words),
        environment={**_WITHOUT_QUESTIONS, **environment},
        clean=True,
    )
    try:
        return start(command, Log(None), {}, None, stdout=stdout, stderr=complaints)
    except CannotStart as error:
        os.close(complaints)
        if error.status == 127:
            raise EngineUnavailable(
                "`git` is not installed", hint="install git, or name the cube in another way"
            ) from None
        raise Unreachable(str(error)) from None


def _ended(child: Child, complaints: int) -> tuple[int, str]:
    """The status of what has ended, or is ended now, and its last words."""
    if not child.gone:
        kill(child)
    status = child.reap()
    child.close()
    return status, files.end_of(complaints, 4000).decode(errors="replace")


def _check(status: int, said: str, what: str) -> None:
    if not status:
        return
    lines = [line for line in said.strip().splitlines() if line and not line.startswith(_ADVICE)]
    said = "; ".join(line.removeprefix("fatal: ").removeprefix("error: ").rstrip(".") for line in lines[-3:])
    lowered = said.lower()
    if "authentication" in lowered or "permission denied" in lowered or "could not read username" in lowered:
        raise Denied(f"`{what}` refuses the login: {said}", hint="set up git's own credentials for it")
    if trust.in_force() and re.search(r"error: 30[12378]\b", lowered):
        hint = "name the address to which it leads, which may be the same with `.git`"
        raise Untrusted(f"`{what}` leads to another address, of which no rule was asked", hint=hint)
    raise Unreachable(f"git could not read `{what}`: {said}", hint=f"git ls-remote {what} asks the same")
