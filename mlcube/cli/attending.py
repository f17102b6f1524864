"""Processes in the background that see to runs."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from mlcube.cli import console
from mlcube.cli.outcome import outcome
from mlcube.errors import CubeError
from mlcube.record import Remaining, RunDirectory, settle

__all__ = ["attend", "in_background"]


answered: Callable[[], None] | None = None
"""Where this process was forked off for one who waits for what it says: lets that one go on, with the status 0."""


def in_background(
    run: RunDirectory,
    perform: Callable[[Callable[[], None]], object],
    begun: Callable[[], None] | None = None,
) -> int:
    """Perform in a process that outlives this one and its terminal. Gives 0 as soon as `perform` calls what it gets.

    Until then it may say what is wrong; then its exit status is given. What it says later is kept with the run. With
    `begun`, which says the last that is to be said, a process that was forked off for this need not be made two of.
    """
    if begun and answered:
        return _performed(run, perform, begun, answered)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        os.close(reading)
        os._exit(_performed(run, perform, lambda: None, partial(os.write, writing, b"x")))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as told:
            goes_on = bool(told.read(1))
    except KeyboardInterrupt:
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
        raise
    if goes_on:
        if begun:
            begun()
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _performed(
    run: RunDirectory,
    perform: Callable[[Callable[[], None]], object],
    begun: Callable[[], None],
    tell: Callable[[], object],
) -> int:
    def left() -> None:
        begun()
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.open(os.path.join(run.path, "notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for source, target in ((nowhere, 0), (nowhere, 1), (kept, 2)):
            os.dup2(source, target)
        os.close(kept)
        os.close(nowhere)
        tell()

    try:
        os.setsid()  # Ctrl-C in the terminal, and its end, are for who waits
        return outcome(lambda: perform(left))
    except BaseException:  # noqa: BLE001 - nothing of the caller may be performed twice
        return 70


def attend(run: RunDirectory, secrets: Callable[[Sequence[str]], dict[str, str]]) -> None:
    """See to it that a process sees to the run, if it is not over. What cannot go on is settled.

    `secrets` gives the values of those that the run has, which the log must not show.
    """
    found = run.record()
    if found is None or found.finished or run.live():
        return
    if not run.lasts():
        settle(run.id)
        return
    remaining = run.read("remaining.json", Remaining) or Remaining()
    values = secrets(remaining.secrets)

    def perform(left: Callable[[], None]) -> None:
        from mlcube.running import take_up

        take_up(run.id, secrets=values, report=console.note, left=left)

    console.note(f"run {run.id} goes on without the process that began it: its end is seen to again")
    if status := in_background(run, perform):
        raise CubeError(f"run {run.id} could not be taken up: status {status}", hint=f"cube runs show {run.id}")
