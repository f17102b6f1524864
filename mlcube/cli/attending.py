"""Processes in the background that see to runs, and waiting for what they do."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from mlcube import watching
from mlcube.cli import console
from mlcube.cli.outcome import outcome
from mlcube.errors import CubeError, TimedOut, UsageError
from mlcube.locks import Holder
from mlcube.record import Record, Remaining, RunDirectory, settle

__all__ = ["SILENT_SECONDS", "attend", "in_background", "process_here", "until_over"]

SILENT_SECONDS = 2.0
"""How long somebody may wait without being told for what."""


def in_background(run: RunDirectory, perform: Callable[[Callable[[], None]], object]) -> int:
    """Perform in a process that outlives this one and its terminal. Gives 0 as soon as `perform` calls what it gets.

    Until then it may say what is wrong; then its exit status is given. What it says later is kept with the run.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        os.close(reading)
        os._exit(_performed(run, perform, writing))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as told:
            begun = bool(told.read(1))
    except KeyboardInterrupt:
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
        raise
    if begun:
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _performed(run: RunDirectory, perform: Callable[[Callable[[], None]], object], writing: int) -> int:
    def left() -> None:
        kept = os.open(os.path.join(run.path, "notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for source, target in ((nowhere, 0), (nowhere, 1), (kept, 2)):
            os.dup2(source, target)
        os.close(kept)
        os.close(nowhere)
        os.write(writing, b"x")
        os.close(writing)

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


def until_over(run: RunDirectory, *, timeout_seconds: float | None = None, what: str) -> Record:
    """The record of a run once it is over, or nobody sees to it any more.

    Raises TimedOut, which says `what` was waited for; the run goes on.
    """
    deadline = float("inf") if timeout_seconds is None else time.monotonic() + timeout_seconds
    begun, pause, told = time.monotonic(), watching.FIRST_PAUSE, False
    while True:
        holder, found = run.read("holder.json", Holder), run.record()
        if found is None:
            raise UsageError(f"the record of run `{run.id}` cannot be read", hint=f"cube runs remove {run.id}")
        if found.finished or not run.live():
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(
                f"{what} took longer than {timeout_seconds:g} s; the run goes on", hint=f"cube wait {run.id}"
            )
        if not told and time.monotonic() - begun >= SILENT_SECONDS:
            told = True
            console.note(f"waiting for {what.rstrip(',')}{f' ({holder} sees to it)' if holder else ''}")
        limit = pause if told else min(pause, SILENT_SECONDS)
        with watching.growing(os.path.join(run.path, "holder.json"), process_here(run)) as events:
            if run.live():  # what went before is told by nobody
                watching.doze(min(limit, left), *events)
        pause = watching.grown(pause)


def process_here(run: RunDirectory) -> int | None:
    """Which process of this machine sees to the run, if one of this machine does."""
    holder = run.read("holder.json", Holder)
    return holder.pid if holder and holder.host == os.uname().nodename else None
