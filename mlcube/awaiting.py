"""Waits until a run is over that another process sees to."""

import os
import time
from collections.abc import Callable

from mlcube import watching
from mlcube.errors import TimedOut, UsageError
from mlcube.locks import Holder
from mlcube.patience import SILENT_SECONDS
from mlcube.record import Record, RunDirectory

__all__ = ["process_here", "until_over"]


def until_over(
    run: RunDirectory,
    *,
    timeout_seconds: float | None = None,
    what: str,
    waiting: Callable[[str], None] = lambda _message: None,
) -> Record:
    """The record of a run once it is over, or nobody sees to it any more.

    Raises TimedOut, which says `what` was waited for; the run goes on. `waiting` is told it, too, after a while.
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
            waiting(f"waiting for {what.rstrip(',')}{f' ({holder} sees to it)' if holder else ''}")
        limit = pause if told else min(pause, SILENT_SECONDS)
        with watching.growing(os.path.join(run.path, "holder.json"), process_here(run)) as events:
            if run.live():  # what went before is told by nobody
                watching.doze(min(limit, left), *events)
        pause = watching.grown(pause)


def process_here(run: RunDirectory) -> int | None:
    """Which process of this machine sees to the run, if one of this machine does."""
    holder = run.read("holder.json", Holder)
    return holder.pid if holder and holder.host == os.uname().nodename else None
