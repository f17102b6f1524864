"""`cube cancel`: end a run from anywhere."""

import os
import signal
from contextlib import suppress
from typing import Annotated

import typer

from mlcube.awaiting import until_over
from mlcube.cli import console
from mlcube.cli.arguments import Json, seconds
from mlcube.cli.wait import Id, Limit
from mlcube.errors import Busy
from mlcube.locks import Holder
from mlcube.record import Record, RunDirectory, find_id, find_run

EXAMPLE = """\b
Example:
  cube cancel last
"""

Force = Annotated[bool, typer.Option("--force", help="leave the task no time to end in order")]


def command(run_id: Id = "last", force: Force = False, timeout: Limit = None, as_json: Json = False) -> int:
    """Stop the task of a run wherever it is, bring back what it wrote, and note the run as interrupted."""
    run = RunDirectory(find_id(run_id))
    limit = seconds("--timeout", timeout) or 120.0
    found = _cancelled(run, limit, force)
    if as_json:
        console.document(found)
    console.note(f"run {run.id}: {found.status}")
    return 0


def _cancelled(run: RunDirectory, limit: float, force: bool) -> Record:
    found = find_run(run.id)
    if found.finished:
        return found
    if run.live():
        holder = run.read("holder.json", Holder)
        if holder and holder.host != os.uname().nodename:
            raise Busy(f"run {run.id} is seen to by {holder}", hint=f"on {holder.host}: cube cancel {run.id}")
        for _ in range(2 if force else 1):
            with suppress(ProcessLookupError):
                if holder:
                    os.kill(holder.pid, signal.SIGTERM)
        found = until_over(
            run, timeout_seconds=limit, what=f"the end of run {run.id}, which was told to stop,", waiting=console.note
        )
        if found.finished:
            return found
    run.settle(message="the run was cancelled")
    return find_run(run.id)
