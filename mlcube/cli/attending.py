"""Processes in the background that see to runs, and waiting for what they do."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence

from mlcube.cli import console
from mlcube.cli.outcome import outcome
from mlcube.errors import CubeError, TimedOut, UsageError
from mlcube.locks import Holder
from mlcube.record import Record, Remaining, RunDirectory, settle

__all__ = ["attend", "in_background", "until_over"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


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
    pause = _FIRST_PAUSE
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
        _doze(holder, min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _doze(holder: Holder | None, seconds: float) -> None:
    """For that long, or until the process has ended, if that can be known here."""
    if holder is None or holder.host != os.uname().nodename:
        time.sleep(seconds)
        return
    try:
        descriptor = os.pidfd_open(holder.pid)
    except (OSError, AttributeError):
        time.sleep(min(seconds, _FIRST_PAUSE))
        return
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(seconds * 1000)
    finally:
        os.close(descriptor)
